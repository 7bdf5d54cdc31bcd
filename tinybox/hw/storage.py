"""The data array: look at every drive, plan, and only then touch anything. What carries data is never touched.

`plan_array` is pure: what it may do with a set of drives is tested as a table.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tinybox.core.box import StorageKind
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.hw.host import Host

ARRAY_NAME = "tinybox"
ARRAY_DEVICE = f"/dev/md/{ARRAY_NAME}"
END_BYTES = 64 * 2**20  # signatures, partition tables and the first partition's file system lie at the ends
CHUNK_BYTES = 2**20
SAMPLES = 1024
SAMPLE_BYTES = 4096
LONG_S = 120.0
NO_SUPERBLOCK = "No md superblock"  # mdadm --examine, of a drive that is no member of anything


class Step(StrEnum):
    """What there is to do, in the order it is done."""

    CREATE = "create"
    ASSEMBLE = "assemble"
    FORMAT = "format"
    MOUNT = "mount"


@dataclass(frozen=True, slots=True)
class DataDrive:
    """One whole NVMe drive. `content` says in words what lies on it; None means that it is blank."""

    device: str
    size_bytes: int
    is_used_by_system: bool
    content: str | None
    array: str | None = None  # UUID, where the drive is a member of one


@dataclass(frozen=True, slots=True)
class ArrayState:
    """An assembled array: its device, what is on it, where it is mounted, and whether it carries our name."""

    device: str
    uuid: str
    content: str | None
    mount: str | None
    is_ours: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps to take, over these drives; `words` says why, for people."""

    steps: tuple[Step, ...]
    drives: tuple[str, ...]
    words: str
    device: str = ARRAY_DEVICE


def plan_array(drives: Sequence[DataDrive], arrays: Sequence[ArrayState], kind: StorageKind) -> Plan:
    """What to do with these drives. Raises TinyboxError where a person has to look first; then nothing is touched."""
    if kind.data_drives == 0:
        raise TinyboxError("this kind of box has no data array", hint="'storage.data_drives' of its TOML is 0")
    candidates = [drive for drive in drives if not drive.is_used_by_system]
    members = [drive for drive in candidates if drive.array is not None]
    if members:
        return _plan_existing(members, arrays, kind)
    foreign = [drive for drive in candidates if drive.content is not None]
    if foreign:
        found = "; ".join(f"{drive.device} carries {drive.content}" for drive in foreign)
        wipe = f"'wipefs --all {foreign[0].device}' and 'tinybox raid assemble'"
        hint = f"nothing was touched; save what you need, then {wipe}"
        raise TinyboxError(f"no array made: {found}", hint=hint)
    if len(candidates) != kind.data_drives:
        found = ", ".join(drive.device for drive in candidates) or "none"
        raise TinyboxError(
            f"no array made: the box has {kind.data_drives} data drives, here are {len(candidates)} ({found})",
            hint="power off and reseat the drives, or correct the box in the configuration",
        )
    names = tuple(drive.device for drive in candidates)
    words = f"{len(names)} blank drives: a new {kind.level} array with {kind.filesystem}"
    return Plan((Step.CREATE, Step.FORMAT, Step.MOUNT), names, words)


def _plan_existing(members: Sequence[DataDrive], arrays: Sequence[ArrayState], kind: StorageKind) -> Plan:
    uuids = sorted({drive.array for drive in members if drive.array is not None})
    if len(uuids) > 1:
        found = "; ".join(f"{drive.device} belongs to {drive.array}" for drive in members)
        raise TinyboxError(f"drives of different arrays: {found}", hint="nothing was touched; take out the wrong ones")
    names = tuple(drive.device for drive in members)
    if len(members) < kind.data_drives:
        raise TinyboxError(
            f"only {len(members)} of the array's {kind.data_drives} drives are here: {', '.join(names)}",
            hint="nothing was touched and the data is still there: power off and reseat the missing drive",
        )
    array = next((array for array in arrays if array.uuid == uuids[0]), None)
    if array is None:
        return Plan((Step.ASSEMBLE, Step.MOUNT), names, "an array of ours: assemble and mount")
    if array.mount is not None:
        return Plan((), names, f"already mounted at {array.mount}", array.device)
    if array.content is None and not array.is_ours:
        hint = "nothing was touched: it may be unused, or carry data without a file system; mount or stop it by hand"
        raise TinyboxError(f"{array.device} is an array that this box did not make, without a file system", hint=hint)
    if array.content is None:
        words = "an array of ours that was never formatted: format and mount"
        return Plan((Step.FORMAT, Step.MOUNT), names, words, array.device)
    return Plan((Step.MOUNT,), names, "an assembled array: mount", array.device)


def inspect_drives(host: Host) -> tuple[tuple[DataDrive, ...], tuple[ArrayState, ...]]:
    """Every NVMe drive of the machine, and the arrays assembled over them. Reads only. Raises HardwareError."""
    columns = "NAME,PATH,TYPE,SIZE,FSTYPE,MOUNTPOINTS"
    tree = json.loads(host.run(("lsblk", "--json", "--bytes", "--output", columns)))["blockdevices"]
    disks = [disk for disk in tree if disk["type"] == "disk" and disk["name"].startswith("nvme")]
    drives = tuple(_inspect_drive(host, disk) for disk in disks)
    arrays: dict[str, ArrayState] = {}
    for disk in disks:
        for child in disk.get("children") or ():
            if child["type"].startswith("raid") and child["path"] not in arrays:
                arrays[child["path"]] = _inspect_array(host, child)
    return drives, tuple(arrays.values())


def _inspect_drive(host: Host, disk: dict[str, Any]) -> DataDrive:
    device = disk["path"]
    array = array_of(host, device)
    return DataDrive(
        device=device,
        size_bytes=int(disk["size"]),
        is_used_by_system=_is_used(disk),
        content=None if array is not None else what_is_on(host, device, int(disk["size"])),
        array=array,
    )


def _is_used(disk: dict[str, Any]) -> bool:
    """Whether something of the disk, other than an array over it, is mounted: so the boot drive is told apart."""
    if any(disk.get("mountpoints") or ()):
        return True
    children = [child for child in disk.get("children") or () if not child["type"].startswith("raid")]
    return any(_is_used(child) for child in children)


def array_of(host: Host, device: str) -> str | None:
    """UUID of the array this drive is a member of, by its own superblock."""
    try:
        text = host.run(("mdadm", "--examine", "--export", device))
    except HardwareError as error:
        if NO_SUPERBLOCK in str(error):
            return None  # mdadm calls that an error
        raise  # a drive that cannot be examined may be a member: better no array than a new one over it
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return fields.get("MD_UUID")


def _inspect_array(host: Host, child: dict[str, Any]) -> ArrayState:
    device = child["path"]
    text = host.run(("mdadm", "--detail", "--export", device))
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    mounts = [mount for mount in child.get("mountpoints") or () if mount]
    content = child.get("fstype") or what_is_on(host, device, int(child["size"]))
    is_ours = fields.get("MD_NAME", "").rpartition(":")[2] == ARRAY_NAME
    return ArrayState(device, fields.get("MD_UUID", ""), content, mounts[0] if mounts else None, is_ours)


def what_is_on(host: Host, device: str, size_bytes: int) -> str | None:
    """What a device carries, in words; None: blank.

    A known signature, or a byte that is not zero at the ends or in one of the samples spread over the rest.
    """
    signatures = json.loads(host.run(("wipefs", "--no-act", "--json", device)) or "{}").get("signatures", [])
    if signatures:
        return f"signatures of {' and '.join(sorted({signature['type'] for signature in signatures}))}"
    descriptor = os.open(host.path(device), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if any(_has_data(descriptor, offset, length) for offset, length in _places(size_bytes)):
            return "data of an unknown kind"
    finally:
        os.close(descriptor)
    return None


def _places(size_bytes: int) -> Iterator[tuple[int, int]]:
    """(offset, length) in bytes of all that has to be zero in a blank drive."""
    for start in (0, max(0, size_bytes - END_BYTES)):
        for offset in range(start, min(start + END_BYTES, size_bytes), CHUNK_BYTES):
            yield offset, CHUNK_BYTES
    for i in range(SAMPLES):
        yield i * size_bytes // SAMPLES // SAMPLE_BYTES * SAMPLE_BYTES, SAMPLE_BYTES


def _has_data(descriptor: int, offset: int, length: int) -> bool:
    found = os.pread(descriptor, length, offset)
    return found != bytes(len(found))


def carry_out(host: Host, plan: Plan, kind: StorageKind) -> None:
    """Do what was planned. Raises HardwareError at the first step that fails; a later run goes on from there."""
    for step in plan.steps:
        match step:
            case Step.CREATE:
                _create(host, plan.drives, kind)
            case Step.ASSEMBLE:
                host.run(("mdadm", "--assemble", ARRAY_DEVICE, *plan.drives), timeout_s=LONG_S)
            case Step.FORMAT:
                # -K: the drives are blank; to discard terabytes takes minutes, and a cut in them leaves half of it.
                host.run((f"mkfs.{kind.filesystem}", "-q", "-K", "-L", ARRAY_NAME, plan.device), timeout_s=LONG_S)
            case Step.MOUNT:
                host.run(("mkdir", "-p", kind.mount))
                host.run(("mount", "-t", kind.filesystem, "-o", "noatime", plan.device, kind.mount), timeout_s=LONG_S)
        host.run(("udevadm", "settle", "--timeout=30"), timeout_s=LONG_S)


def _create(host: Host, drives: tuple[str, ...], kind: StorageKind) -> None:
    level = kind.level.removeprefix("raid")
    host.run(
        (
            *("mdadm", "--create", ARRAY_DEVICE, "--run", "--metadata=1.2", "--homehost=any", f"--name={ARRAY_NAME}"),
            *(f"--level={level}", f"--chunk={kind.chunk_kib}K", f"--raid-devices={len(drives)}", *drives),
        ),
        timeout_s=LONG_S,
    )
