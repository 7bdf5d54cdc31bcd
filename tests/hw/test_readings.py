"""Small parsers as tables: what tools and kernel files say, and what it means."""

import json
from dataclasses import replace

import pytest

from tinybox.core.box import load_box
from tinybox.core.errors import HardwareError
from tinybox.hw.cpu import EnergyCounter, energy_gain_uj
from tinybox.hw.host import AbsentError, Host, command_slug
from tinybox.hw.nvme import parse_smart_log
from tinybox.hw.pcie import link_gts
from tinybox.hw.raid import Array, parse_mdstat, read_raid

SUPER = "      3906520000 blocks super 1.2 128k chunks\n"
MDSTAT = [
    ("Personalities : [raid0]\nunused devices: <none>\n", ()),
    (
        f"Personalities : [raid0]\nmd127 : active raid0 nvme2n1[1] nvme1n1[0]\n{SUPER}\nunused devices: <none>\n",
        (Array("md127", True, "raid0", ("nvme1n1", "nvme2n1"), False),),
    ),
    (
        "md0 : inactive nvme1n1[0](S)\n      1 blocks super 1.2\n",
        (Array("md0", False, None, ("nvme1n1",), False),),
    ),
    (
        "md5 : active raid5 nvme3n1[3](F) nvme2n1[1] nvme1n1[0]\n      9 blocks [3/2] [UU_]\n\n"
        "md6 : active (auto-read-only) raid10 nvme4n1[0]\n      9 blocks [1/1] [U]\n",
        (
            Array("md5", True, "raid5", ("nvme1n1", "nvme2n1", "nvme3n1"), True),
            Array("md6", True, "raid10", ("nvme4n1",), False),
        ),
    ),
    (
        "md1 : active raid1 nvme1n1[0]\n      9 blocks [2/1] [U_]\n\nmd2 : active raid1 nvme2n1[0] nvme3n1[1]\n"
        "      9 blocks [2/2] [UU]\n",
        (
            Array("md1", True, "raid1", ("nvme1n1",), True),
            Array("md2", True, "raid1", ("nvme2n1", "nvme3n1"), False),
        ),
    ),
]


@pytest.mark.parametrize(("text", "arrays"), MDSTAT)
def test_mdstat(text: str, arrays: tuple[Array, ...]) -> None:
    assert parse_mdstat(text) == arrays


COUNTER = [
    (100, 350, 65532610987, 250),
    (65532610980, 13, 65532610987, 21),  # through the end: 7 to the last value, 1 to zero, 13 more
    (5, 5, 10, 0),
]


@pytest.mark.parametrize(("before", "after", "span", "gain"), COUNTER)
def test_an_energy_counter_wraps(before: int, after: int, span: int, gain: int) -> None:
    assert energy_gain_uj(before, after, span) == gain


def test_watts_are_the_mean_since_the_last_reading(copy: Host) -> None:
    path = "sys/class/powercap/intel-rapl:0/energy_uj"
    counter = EnergyCounter(copy.attribute(path), 65532610987)
    copy.write_text(path, "1000000")
    assert counter.power_w(10.0) is None
    copy.write_text(path, "61000000")
    assert counter.power_w(10.5) == 120.0
    copy.write_text(path, "junk")
    with pytest.raises(HardwareError):
        counter.power_w(11.0)


@pytest.mark.parametrize("text", ["", "[]", "Permission denied"])
def test_a_smart_log_that_is_none_is_a_fault(text: str) -> None:
    with pytest.raises(HardwareError):
        parse_smart_log(text)


@pytest.mark.parametrize(("text", "gts"), [("16.0 GT/s PCIe", 16.0), ("Unknown", None), ("", None)])
def test_link_speed(text: str, gts: float | None) -> None:
    assert link_gts(text) == gts


def test_a_command_that_fails_hangs_or_is_missing_says_so() -> None:
    host = Host()
    with pytest.raises(HardwareError, match="'false' failed with 1: it said nothing"):
        host.run(("false",))
    with pytest.raises(HardwareError, match=r"did not end within 0.05 s"):
        host.run(("sleep", "5"), timeout_s=0.05)
    with pytest.raises(AbsentError, match="not installed"):
        host.run(("tinybox-no-such-program",))


def test_a_command_that_was_not_recorded_names_the_file(recorded: Host) -> None:
    assert command_slug(("nvme", "smart-log", "/dev/nvme0")) == "nvme_smart-log_dev_nvme0"
    with pytest.raises(AbsentError, match=r"'nvme list' is not recorded in .*commands/nvme_list"):
        recorded.run(("nvme", "list"))


def test_a_recorded_mount_has_the_space_it_had_and_never_ours(copy: Host) -> None:
    copy.write_text("proc/mountinfo", f"40 25 9:127 / {copy.root} rw - xfs /dev/md127 rw\n")
    kind = replace(load_box("red").storage, mount=str(copy.root))
    raid, _ = read_raid(copy, kind)
    assert raid is not None
    assert (raid.mount, raid.size_bytes, raid.free_bytes) == (str(copy.root), None, None)
    (copy.root / "library/space.json").write_text(json.dumps({kind.mount: [4000, 3000]}))
    raid, _ = read_raid(copy, kind)
    assert raid is not None
    assert (raid.size_bytes, raid.free_bytes) == (4000, 3000)
