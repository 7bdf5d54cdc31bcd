"""A drive of the array was changed: the array made anew over the old drives and the new one, empty.

`plan_replacement` is pure. Whatever is left on the old drives is erased: without the one that is gone it is not data.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from tinybox.core.box import StorageKind
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.hw.host import AbsentError, Host
from tinybox.hw.storage import ARRAY_DEVICE, ARRAY_NAME, LONG_S, ArrayState, DataDrive, Plan, Step, carry_out

# mdadm puts the data of a large drive's superblock 1.2 behind 129 MiB: what lies there would be found again.
ERASED_BYTES = 256 * 2**20
BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Replacement:
    """`old` drives lose what is left of the array `uuid` on them; with the `new` ones they become the next array."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    uuid: str

    @property
    def drives(self) -> tuple[str, ...]:
        """All drives of the next array."""
        return tuple(sorted((*self.old, *self.new)))


def plan_replacement(
    drives: Sequence[DataDrive], arrays: Sequence[ArrayState], kind: StorageKind, new: Sequence[str]
) -> Replacement:
    """Which drives become the next array. Raises TinyboxError, with nothing touched, where that is not clear."""
    usable = {drive.device: drive for drive in drives if not drive.is_used_by_system}
    for name in new:
        if name not in usable:
            found = ", ".join(usable) or "none"
            raise TinyboxError(f"{name} is no drive that could become part of the array", hint=f"there are: {found}")
        if usable[name].array is not None:
            raise TinyboxError(f"{name} is part of the array", hint="name the drive that is new")
        if (content := usable[name].content) is not None:
            hint = f"nothing was touched; if it is yours to lose, 'blkdiscard {name}' empties it"
            raise TinyboxError(f"{name} carries {content}", hint=hint)
    mounted = next((array.mount for array in arrays if array.mount is not None), None)
    if mounted is not None:
        hint = "'tinybox raid evacuate DEST' saves what is on it; then power off, change the drive, and run this"
        raise TinyboxError(f"the array is mounted at {mounted} and all its drives are there", hint=hint)
    old = [drive for drive in usable.values() if drive.array is not None]
    uuids = {drive.array for drive in old}
    if len(uuids) != 1:
        which = "no drive is part of an array" if not old else "the drives belong to different arrays"
        raise TinyboxError(which, hint="nothing was touched; 'tinybox raid plan' says what there is")
    if len(old) + len(new) != kind.data_drives:
        raise TinyboxError(
            f"{len(old)} drives of the old array and {len(new)} new make {len(old) + len(new)}, "
            f"the box has {kind.data_drives}",
            hint="nothing was touched; name every drive that is new",
        )
    return Replacement(tuple(drive.device for drive in old), tuple(new), str(old[0].array))


def check_is_ours(host: Host, replacement: Replacement) -> None:
    """Raises TinyboxError where an old drive is part of an array that this box did not make; HardwareError."""
    for device in replacement.old:
        text = host.run(("mdadm", "--examine", "--export", device))
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        if (name := fields.get("MD_NAME", "").rpartition(":")[2]) != ARRAY_NAME:
            hint = "nothing was touched; take that drive out, or empty it by hand"
            raise TinyboxError(f"{device} is part of an array '{name}' that this box did not make", hint=hint)


def replace_drives(host: Host, replacement: Replacement, kind: StorageKind) -> Plan:
    """Erase what is left, make the array, format and mount it. Raises HardwareError at the first step that fails."""
    for device in _arrays_over(host, replacement.old):
        host.run(("mdadm", "--stop", device), timeout_s=LONG_S)
    for device in replacement.old:
        host.run(("mdadm", "--zero-superblock", device), timeout_s=LONG_S)
        with contextlib.suppress(HardwareError):  # not every drive can; then its data stays until it is written over
            host.run(("blkdiscard", "--force", device), timeout_s=LONG_S)
        _erase(host, device)
    words = f"a new {kind.level} array with {kind.filesystem} over {len(replacement.drives)} drives"
    plan = Plan((Step.CREATE, Step.FORMAT, Step.MOUNT), replacement.drives, words, ARRAY_DEVICE)
    carry_out(host, plan, kind)
    return plan


def _arrays_over(host: Host, drives: Sequence[str]) -> tuple[str, ...]:
    """Arrays that the kernel has begun to assemble from these drives."""
    names = {
        name
        for drive in drives
        for name in host.list_dir(f"sys/class/block/{os.path.basename(drive)}/holders")  # noqa: PTH119
        if name.startswith("md")
    }
    return tuple(f"/dev/{name}" for name in sorted(names))


def _erase(host: Host, device: str) -> None:
    """Zeros where a file system's start would be found again."""
    try:
        descriptor = os.open(host.path(device), os.O_WRONLY | os.O_CLOEXEC | os.O_EXCL)
        try:
            size_bytes = os.lseek(descriptor, 0, os.SEEK_END)
            for offset in range(0, min(ERASED_BYTES, size_bytes), BLOCK_BYTES):
                os.pwrite(descriptor, bytes(min(BLOCK_BYTES, size_bytes - offset)), offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise AbsentError(f"{device} is gone") from None
    except OSError as error:
        raise HardwareError(f"cannot erase {device}: {error.strerror}") from None
