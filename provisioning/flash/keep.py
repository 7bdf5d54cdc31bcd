"""Partitions that outlive a flash: found on the target before it, and put into the image's table after it.

The table is sfdisk's work, on a sparse file of the target's size: what it makes of it is then written, all of it with
the image's ends, so that no power cut leaves a disk that starts without them.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from provisioning.flash.ends import Ends
from provisioning.flash.mark import Kept
from provisioning.flash.target import OURS
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.hw.host import Host

SECTOR_BYTES = 512
BACKUP_BYTES = 33 * SECTOR_BYTES  # the second table and its header, at the very end (UEFI 2.10, 5.3.1)


@dataclass(frozen=True, slots=True)
class Table:
    """Both copies of a partition table: the target's first MiB, and its last bytes from `tail_offset` on."""

    first: bytes
    tail_offset: int
    tail: bytes


def find_kept(path: str, labels: Sequence[str], host: Host) -> tuple[Kept, ...]:
    """The partitions of these labels. Raises TinyboxError for one that is not there once, or is the image's own."""
    if not labels:
        return ()
    try:
        table = json.loads(host.run(("sfdisk", "--json", path), timeout_s=60.0))["partitiontable"]
    except HardwareError:
        raise TinyboxError(f"{path} has no partition table: nothing to keep", hint="leave '--keep' out") from None
    found = []
    for label in labels:
        named = [item for item in table.get("partitions") or () if item.get("name") == label]
        if len(named) != 1 or label in OURS:
            why = "is the image's own" if label in OURS else f"is there {len(named)} times"
            there = ", ".join(repr(item.get("name") or "") for item in table.get("partitions") or ())
            raise TinyboxError(f"cannot keep '{label}' of {path}: it {why}", hint=f"its partitions: {there}")
        (item,) = named
        if table.get("label") != "gpt" or int(table.get("sectorsize", SECTOR_BYTES)) != SECTOR_BYTES:
            raise TinyboxError(
                f"cannot keep '{label}' of {path}: its table is of another kind", hint="save it elsewhere"
            )
        found.append(Kept(int(item["start"]), int(item["size"]), item["type"], item["uuid"], label))
    return tuple(found)


def check_kept(path: str, kept: Sequence[Kept], image_bytes: int) -> None:
    """Raises TinyboxError for a partition that lies where the image goes."""
    for item in kept:
        if item.start * SECTOR_BYTES < image_bytes:
            words = f"cannot keep '{item.label}' of {path}: it begins at byte {item.start * SECTOR_BYTES:,}"
            raise TinyboxError(f"{words}, and the image needs {image_bytes:,}", hint="save what is in it elsewhere")


def table_with(ends: Ends, kept: Sequence[Kept], disk_bytes: int) -> Table:
    """The image's table with these partitions added, for a disk of that size. Raises TinyboxError."""
    lines = [
        f"start={item.start}, size={item.size}, type={item.type}, uuid={item.uuid}, name={item.label}" for item in kept
    ]
    with layout(ends, disk_bytes) as path:
        command = ["sfdisk", "--append", "--no-reread", "--no-tell-kernel", "--quiet", str(path)]
        done = subprocess.run(
            command, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise TinyboxError(f"cannot put what is kept into the image's table: {said}", hint="nothing of it is lost")
        with path.open("rb") as file:
            first = file.read(len(ends.first))
            tail_offset = disk_bytes - BACKUP_BYTES
            file.seek(tail_offset)
            return Table(first, tail_offset, file.read(BACKUP_BYTES))


@contextmanager
def layout(ends: Ends, disk_bytes: int) -> Iterator[Path]:
    """A sparse file that has of the image what tells its partitions, as large as the target."""
    with NamedTemporaryFile() as file:
        file.truncate(max(disk_bytes, ends.size_bytes))
        file.seek(ends.last_start)
        file.write(ends.last)
        file.seek(0)
        file.write(ends.first)
        file.flush()
        yield Path(file.name)
