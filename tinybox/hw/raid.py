"""The data array: what /proc/mdstat and md's sysfs say of it, and where it is mounted (docs/protocol/nvme.md)."""

import contextlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from tinybox.core.box import StorageKind
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, Raid
from tinybox.hw.figures import whole
from tinybox.hw.host import Host
from tinybox.hw.mounts import read_mounts

ARRAY = re.compile(
    r"^(md\S+) : (active|inactive)(?: \((?:auto-)?read-only\))?(?: (raid\d+|linear))? (.+)$", re.MULTILINE
)
MEMBER = re.compile(r"(\w+)\[\d+\](\(\w\))*")
BROKEN = ("broken", "inactive", "clear")  # of array_state (kernel: Documentation/admin-guide/md.rst)
MISSING_SLOT = re.compile(r"\[[U_]*_[U_]*\]")


@dataclass(frozen=True, slots=True)
class Array:
    """One md array as the kernel lists it."""

    name: str
    is_active: bool
    level: str | None
    members: tuple[str, ...]
    is_degraded: bool


def parse_mdstat(text: str) -> tuple[Array, ...]:
    """Every array of /proc/mdstat."""
    found = []
    for match in ARRAY.finditer(text):
        rest = text[match.end() :].split("\nmd", 1)[0]
        is_degraded = bool(MISSING_SLOT.search(rest)) or "(F)" in match[4]
        members = tuple(sorted(member[1] for member in MEMBER.finditer(match[4])))
        found.append(Array(match[1], match[2] == "active", match[3], members, is_degraded))
    return tuple(found)


def read_raid(host: Host, kind: StorageKind) -> tuple[Raid | None, tuple[Fault, ...]]:
    """The array that carries the box's data mount, or the only one there is."""
    try:
        # The kernel's md driver is not even loaded where there is no array.
        arrays = parse_mdstat(host.read_text("proc/mdstat")) if host.exists("proc/mdstat") else ()
        mounts = _mounts(host)
    except HardwareError as error:
        return Raid(level=None, state="absent"), (Fault("raid", f"array unreadable: {error}"),)
    mounted = next((array for array in arrays if mounts.get(array.name) == kind.mount), None)
    array = mounted or next((array for array in arrays if array.level in (kind.level, None)), None)
    if array is None:
        return Raid(level=None, state="absent"), ()
    facts = {
        name: _fact(host, array.name, name) for name in ("array_state", "raid_disks", "sync_action", "mismatch_cnt")
    }
    is_broken = not array.is_active or facts["array_state"] in BROKEN
    state = "failed" if is_broken else "degraded" if array.is_degraded else "clean"
    mount = mounts.get(array.name)
    size_bytes, free_bytes = host.space(kind.mount) if mount is not None else (None, None)
    return Raid(
        array.level,
        state,
        mount,
        array.members,
        size_bytes,
        free_bytes,
        devices=whole(facts["raid_disks"]),
        sync_action=facts["sync_action"],
        mismatches=whole(facts["mismatch_cnt"]),
    ), ()


def _fact(host: Host, array: str, name: str) -> str | None:
    """One of md's own attributes; RAID 0 has fewer of them."""
    with contextlib.suppress(HardwareError):
        return host.read_text(f"sys/block/{array}/md/{name}") or None
    return None


def _mounts(host: Host) -> dict[str, str]:
    """md device name to mount point, links such as /dev/md/tinybox followed."""
    arrays = [mount for mount in read_mounts(host) if mount.source.startswith("/dev/md")]
    return {PurePosixPath(host.resolve(mount.source)).name: mount.place for mount in arrays}
