"""The mark of a flash that is not finished: the first block, which is the image's only when all else is there.

A block of 4 KiB is what drives write whole or not at all, so the last write turns the mark into a partition table. It
says which artefact was being written, so that the next run goes on; which frames are there already is not noted
anywhere but read and compared.
"""

import json
from dataclasses import asdict, dataclass

from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table

LENGTH = 4096
WORDS = b"tinybox: not bootable, a flash was not finished; 'tinybox-provision flash' goes on with it\n"


@dataclass(frozen=True, slots=True)
class Kept:
    """A partition that outlives the flash: its row of the old table, `start` and `size` in sectors of 512 bytes."""

    start: int
    size: int
    type: str
    uuid: str
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """SHA-256 of the manifest that was being written, the image's name for people, and what was to be kept."""

    manifest_sha256: str
    image: str
    kept: tuple[Kept, ...] = ()


def mark_bytes(mark: Mark) -> bytes:
    """One block."""
    text = WORDS + json.dumps(asdict(mark)).encode() + b"\n"
    if len(text) > LENGTH:
        raise TinyboxError("more partitions are to be kept than can be remembered", hint="keep fewer")
    return text.ljust(LENGTH, b"\0")


def find_mark(block: bytes) -> Mark | None:
    """The mark in the block that was read from its place; None where there is none."""
    if not block.startswith(WORDS):
        return None
    try:
        table = json.loads(block[len(WORDS) :].rstrip(b"\0"))
        return read_table(Mark, table, where="mark")
    except (ValueError, TinyboxError):
        return Mark("", "an unknown image")
