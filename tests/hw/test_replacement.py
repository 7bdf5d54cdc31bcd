"""Which drives become the next array, as a table; nothing is erased that was not named or is not ours."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hw.test_storage import BLANK, BOOT, KIND, OURS, RUNNING, THEIRS
from tinybox.core.errors import TinyboxError
from tinybox.hw.host import Host
from tinybox.hw.replacement import BLOCK_BYTES, ERASED_BYTES, check_is_ours, plan_replacement, replace_drives
from tinybox.hw.storage import ArrayState, DataDrive

NEW = BLANK[3]


def test_the_old_drives_and_the_new_one_become_the_array() -> None:
    planned = plan_replacement((BOOT, *OURS[:3], NEW), (), KIND, [NEW.device])
    assert planned.old == tuple(drive.device for drive in OURS[:3])
    assert planned.drives == ("/dev/nvme1n1", "/dev/nvme2n1", "/dev/nvme3n1", "/dev/nvme4n1")


REFUSALS = [
    ("the boot drive", (BOOT, *OURS[:3], NEW), (), [BOOT.device], "is no drive that could become part"),
    ("a drive that is not there", (BOOT, *OURS[:3]), (), ["/dev/nvme9n1"], "is no drive that could become part"),
    ("a member itself", (BOOT, *OURS), (), [OURS[0].device], "is part of the array"),
    ("a drive with data", (BOOT, *OURS[:3], replace(NEW, content="ext4")), (), [NEW.device], "carries ext4"),
    ("a drive too few", (BOOT, *OURS[:2], NEW), (), [NEW.device], "2 drives of the old array and 1 new make 3"),
    ("a whole array and one more", (BOOT, *OURS, replace(NEW, device="/dev/nvme9n1")), (), ["/dev/nvme9n1"], "make 5"),
    ("two arrays", (BOOT, *OURS[:2], THEIRS[2], NEW), (), [NEW.device], "different arrays"),
    ("no array at all", (BOOT, *BLANK), (), [NEW.device], "no drive is part of an array"),
    (
        "a mounted array",
        (BOOT, *OURS[:3], NEW),
        (replace(RUNNING, mount="/raid"),),
        [NEW.device],
        "is mounted at /raid",
    ),
]


@pytest.mark.parametrize(("why", "drives", "arrays", "new", "words"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_nothing_is_planned_that_is_not_clear(
    why: str, drives: tuple[DataDrive, ...], arrays: tuple[ArrayState, ...], new: list[str], words: str
) -> None:
    with pytest.raises(TinyboxError) as caught:
        plan_replacement(drives, arrays, KIND, new)
    assert words in caught.value.message, why
    assert caught.value.hint


class Noting(Host):
    """A machine under a folder, whose storage tools are only noted down."""

    def __init__(self, root: Path, name: str = "box:tinybox") -> None:
        super().__init__(root)
        self.ran: list[tuple[str, ...]] = []
        self._name = name

    def run(self, argv: Sequence[str], *, timeout_s: float = 10.0, feed: str = "") -> str:
        """Noted; mdadm tells a name."""
        self.ran.append(tuple(argv))
        return f"MD_NAME={self._name}\n" if "--examine" in argv else ""


def test_an_array_of_somebody_else_is_not_erased(tmp_path: Path) -> None:
    planned = plan_replacement((BOOT, *THEIRS[:3], NEW), (), KIND, [NEW.device])
    check_is_ours(Noting(tmp_path), planned)
    with pytest.raises(TinyboxError, match="'photos' that this box did not make"):
        check_is_ours(Noting(tmp_path, "nas:photos"), planned)


def test_old_drives_are_stopped_and_erased_before_anything_is_made(tmp_path: Path) -> None:
    host = Noting(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "sys/class/block/nvme1n1/holders/md127").mkdir(parents=True)
    for drive in (*OURS[:3], NEW):
        with (tmp_path / drive.device.lstrip("/")).open("wb") as file:
            file.truncate(ERASED_BYTES + BLOCK_BYTES)
            for offset in (0, 129 * 2**20, ERASED_BYTES):
                file.seek(offset)
                file.write(b"XFSB")
    replace_drives(host, plan_replacement((BOOT, *OURS[:3], NEW), (), KIND, [NEW.device]), KIND)
    verbs = [words[1] if words[0] == "mdadm" else words[0] for words in host.ran]
    zeroed = [i for i, verb in enumerate(verbs) if verb == "--zero-superblock"]
    assert host.ran[0] == ("mdadm", "--stop", "/dev/md127")
    assert zeroed[-1] < verbs.index("--create") < verbs.index("mkfs.xfs") < verbs.index("mount")
    assert [host.ran[i][2] for i in zeroed] == [drive.device for drive in OURS[:3]]
    for drive, left in ((OURS[0], b"\0\0\0\0"), (NEW, b"XFSB")):
        with (tmp_path / drive.device.lstrip("/")).open("rb") as file:
            for offset in (0, 129 * 2**20):
                file.seek(offset)
                assert file.read(4) == left, "only the old drives are written to by us"
