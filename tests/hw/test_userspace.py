"""Cards that a program drives itself: who does, under which limit, and that nothing is written to them."""

import shutil
from pathlib import Path

import pytest

from tests.hw.test_holders import process
from tinybox.core.box import load_box
from tinybox.core.config import Config
from tinybox.core.snapshot import Gpu, GpuState
from tinybox.hw.hardware import Hardware
from tinybox.hw.host import Host
from tinybox.policy.power import failsafe_actions

RED = load_box("red")
SLOT = RED.slots[3]
WINDOW = f"/sys/devices/pci0000:00/0000:00:01.1/{SLOT}/resource0"


def unbind(host: Host, lender: str = "") -> None:
    """Take the card's driver away, and with it all that the driver had made."""
    folder = (host.root / f"sys/bus/pci/devices/{SLOT}").resolve()
    shutil.rmtree(folder / "hwmon")
    (folder / "driver").unlink()
    if lender:
        (folder / "driver").symlink_to(f"../../bus/pci/drivers/{lender}")


def driven(host: Host, pid: int, *files: str, environment: str = "", state: str = "S") -> None:
    process(host.root, pid, "python3", *files, state=state)
    (host.root / f"proc/{pid}/environ").write_text(environment)


def look(hardware: Hardware, now_s: float = 1.0) -> tuple[Gpu, list[str]]:
    """The card after processes were looked at, and what is said of it."""
    hardware.read_fast(now_s)
    hardware._holders.read(now_s, {c.id: (c.address, "amd") for c in hardware._seated()})
    fast = hardware.read_fast(now_s + 0.1)
    return fast.gpus[3], [fault.reason for fault in fast.faults if fault.device == "gpu/3"]


@pytest.mark.parametrize(
    ("environment", "limit_w"),
    [
        ("HOME=/root\0AM_POWER_LIMIT=180\0PATH=/bin\0", 180.0),
        ("AM_POWER_LIMIT=180", 180.0),
        ("AM_POWER_LIMIT=0\0", None),
        ("AM_POWER_LIMIT=\0", None),
        ("AM_POWER_LIMIT=much\0", None),
        ("NOT_AM_POWER_LIMIT=180\0", None),
        ("HOME=/root\0", None),
    ],
)
def test_a_card_that_a_program_drives_names_it_and_its_limit(
    copy: Host, environment: str, limit_w: float | None
) -> None:
    unbind(copy)
    driven(copy, 4711, WINDOW, environment=environment)
    gpu, said = look(Hardware(copy, RED, Config()))
    assert (gpu.state, gpu.driver, gpu.user_limit_w) == (GpuState.USERSPACE, "python3 (4711)", limit_w)
    assert said == []


def test_a_card_lent_through_vfio_is_its_groups_holders(copy: Host) -> None:
    unbind(copy, "vfio-pci")
    (copy.root / f"sys/bus/pci/devices/{SLOT}/iommu_group").symlink_to("../../../kernel/iommu_groups/17")
    driven(copy, 88, "/dev/vfio/17", "/dev/vfio/vfio")
    driven(copy, 89, "/dev/vfio/18")
    gpu, said = look(Hardware(copy, RED, Config()))
    assert (gpu.state, gpu.driver, said) == (GpuState.USERSPACE, "python3 (88)", [])


def test_of_several_programs_one_without_a_limit_counts(copy: Host) -> None:
    unbind(copy)
    driven(copy, 10, WINDOW, environment="AM_POWER_LIMIT=180\0")
    driven(copy, 11, WINDOW)
    gpu, _ = look(Hardware(copy, RED, Config()))
    assert (gpu.driver, gpu.user_limit_w) == ("python3 (10), python3 (11)", None)


def test_a_card_that_nobody_drives_lacks_its_driver(copy: Host) -> None:
    unbind(copy)
    gpu, said = look(Hardware(copy, RED, Config()))
    assert gpu.state is GpuState.AWAKE
    assert "driver is not bound" in said[0]


def test_a_card_with_its_driver_and_without_sensors_is_not_taken_for_driven(copy: Host) -> None:
    shutil.rmtree(copy.root / f"sys/bus/pci/devices/{SLOT}/hwmon")
    driven(copy, 4711, WINDOW)
    assert look(Hardware(copy, RED, Config()))[0].state is GpuState.AWAKE


def test_a_program_that_ended_takes_its_limit_with_it_at_once(copy: Host) -> None:
    unbind(copy)
    driven(copy, 4711, WINDOW, environment="AM_POWER_LIMIT=180\0")
    hardware = Hardware(copy, RED, Config())
    assert look(hardware)[0].user_limit_w == 180.0
    shutil.rmtree(copy.root / "proc/4711")
    assert hardware.read_fast(2.0).gpus[3].user_limit_w is None


def test_a_suspended_card_that_a_program_drives_does_not_sleep(copy: Host) -> None:
    unbind(copy)
    Path(copy.path(f"sys/bus/pci/devices/{SLOT}/power/runtime_status")).write_text("suspended\n")
    hardware = Hardware(copy, RED, Config())
    assert look(hardware)[0].state is GpuState.ASLEEP
    driven(copy, 4711, WINDOW)
    assert look(hardware, 30.0)[0].state is GpuState.USERSPACE


def test_nothing_is_ever_written_to_it_nor_kept_to_be_given_back(copy: Host) -> None:
    unbind(copy)
    driven(copy, 4711, WINDOW)
    hardware = Hardware(copy, RED, Config())
    gpu, _ = look(hardware)
    assert failsafe_actions((gpu,), RED) == ()
    assert hardware.limits((gpu,)) == ()
