"""Limits noted and given back, on a recorded box that may be written to: exact texts in exact files."""

from pathlib import Path

import pytest

from tests.hw.conftest import watching
from tinybox.core.armed import CardLimits
from tinybox.core.box import load_box
from tinybox.core.config import Config
from tinybox.core.errors import HardwareError
from tinybox.hw.hardware import Hardware
from tinybox.hw.host import Host
from tinybox.hw.pcie import DEVICES

RED = load_box("red")
SLOT = RED.gpu.slots[0]


def hardware(host: Host) -> Hardware:
    return Hardware(host, RED, Config())


def files(host: Host) -> tuple[Path, Path, Path]:
    folder = host.root / DEVICES / SLOT
    cap = next((folder / "hwmon").iterdir()) / "power1_cap"
    return cap, folder / "pp_od_clk_voltage", folder / "power_dpm_force_performance_level"


def noted(host: Host) -> CardLimits:
    machine = hardware(host)
    return machine.limits(machine.assumed_gpus()[:1])[0]


def test_limits_are_noted_as_the_files_say(copy: Host) -> None:
    assert noted(copy) == CardLimits(SLOT, 261.0, 1120)


def test_a_card_without_overdrive_is_noted_by_its_level(copy: Host) -> None:
    _, table, level = files(copy)
    table.unlink()
    level.write_text("high\n")
    assert noted(copy) == CardLimits(SLOT, 261.0, level="high")


def test_a_figure_that_cannot_be_read_is_none_and_a_card_without_driver_has_no_limits(copy: Host) -> None:
    cap, table, _ = files(copy)
    cap.write_text("nonsense")
    table.write_text("nonsense")
    assert noted(copy) == CardLimits(SLOT)
    cap.parent.rename(copy.root / "taken")
    machine = hardware(copy)
    assert SLOT not in {card.pci for card in machine.limits(machine.assumed_gpus())}


def test_a_sleeping_card_is_not_looked_at(copy: Host) -> None:
    folder = copy.root / DEVICES / SLOT
    (folder / "power/runtime_status").write_text("suspended\n")
    machine = hardware(copy)
    gpus = machine.read_fast(10.0).gpus
    with watching() as touched:
        assert SLOT not in {card.pci for card in machine.limits(gpus)}
    assert touched and not [touch for touch in touched if SLOT in touch or str(folder) in touch]


def test_given_back_is_what_was_noted(copy: Host) -> None:
    cap, table, level = files(copy)
    machine = hardware(copy)
    with pytest.raises(HardwareError, match="does not read back"):  # a plain file is no table
        machine.restore(CardLimits(SLOT, 300.0, 2500))
    assert (cap.read_text(), table.read_text()) == ("300000000", "c\n")
    table.unlink()
    machine.restore(CardLimits(SLOT, 310.0, level="manual"))
    assert (cap.read_text(), level.read_text()) == ("310000000", "manual")


def test_what_was_never_noted_gets_the_factorys(copy: Host) -> None:
    cap, table, level = files(copy)
    hardware(copy).restore(CardLimits(SLOT))
    assert (cap.read_text(), table.read_text()) == ("290000000", "c\n")
    table.unlink()
    hardware(copy).restore(CardLimits(SLOT))
    assert level.read_text() == "auto"


def test_one_lever_that_fails_does_not_spare_the_other_and_a_card_that_is_gone_says_so(copy: Host) -> None:
    cap, table, _ = files(copy)
    cap.unlink()
    cap.mkdir()
    with pytest.raises(HardwareError, match=r"power1_cap.*does not read back"):
        hardware(copy).restore(CardLimits(SLOT, 300.0, 2500))
    assert table.read_text() == "c\n"
    with pytest.raises(HardwareError, match="gone from the bus"):
        hardware(copy).restore(CardLimits("0000:ee:00.0", 300.0, 2500))
