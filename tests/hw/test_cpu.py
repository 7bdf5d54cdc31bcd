"""The processor's power limit: read, written, read back."""

import shutil
from pathlib import Path

import pytest

from tinybox.core.actions import SetCpuCap
from tinybox.core.errors import HardwareError
from tinybox.hw.cpu import CpuDriver
from tinybox.hw.host import Host


def package(host: Host, index: int, limit_uw: str = "250000000", *, name: str = "intel-rapl") -> Path:
    """A package with a limit; its energy counter is that of the recorded one."""
    folder = host.root / f"sys/class/powercap/{name}:{index}"
    folder.mkdir(exist_ok=True)
    (folder / "name").write_text(f"package-{index}\n")
    (folder / "max_energy_range_uj").write_text("65532610987\n")
    (folder / "energy_uj").write_text("1\n")
    (folder / "constraint_0_power_limit_uw").write_text(f"{limit_uw}\n")
    return folder


def limit_of(folder: Path) -> str:
    return (folder / "constraint_0_power_limit_uw").read_text()


def test_a_processor_that_only_counts_has_no_limit(copy: Host) -> None:
    driver = CpuDriver(copy)
    cpu, faults = driver.read(1.0)
    assert cpu.cap_w is None
    assert faults == ()
    with pytest.raises(HardwareError, match="no power limit that can be written"):
        driver.apply(SetCpuCap(200.0))


def test_a_limit_is_written_in_whole_microwatts_and_in_force_at_the_next_look(copy: Host) -> None:
    folder = package(copy, 0)
    driver = CpuDriver(copy)
    assert driver.read(1.0)[0].cap_w == 250.0
    driver.apply(SetCpuCap(180.5))
    assert limit_of(folder) == "180500000"
    assert driver.read(1.1)[0].cap_w == 180.5


def test_packages_share_the_limit_and_a_second_door_does_not_count(copy: Host) -> None:
    folders = package(copy, 0), package(copy, 1)
    door = package(copy, 0, "90000000", name="intel-rapl-mmio")
    driver = CpuDriver(copy)
    assert driver.read(1.0)[0].cap_w == 500.0
    driver.apply(SetCpuCap(300.0))
    assert [limit_of(folder) for folder in folders] == ["150000000"] * 2
    assert limit_of(door) == "90000000\n"
    assert driver.read(1.1)[0].cap_w == 300.0


def test_a_limit_that_nobody_may_write_is_none(copy: Host) -> None:
    (package(copy, 0) / "constraint_0_power_limit_uw").chmod(0o444)
    assert CpuDriver(copy).read(1.0)[0].cap_w is None


class Stubborn(Host):
    """A machine whose firmware keeps the limit that it has."""

    def write_text(self, relative: str, text: str) -> None:
        """Take it and do nothing."""


def test_a_limit_that_does_not_read_back_is_an_error(copy: Host) -> None:
    package(copy, 0)
    with pytest.raises(HardwareError, match=r"holds a limit of 250 W after 150 W was written"):
        CpuDriver(Stubborn(copy.root)).apply(SetCpuCap(150.0))


def test_a_limit_that_is_switched_off_is_unreadable_and_says_what_to_do(copy: Host) -> None:
    folder = package(copy, 0)
    (folder / "enabled").write_text("0\n")
    cpu, faults = CpuDriver(copy).read(1.0)
    assert cpu.cap_w is None
    assert [fault.reason for fault in faults] == [
        f"power limit unreadable: the limit is switched off: write 1 to {folder}/enabled"
    ]
    (folder / "enabled").write_text("1\n")
    assert CpuDriver(copy).read(1.0)[0].cap_w == 250.0


def test_a_limit_that_is_nonsense_is_unreadable(copy: Host) -> None:
    package(copy, 0, "lots")
    cpu, faults = CpuDriver(copy).read(1.0)
    assert cpu.cap_w is None
    assert len(faults) == 1


def socket(host: Host, number: int, cap_uw: str = "200000000") -> Path:
    """An EPYC's socket as the HSMP driver shows it."""
    folder = host.root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir()
    for name, text in (("name", "amd_hsmp_hwmon"), ("power1_input", "87654000"), ("power1_cap", cap_uw)):
        (folder / name).write_text(f"{text}\n")
    return folder


def test_an_epyc_is_limited_through_hsmp_where_rapl_only_counts(copy: Host) -> None:
    folders = socket(copy, 90), socket(copy, 91)
    driver = CpuDriver(copy)
    assert driver.read(1.0)[0].cap_w == 400.0
    driver.apply(SetCpuCap(300.0))
    assert [(folder / "power1_cap").read_text() for folder in folders] == ["150000000"] * 2
    assert driver.read(1.1)[0].cap_w == 300.0


def test_a_limit_of_rapl_goes_before_one_of_hsmp(copy: Host) -> None:
    package(copy, 0)
    socket(copy, 90)
    assert CpuDriver(copy).read(1.0)[0].cap_w == 250.0


def test_without_rapl_hsmp_tells_the_watts(copy: Host) -> None:
    shutil.rmtree(copy.root / "sys/class/powercap")
    folder = socket(copy, 90)
    cpu, faults = CpuDriver(copy).read(1.0)
    assert (cpu.power_w, faults) == (87.654, ())
    (folder / "power1_input").write_text("junk\n")
    cpu, faults = CpuDriver(copy).read(1.0)
    assert cpu.power_w is None
    assert [fault.reason.startswith("power unreadable") for fault in faults] == [True]


@pytest.mark.parametrize("text", ["", "junk", "-"])
def test_an_unreadable_limit_of_hsmp_is_a_fault(copy: Host, text: str) -> None:
    socket(copy, 90, text)
    cpu, faults = CpuDriver(copy).read(1.0)
    assert cpu.cap_w is None
    assert any("power limit unreadable" in fault.reason for fault in faults)
