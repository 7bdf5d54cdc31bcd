"""What may be done with a set of drives, as a table: what carries anything is never touched."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tinybox.core.box import load_box
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.hw.host import Host
from tinybox.hw.storage import ARRAY_DEVICE, ArrayState, DataDrive, Step, array_of, plan_array, what_is_on

KIND = load_box("red").storage
BOOT = DataDrive("/dev/nvme0n1", 10**12, True, "a gpt signature")
BLANK = tuple(DataDrive(f"/dev/nvme{i}n1", 10**12, False, None) for i in range(1, 5))
OURS = tuple(replace(drive, array="aaaa") for drive in BLANK)
THEIRS = tuple(replace(drive, array="bbbb") for drive in BLANK)
RUNNING = ArrayState("/dev/md127", "aaaa", "xfs", None)

PLANS = [
    ("blank drives become the array", (BOOT, *BLANK), (), (Step.CREATE, Step.FORMAT, Step.MOUNT), ARRAY_DEVICE),
    ("an array of ours is assembled", (BOOT, *OURS), (), (Step.ASSEMBLE, Step.MOUNT), ARRAY_DEVICE),
    ("udev was faster: only mounted", (BOOT, *OURS), (RUNNING,), (Step.MOUNT,), "/dev/md127"),
    (
        "creation was cut before the format",
        (BOOT, *OURS),
        (replace(RUNNING, content=None),),
        (Step.FORMAT, Step.MOUNT),
        "/dev/md127",
    ),
    ("already mounted: nothing to do", (BOOT, *OURS), (replace(RUNNING, mount="/raid"),), (), "/dev/md127"),
    (
        "someone else's array is also only assembled, never made anew",
        (BOOT, *THEIRS),
        (),
        (Step.ASSEMBLE, Step.MOUNT),
        ARRAY_DEVICE,
    ),
]


@pytest.mark.parametrize(("why", "drives", "arrays", "steps", "device"), PLANS, ids=[plan[0] for plan in PLANS])
def test_plan(
    why: str, drives: tuple[DataDrive, ...], arrays: tuple[ArrayState, ...], steps: tuple[Step, ...], device: str
) -> None:
    plan = plan_array(drives, arrays, KIND)
    assert plan.steps == steps, why
    assert plan.device == device
    assert BOOT.device not in plan.drives


REFUSALS = [
    ("no data drives at all", (BOOT,), "here are 0 (none)"),
    ("one drive is missing", (BOOT, *BLANK[:3]), "here are 3"),
    ("one drive too many", (BOOT, *BLANK, replace(BLANK[0], device="/dev/nvme9n1")), "here are 5"),
    (
        "one drive carries a file system",
        (BOOT, *BLANK[:3], replace(BLANK[3], content="signatures of ext4")),
        "/dev/nvme4n1 carries signatures of ext4",
    ),
    (
        "one carries bytes of no known kind",
        (BOOT, *BLANK[:3], replace(BLANK[3], content="data of an unknown kind")),
        "/dev/nvme4n1 carries data of an unknown kind",
    ),
    ("a member is missing: its data stays", (BOOT, *OURS[:3]), "only 3 of the array's 4 drives"),
    ("a member was replaced by a blank drive", (BOOT, *OURS[:3], BLANK[3]), "only 3 of the array's 4 drives"),
    ("two arrays are mixed", (BOOT, *OURS[:2], *THEIRS[2:]), "drives of different arrays"),
]


@pytest.mark.parametrize(("why", "drives", "words"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_a_person_has_to_look_first(why: str, drives: tuple[DataDrive, ...], words: str) -> None:
    with pytest.raises(TinyboxError) as caught:
        plan_array(drives, (), KIND)
    assert words in caught.value.message, why
    assert caught.value.hint


def test_an_array_that_is_not_ours_is_never_formatted() -> None:
    foreign = replace(RUNNING, content=None, is_ours=False)
    with pytest.raises(TinyboxError, match="an array that this box did not make"):
        plan_array((BOOT, *OURS), (foreign,), KIND)
    assert plan_array((BOOT, *OURS), (replace(foreign, content="xfs"),), KIND).steps == (Step.MOUNT,)


class Examining(Host):
    """A machine whose mdadm gives one answer."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._answer = answer

    def run(self, argv: Sequence[str], *, timeout_s: float = 10.0) -> str:
        """Only mdadm is asked."""
        raise HardwareError(self._answer)


def test_a_drive_that_cannot_be_examined_is_not_taken_for_blank() -> None:
    assert array_of(Examining("'mdadm' failed with 1: mdadm: No md superblock detected on /dev/nvme1n1."), "x") is None
    with pytest.raises(HardwareError, match="did not end"):
        array_of(Examining("'mdadm' did not end within 10 s"), "x")


CONTENT = [
    ("nothing but zeros", 0, b"", None),
    ("one byte at the start", 7, b"\x01", "data of an unknown kind"),
    ("one byte at the very end", 8 * 2**20 - 1, b"\x01", "data of an unknown kind"),
    ("ext4 in a partition whose table is gone", 2**20 + 1080, b"\x53\xef", "data of an unknown kind"),
    ("a page in the middle", 4 * 2**20, b"\x01" * 4096, "data of an unknown kind"),
    ("an XFS superblock", 0, b"XFSB" + bytes([0, 0, 16, 0]) + bytes(92) + b"\xb4\xa5" + bytes(2), "signature"),
    ("a swap area", 4096 - 10, b"SWAPSPACE2", "signature"),
]


@pytest.mark.parametrize(("why", "offset", "data", "words"), CONTENT, ids=[row[0] for row in CONTENT])
def test_what_is_on_a_drive(why: str, offset: int, data: bytes, words: str | None, tmp_path: Path) -> None:
    path = tmp_path / "drive"
    with path.open("wb") as file:
        file.truncate(8 * 2**20)
        file.seek(offset)
        file.write(data)
    found = what_is_on(Host(), str(path), 8 * 2**20)
    assert found == words if words is None or "unknown" in words else found is not None, why
