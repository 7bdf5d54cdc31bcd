"""What a target is and what lies on it. Looks only."""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioning.artefact.release import FILE_NAME
from provisioning.esp import read_from_esp
from provisioning.flash.mark import LENGTH, Mark, find_mark
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.hw.host import Host

COLUMNS = "PATH,TYPE,SIZE,RO,MODEL,SERIAL,WWN,MOUNTPOINTS,LOG-SEC"
OURS = ("tinybox-esp", "tinybox-root")
SYSTEM_MOUNTS = ("/", "/boot", "/boot/efi", "/efi", "/usr", "/var", "/home", "[SWAP]")
LONG_S = 60.0


@dataclass(frozen=True, slots=True)
class Content:
    """A file system, a member of an array, a partition: its kind in blkid's words, its label, which partition it is."""

    kind: str
    label: str | None = None
    partition: str | None = None  # the partition's own label; "" for one without, None for the whole target
    start_bytes: int = 0
    length_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """What the kernel and the bytes on it say of a target. `serial` is what a person types; a file's is its name."""

    path: str  # as it was asked for
    device: str  # what that leads to
    kind: str  # lsblk's word: "disk", "part", "loop", "raid0", …; "file"
    size_bytes: int
    serial: str
    model: str = ""
    is_read_only: bool = False
    mounts: tuple[str, ...] = ()
    users: tuple[str, ...] = ()  # arrays, volume groups, whatever the kernel built upon it
    contents: tuple[Content, ...] = ()
    mark: Mark | None = None
    sequence: int | None = None  # of the tinybox image that is on it
    sector_bytes: int = 512  # what its partition table counts in


def look(path: str, host: Host) -> Target:
    """One target. Raises TinyboxError for what cannot be one."""
    resolved = Path(path).resolve()
    try:
        mode = resolved.stat().st_mode
    except FileNotFoundError:
        if resolved.is_relative_to("/dev"):
            raise TinyboxError(
                f"there is no {path}", hint="'lsblk -o PATH,MODEL,SERIAL,SIZE' shows the drives"
            ) from None
        return Target(path, str(resolved), "file", 0, resolved.name)
    except OSError as error:
        raise TinyboxError(f"cannot look at {path}: {error.strerror}") from None
    if stat.S_ISREG(mode):
        return _look_at_file(path, resolved, host)
    if not stat.S_ISBLK(mode):
        raise TinyboxError(
            f"{path} is neither a drive nor a regular file", hint="name a drive by its /dev/disk/by-id path"
        )
    return _look_at_device(path, resolved, host)


def _look_at_file(path: str, resolved: Path, host: Host) -> Target:
    contents = read_contents(str(resolved), host)
    return Target(
        path=path,
        device=str(resolved),
        kind="file",
        users=_users_of_file(str(resolved), host),
        size_bytes=resolved.stat().st_size,
        serial=resolved.name,
        is_read_only=not os.access(resolved, os.W_OK),
        contents=contents,
        mark=_mark(resolved),
        sequence=_sequence(resolved, contents),
    )


def _users_of_file(path: str, host: Host) -> tuple[str, ...]:
    """Loop devices over a file, or the kernel that swaps to it."""
    try:
        loops = json.loads(host.run(("losetup", "--json", "--list", "--associated", path)) or "{}")
        swaps = host.read_text("proc/swaps").splitlines()[1:]
    except HardwareError as error:
        raise TinyboxError(f"cannot see who uses {path}: {error}", hint="nothing was written") from None
    users = [item["name"] for item in loops.get("loopdevices") or ()]
    return (*users, *("swap" for line in swaps if line.split()[0] == path))


def _look_at_device(path: str, resolved: Path, host: Host) -> Target:
    try:
        found = json.loads(
            host.run(("lsblk", "--json", "--bytes", "--output", COLUMNS, str(resolved)), timeout_s=LONG_S)
        )
        swaps = [line.split()[0] for line in host.read_text("proc/swaps").splitlines()[1:]]
    except HardwareError as error:
        raise TinyboxError(f"cannot look at {path}: {error}") from None
    (tree,) = found["blockdevices"]
    nodes = list(_walk(tree))
    mounts = [mount for node in nodes for mount in node.get("mountpoints") or () if mount]
    mounts += ["[SWAP]" for node in nodes if node["path"] in swaps and "[SWAP]" not in mounts]
    contents = read_contents(str(resolved), host)
    return Target(
        path=path,
        device=str(resolved),
        kind=tree["type"],
        size_bytes=int(tree["size"]),
        serial=(tree.get("serial") or tree.get("wwn") or resolved.name).strip(),
        model=(tree.get("model") or "").strip(),
        is_read_only=bool(tree["ro"]),
        mounts=tuple(mounts),
        users=tuple(node["path"] for node in nodes[1:] if node["type"] != "part"),
        contents=contents,
        mark=_mark(resolved),
        sequence=_sequence(resolved, contents),
        sector_bytes=int(tree.get("log-sec") or 512),
    )


def _walk(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for child in node.get("children") or () for below in _walk(child))]


def read_contents(path: str, host: Host) -> tuple[Content, ...]:
    """What blkid finds on the whole and in each partition, read from the bytes themselves. Raises TinyboxError."""
    try:
        said = host.run(("wipefs", "--no-act", "--json", path), timeout_s=LONG_S) or "{}"
        signatures = json.loads(said).get("signatures") or []
        kinds = {item["type"]: item.get("label") or None for item in signatures}
        found = [Content(kind, label) for kind, label in kinds.items() if kind != "PMBR"]
        if {"gpt", "dos"} & set(kinds):
            found += _partitions(path, host)
    except HardwareError as error:
        raise TinyboxError(f"cannot see what is on {path}: {error}", hint="nothing was written") from None
    return tuple(found)


def _partitions(path: str, host: Host) -> list[Content]:
    try:
        table = json.loads(host.run(("sfdisk", "--json", path), timeout_s=LONG_S))["partitiontable"]
    except HardwareError:
        return []  # a damaged table, or a file system's boot sector that looks like one
    sector = int(table.get("sectorsize", 512))
    found = []
    for item in table.get("partitions") or ():
        start, length = int(item["start"]) * sector, int(item["size"]) * sector
        kind, label = _probe(path, start, length, host)
        found.append(Content(kind, label, item.get("name") or "", start, length))
    return found


def _probe(path: str, start: int, length: int, host: Host) -> tuple[str, str | None]:
    """(kind, label) of a partition's content; ("", None) where nothing is known."""
    words = ("blkid", "--probe", "--offset", str(start), "--size", str(length), "--output", "export", path)
    try:
        said = host.run(words, timeout_s=LONG_S)
    except HardwareError:
        return "", None  # blkid's way to say that it knows nothing of it
    fields = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    return fields.get("TYPE", ""), fields.get("LABEL") or None


def _mark(path: Path) -> Mark | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}") from None
    try:
        return find_mark(os.pread(descriptor, LENGTH, 0))
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}", hint="the drive may be broken") from None
    finally:
        os.close(descriptor)


def _sequence(path: Path, contents: tuple[Content, ...]) -> int | None:
    """Of the release that is installed; None where none can be read: then none is protected either."""
    esp = next((item for item in contents if item.partition == OURS[0]), None)
    if esp is None:
        return None
    try:
        text = read_from_esp(path, FILE_NAME, offset_bytes=esp.start_bytes)
    except TinyboxError:
        return None
    lines = (text or b"").decode("utf-8", "replace").splitlines()
    number = next((line.partition("=")[2].strip() for line in lines if line.startswith("sequence")), "")
    return int(number) if number.isdigit() else None
