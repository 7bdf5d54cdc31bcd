"""What speaks against a target, as a table: targets that no test machine has."""

from dataclasses import replace

import pytest

from provisioning.artefact.manifest import Release
from provisioning.flash.mark import Mark
from provisioning.flash.refusals import check, judge, what_is_on
from provisioning.flash.target import Content, Target
from tinybox.core.errors import TinyboxError

GIB = 2**30
RELEASE = Release("tinybox", "1.0", 50, "red")
BLANK = Target("/dev/disk/by-id/nvme-X", "/dev/nvme0n1", "disk", 1000 * GIB, "S1", "Some Drive")
OURS = (
    Content("gpt"),
    Content("vfat", "ESP", "tinybox-esp", 2**20, 2 * GIB),
    Content("btrfs", None, "tinybox-root", 3 * GIB, GIB),
)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"contents": OURS, "sequence": 50}, None),
        ({"contents": OURS, "sequence": None}, None),
        ({"contents": (Content("gpt"),)}, None),
        ({"mark": Mark("a", "b")}, None),
        ({"kind": "part"}, "not-a-drive"),
        ({"kind": "raid0"}, "not-a-drive"),
        ({"mounts": ("/", "/home")}, "system"),
        ({"mounts": ("/efi",)}, "system"),
        ({"mounts": ("[SWAP]",)}, "system"),
        ({"mounts": ("/mnt/photos",)}, "mounted"),
        ({"users": ("/dev/md127",)}, "in-use"),
        ({"is_read_only": True}, "read-only"),
        ({"size_bytes": 3 * GIB}, "too-small"),
        ({"kind": "file", "size_bytes": 0}, None),
        ({"contents": (Content("linux_raid_member", "box:tinybox"),)}, "member"),
        ({"contents": (Content("LVM2_member"),)}, "member"),
        ({"contents": (Content("gpt"), Content("LVM2_member", None, "", 2**20, GIB))}, "member"),
        ({"contents": (Content("ext4", "holidays"),)}, "foreign"),
        ({"contents": (Content("crypto_LUKS"),)}, "foreign"),
        ({"contents": (*OURS, Content("xfs", "photos", "data", 5 * GIB, GIB))}, "foreign"),
        ({"contents": (Content("dos"), Content("ntfs", "Windows", "", 2**20, GIB))}, "foreign"),
        ({"contents": OURS, "sequence": 51}, "older"),
    ],
)
def test_what_speaks_against_it(change: dict[str, object], code: str | None) -> None:
    target = replace(BLANK, **change)  # type: ignore[arg-type]
    refusal = judge(target, 4 * GIB, RELEASE)
    assert (refusal.code if refusal else None) == code
    overwritable = {"member", "foreign", "older"}
    assert refusal is None or refusal.can_be_overwritten == (code in overwritable)
    if code is not None:
        for overwrite in ((), ("S1",)):
            if overwrite and code in overwritable:
                check([(target, False)], 4 * GIB, RELEASE, overwrite)
            else:
                with pytest.raises(TinyboxError, match="is refused"):
                    check([(target, False)], 4 * GIB, RELEASE, overwrite)


def test_what_holds_this_very_image_is_nobodys_data_but_may_be_in_use() -> None:
    target = replace(BLANK, contents=(Content("ext4"),))
    assert judge(target, 4 * GIB, RELEASE, is_same=True) is None
    assert judge(replace(target, mounts=("/mnt",)), 4 * GIB, RELEASE, is_same=True) is not None


def test_a_serial_of_two_targets_or_of_none_overwrites_nothing() -> None:
    twins = [(BLANK, False), (replace(BLANK, path="b", device="/dev/b"), False)]
    with pytest.raises(TinyboxError, match="names more than one target"):
        check(twins, GIB, RELEASE, ("S1",))
    with pytest.raises(TinyboxError, match="names no target"):
        check(twins, GIB, RELEASE, ("S2",))
    with pytest.raises(TinyboxError, match="are the same target"):
        check([(BLANK, False), (replace(BLANK, path="again"), False)], GIB, RELEASE, ())


def test_people_are_told_what_is_there() -> None:
    assert what_is_on(BLANK) == "nothing that is known"
    assert what_is_on(replace(BLANK, mark=Mark("a", "tinybox 1.0"))) == "an unfinished flash of tinybox 1.0"
    told = what_is_on(replace(BLANK, contents=(*OURS, Content("ext4", "holidays", "data"))))
    ours = "a partition 'tinybox-esp' with vfat 'ESP', a partition 'tinybox-root' with btrfs"
    assert told == f"{ours}, a partition 'data' with ext4 'holidays'"
