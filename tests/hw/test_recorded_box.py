"""A recorded box through every driver: what they make of it, and that they touch nothing else."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.hw.conftest import RECORDED, watching
from tinybox.core.box import Box, load_box
from tinybox.core.config import Config, load_config
from tinybox.core.snapshot import GpuState, Severity
from tinybox.hw.hardware import FastReading, Hardware, SlowReading
from tinybox.hw.host import Host

RED = load_box("red")
RECORDINGS = sorted(path.parent for path in RECORDED.parent.glob("*/expected.json"))


def look(host: Host, box: Box = RED, config: Config | None = None) -> tuple[FastReading, SlowReading]:
    hardware = Hardware(host, box, config or Config())
    try:
        return hardware.read_fast(10.0), hardware.read_slow(10.0)
    finally:
        hardware.release()


def reading(root: Path) -> Any:
    """What the drivers make of a recorded machine by its own settings, if it has any; its paths as they were there."""
    config = load_config(root / "etc/tinybox/config.toml")
    fast, slow = look(Host(root), load_box(config.box, root / "etc/tinybox/boxes"), config)
    seen = json.dumps({"fast": dataclasses.asdict(fast), "slow": dataclasses.asdict(slow)})
    return json.loads(seen.replace(str(root), ""))


@pytest.mark.parametrize("root", RECORDINGS, ids=lambda root: root.name)
def test_every_recorded_box_reads_as_it_did(root: Path) -> None:
    """A golden file: `expected.json` was checked by eye against the recording once, or came with a report."""
    assert reading(root) == json.loads((root / "expected.json").read_text())


def test_units_are_ours(recorded: Host) -> None:
    """The kernel's microwatts, millidegrees and MB against our watts, degrees and bytes, straight from the files."""
    folder = RECORDED / "sys/bus/pci/devices/0000:23:00.0"
    chip = next((folder / "hwmon").iterdir())
    gpu = look(recorded)[0].gpus[1]
    assert gpu.power_w == int((chip / "power1_average").read_text()) / 1e6
    assert gpu.junction_c == int((chip / "temp2_input").read_text()) / 1e3
    assert gpu.clock_mhz == int((chip / "freq1_input").read_text()) // 10**6
    assert gpu.vram_total_bytes == int((folder / "mem_info_vram_total").read_text())


def test_the_red_box_is_among_the_recordings() -> None:
    assert RECORDED in RECORDINGS


def test_nothing_but_the_recording_is_touched(recorded: Host) -> None:
    look(recorded)  # what is imported on first use is no touch
    with watching() as touched:
        look(recorded)
    inside = f"open {RECORDED}", f"os.listdir {RECORDED}", f"os.scandir {RECORDED}"
    assert touched, "the watch sees nothing: it proves nothing"
    assert [touch for touch in touched if not touch.startswith(inside)] == []


def test_the_watch_would_see_a_driver_that_strays() -> None:
    with watching() as touched:
        Path("/proc/uptime").read_text()
        Host().run(("true",))
    assert [touch.split()[0] for touch in touched[:1]] == ["open"]
    assert any(touch.startswith("subprocess.Popen") for touch in touched)


def test_descriptors_stay_open(recorded: Host) -> None:
    hardware = Hardware(recorded, RED, Config())
    for turn in range(3):
        hardware.read_fast(10.0 + turn / 10)
    with watching() as touched:
        hardware.read_fast(10.35)
    assert touched == []
    hardware.release()


def test_a_card_that_is_gone_is_gone_and_the_others_are_read(copy: Host) -> None:
    (copy.root / "sys/bus/pci/devices" / RED.gpu.slots[2]).unlink()
    fast, _ = look(copy)
    assert [gpu.state for gpu in fast.gpus].count(GpuState.GONE) == 1
    assert fast.gpus[2].state is GpuState.GONE
    assert all(gpu.power_w for gpu in fast.gpus if gpu.id != "gpu/2")


def test_a_sleeping_card_is_asked_nothing_but_whether_it_sleeps(copy: Host) -> None:
    folder = copy.root / "sys/bus/pci/devices" / RED.gpu.slots[4]
    (folder / "power/runtime_status").write_text("suspended\n")
    hardware = Hardware(copy, RED, Config())
    hardware.read_fast(10.0)
    with watching() as touched:
        gpu = hardware.read_fast(10.1).gpus[4]
    assert gpu.state is GpuState.ASLEEP
    asked = {Path(touch.split()[1]).name for touch in touched if str(folder) in touch}
    assert asked <= {"runtime_status"}
    hardware.release()


LIES = [
    ("hwmon/{chip}/power1_average", "-5000000", "power_w", "power unreadable"),
    ("hwmon/{chip}/power1_average", "nonsense", "power_w", "power unreadable"),
    ("hwmon/{chip}/temp2_input", "2147483647", "junction_c", "junction temperature unreadable"),
    ("gpu_busy_percent", "65535", "busy_pct", "load unreadable"),
    ("current_link_width", "", "link_width", "link width unreadable"),
    ("hwmon/{chip}/power1_cap", "", "cap_w", "power cap unreadable"),
]


@pytest.mark.parametrize(("name", "text", "field", "words"), LIES)
def test_a_sensor_that_lies_is_none_with_a_reason(copy: Host, name: str, text: str, field: str, words: str) -> None:
    folder = copy.root / "sys/bus/pci/devices" / RED.gpu.slots[0]
    chip = next((folder / "hwmon").iterdir()).name
    (folder / name.format(chip=chip)).write_text(text)
    fast, _ = look(copy)
    assert getattr(fast.gpus[0], field) is None
    assert [fault.device for fault in fast.faults if words in fault.reason] == ["gpu/0"]


def test_a_card_without_its_driver_is_awake_and_says_so(copy: Host) -> None:
    folder = copy.root / "sys/bus/pci/devices" / RED.gpu.slots[5]
    next((folder / "hwmon").iterdir()).rename(copy.root / "taken")
    fast, _ = look(copy)
    assert fast.gpus[5].power_w is None
    assert any("driver is not bound" in fault.reason for fault in fast.faults if fault.device == "gpu/5")


def test_a_silent_bmc_and_lost_drives_leave_the_rest(copy: Host) -> None:
    for path in (copy.root / "commands").iterdir():
        path.unlink()
    _, slow = look(copy)
    assert slow.bmc.wall_w is None
    assert [fan.rpm for fan in slow.fans] == [None] * RED.fans.count
    assert slow.drives[0].size_bytes and slow.drives[0].temp_c is None
    assert {"bmc", "fan/chassis1", "drive/nvme0"} <= {fault.device for fault in slow.faults}


def test_a_supply_that_is_missing_is_a_fault(copy: Host) -> None:
    chips = [chip for chip in (copy.root / "sys/class/hwmon").iterdir() if "/0-0059/" in str(chip.resolve())]
    chips[0].unlink()
    fast, _ = look(copy)
    assert len(fast.psus) == RED.psu.count - 1
    assert [fault.device for fault in fast.faults] == [f"psu/{RED.psu.count - 1}"]


def test_a_supply_that_comes_back_under_another_number_is_found_again(copy: Host) -> None:
    hwmon = copy.root / "sys/class/hwmon"
    hardware = Hardware(copy, RED, Config())
    assert len(hardware.read_fast(10.0).psus) == RED.psu.count
    device = copy.root / "sys/devices/platform/i2c-twin/i2c-0/0-0059/hwmon"
    (device / "hwmon8").rename(device / "hwmon9")
    (hwmon / "hwmon8").unlink()
    (hwmon / "hwmon9").symlink_to("../../devices/platform/i2c-twin/i2c-0/0-0059/hwmon/hwmon9")
    for attribute in hardware._psus._supplies[1].figures:
        attribute.attribute.close()  # as the kernel does for descriptors of a device that went
    assert len(hardware.read_fast(20.0).psus) == RED.psu.count
    assert all(psu.in_w is not None for psu in hardware.read_fast(20.1).psus)
    hardware.release()


def test_what_cannot_be_read_of_a_drive_or_a_folder_stops_nothing(copy: Host) -> None:
    model = copy.root / "sys/class/nvme/nvme1/model"
    model.unlink()
    model.mkdir()  # reading it fails, and not because it is absent
    (copy.root / "sys/class/powercap").rename(copy.root / "moved")
    (copy.root / "sys/class/powercap").write_text("no folder")
    fast, slow = look(copy)
    assert slow.drives[1].model is None
    assert any("no RAPL" in fault.reason for fault in fast.faults)


def mismatches(host: Host) -> list[tuple[Severity, str]]:
    return [(fault.severity, fault.reason) for fault in Hardware(host, RED, Config()).mismatch()]


def test_the_right_machine_matches_its_box(recorded: Host) -> None:
    assert mismatches(recorded) == []


def test_other_cards_are_a_mismatch(copy: Host) -> None:
    for slot in RED.gpu.slots:
        (copy.root / "sys/bus/pci/devices" / slot / "device").write_text("0x7550\n")
    found = mismatches(copy)
    assert len(found) == len(RED.gpu.slots) + 1
    assert found[-1] == (Severity.WARNING, "0 of the box's 6 cards 1002:744c found")
    assert found[0] == (Severity.CRITICAL, "graphics card 1002:7550 at 0000:03:00.0, the box has 1002:744c")


def test_one_more_card_of_another_kind_is_only_a_warning(copy: Host) -> None:
    (copy.root / "sys/bus/pci/devices" / RED.gpu.slots[0] / "device").write_text("0x7550\n")
    assert [severity for severity, _ in mismatches(copy)] == [Severity.WARNING, Severity.WARNING]


def test_slots_keep_their_cards_and_strays_take_the_empty_ones(copy: Host) -> None:
    devices = copy.root / "sys/bus/pci/devices"
    (devices / RED.gpu.slots[1]).rename(devices / "0000:e3:00.0")
    hardware = Hardware(copy, RED, Config())
    gpus = hardware.read_fast(time.monotonic()).gpus
    assert gpus[1].pci == "0000:e3:00.0"
    assert [gpu.pci for i, gpu in enumerate(gpus) if i != 1] == [s for i, s in enumerate(RED.gpu.slots) if i != 1]
    hardware.release()
