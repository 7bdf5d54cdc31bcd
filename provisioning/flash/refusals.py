"""What speaks against writing to a target. Pure: looked at before, decided here, tested as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from provisioning.artefact.manifest import NO_PROFILE, Release
from provisioning.flash.target import OURS, SYSTEM_MOUNTS, Content, Target
from tinybox.core.errors import TinyboxError

MEMBERS = ("LVM2_member", "linux_raid_member", "zfs_member", "bcache", "ceph_bluestore", "drbd", "isw_raid_member",
           "ddf_raid_member", "LVM1_member", "stratis")  # fmt: skip
TABLES = ("gpt", "dos")
DRIVES = ("disk", "loop", "file")
IMAGE_SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not, what to do, and whether `--overwrite` with the target's serial is an answer."""

    code: str
    words: str
    hint: str
    can_be_overwritten: bool = False


def judge(
    target: Target, size_bytes: int, release: Release, *, is_same: bool = False, keep: Sequence[str] = ()
) -> Refusal | None:
    """The first thing that speaks against it. `is_same`: what is on it is this very image already."""
    about_data = None if is_same else _about_data(target, release, (*OURS, *keep, *_kept_before(target)))
    return _about_use(target) or _about_drive(target, size_bytes, release) or about_data


def _about_drive(target: Target, size_bytes: int, release: Release) -> Refusal | None:
    if target.kind not in DRIVES:
        hint = "name the whole drive, by its /dev/disk/by-id path"
        return Refusal("not-a-drive", f"it is no whole drive but a {target.kind}", hint)
    if target.is_read_only:
        return Refusal("read-only", "it is read-only", "look for a switch on it, or for 'blockdev --getro'")
    if target.size_bytes < size_bytes and not (target.kind == "file" and target.size_bytes == 0):
        words = f"it has {target.size_bytes:,} bytes, the image needs {size_bytes:,}"
        return Refusal("too-small", words, "take a larger drive")
    if target.sector_bytes != IMAGE_SECTOR_BYTES and release.profile != NO_PROFILE:
        words = f"it has sectors of {target.sector_bytes:,} bytes, and the image's partition table counts in 512"
        return Refusal("sectors", words, "'nvme format --lbaf' may give it sectors of 512; that erases it")
    return None


def _kept_before(target: Target) -> list[str]:
    """What an unfinished flash was to keep."""
    return [] if target.mark is None else [item.label for item in target.mark.kept]


def _about_use(target: Target) -> Refusal | None:
    """What somebody needs at this moment; nothing answers it."""
    system = [mount for mount in target.mounts if mount in SYSTEM_MOUNTS]
    if system:
        return Refusal("system", f"this machine runs from it: {', '.join(system)}", "boot from the stick to flash it")
    if target.mounts:
        mounts = ", ".join(target.mounts)
        return Refusal("mounted", f"it is mounted at {mounts}", f"save what you need, then 'umount {target.mounts[0]}'")
    if target.users:
        users = ", ".join(target.users)
        return Refusal("in-use", f"{users} is built upon it", "stop that array or volume group first")
    return None


def _about_data(target: Target, release: Release, expected: Sequence[str]) -> Refusal | None:
    overwrite = f"save what you need; '--overwrite {target.serial}' then erases it"
    others = [item for item in target.contents if item.partition is None or item.partition not in expected]
    for content in others:
        if content.kind in MEMBERS:
            return Refusal("member", f"it holds {_words(content)}", overwrite, can_be_overwritten=True)
    for content in others:
        if content.partition is not None or content.kind not in TABLES:
            return Refusal("foreign", f"it holds {_words(content)}", overwrite, can_be_overwritten=True)
    if target.sequence is not None and target.sequence > release.sequence:
        words = f"it holds a later release (sequence {target.sequence}) than this artefact's ({release.sequence})"
        return Refusal("older", words, f"'--overwrite {target.serial}' goes back all the same", can_be_overwritten=True)
    return None


def _words(item: Content) -> str:
    label = f" '{item.label}'" if item.label else ""
    if item.partition is None:
        return f"{item.kind}{label}"
    name = f" '{item.partition}'" if item.partition else ""
    return f"a partition{name} with {item.kind}{label}" if item.kind else f"a partition{name}"


def check(
    targets: Sequence[tuple[Target, bool]],
    size_bytes: int,
    release: Release,
    overwrite: Sequence[str],
    keep: Sequence[str] = (),
) -> None:
    """All targets, each with whether it holds this image already. Raises TinyboxError at the first refusal; then no
    target is touched.
    """
    seen: dict[str, str] = {}
    for target, _ in targets:
        if target.device in seen:
            raise TinyboxError(f"{target.path} and {seen[target.device]} are the same target", hint="name it once")
        seen[target.device] = target.path
    serials = [target.serial for target, _ in targets]
    for serial in overwrite:
        if serials.count(serial) != 1:
            hint = f"the targets' serials are: {', '.join(serials)}"
            many = "more than one" if serial in serials else "no"
            raise TinyboxError(f"--overwrite {serial} names {many} target", hint=hint)
    for target, is_same in targets:
        refusal = judge(target, size_bytes, release, is_same=is_same, keep=keep)
        if refusal is not None and not (refusal.can_be_overwritten and target.serial in overwrite):
            raise TinyboxError(f"{target.path} is refused: {refusal.words}", hint=refusal.hint)


def what_is_on(target: Target) -> str:
    """For people who have to decide."""
    if target.mark is not None:
        return f"an unfinished flash of {target.mark.image}"
    shown = [_words(item) for item in target.contents if item.kind not in TABLES or item.partition is not None]
    return ", ".join(shown) if shown else "nothing that is known"
