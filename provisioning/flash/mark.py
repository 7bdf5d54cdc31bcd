"""The mark of a flash that is not finished: the first block, which nothing else may fill until everything else is there.

A block of 4 KiB is what drives write whole or not at all, so the last write turns the mark into a partition table. It
says which artefact was being written, so that the next run goes on; which frames are there already is not noted
anywhere but read and compared.
"""

import json
from dataclasses import dataclass

LENGTH = 4096
WORDS = b"tinybox: not bootable, a flash was not finished; 'tinybox-provision flash' goes on with it\n"


@dataclass(frozen=True, slots=True)
class Mark:
    """SHA-256 of the manifest that was being written, and the image's name for people."""

    manifest_sha256: str
    image: str


def mark_bytes(mark: Mark) -> bytes:
    """One block."""
    text = WORDS + json.dumps({"manifest_sha256": mark.manifest_sha256, "image": mark.image}).encode() + b"\n"
    return text.ljust(LENGTH, b"\0")


def find_mark(block: bytes) -> Mark | None:
    """The mark in the block that was read from its place; None where there is none."""
    if not block.startswith(WORDS):
        return None
    try:
        table = json.loads(block[len(WORDS) :].rstrip(b"\0"))
        return Mark(str(table["manifest_sha256"]), str(table["image"]))
    except (ValueError, KeyError, TypeError):
        return Mark("", "an unknown image")
