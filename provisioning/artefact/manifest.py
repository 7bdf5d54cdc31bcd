"""What an artefact says of itself: frames and their hashes, ranges in use, which image it is. Pure.

The manifest is what is signed. It is taken only in the one form that `encode` writes, so that two readers never
understand two things by the same bytes.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from tinybox.core.errors import TinyboxError

FORMAT = "tinybox-artefact-1"
MIB = 2**20
SECTOR_BYTES = 4096  # the largest of any drive: direct writes are multiples of it
FRAME_BYTES = 4 * MIB
MAX_FRAME_BYTES = 16 * MIB  # bounds the flasher's memory
MAX_SIZE_BYTES = 16 * 2**40
MAX_SEQUENCE = 2**53
NO_PROFILE = "none"
WORD = re.compile(r"[a-z0-9][a-z0-9._+~-]{0,63}")
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Release:
    """Which image it is. A higher `sequence` is a later one; `seed` names the seed format that the image reads."""

    id: str
    version: str
    sequence: int
    profile: str
    seed: str | None = None

    @property
    def comment(self) -> str:
        """The signature's trusted comment."""
        return f"tinybox artefact {self.id} version={self.version} sequence={self.sequence}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One zstd frame: its bytes in the artefact, and the hashes of those and of what they unpack to."""

    stored_bytes: int
    stored_sha256: str
    raw_sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Frame i unpacks to the bytes from i * `frame_bytes` on; `used` are (offset, length) of what is not zero."""

    release: Release
    size_bytes: int
    sha256: str
    minimum_disk_bytes: int
    frame_bytes: int
    frames: tuple[Frame, ...]
    used: tuple[tuple[int, int], ...]

    def raw_bytes(self, index: int) -> int:
        """What a frame unpacks to; only the last one may be short."""
        return min(self.frame_bytes, self.size_bytes - index * self.frame_bytes)

    @property
    def stored_bytes(self) -> int:
        """All frames together."""
        return sum(frame.stored_bytes for frame in self.frames)

    def is_used(self) -> tuple[bool, ...]:
        """Whether a frame holds anything but zeros, for each of them."""
        found = [False] * len(self.frames)
        for offset, length in self.used:
            for index in range(offset // self.frame_bytes, -(-(offset + length) // self.frame_bytes)):
                found[index] = True
        return tuple(found)


def encode(manifest: Manifest) -> bytes:
    """The one form of it: ASCII, a frame a line, so that two manifests can be compared by eye."""
    release = manifest.release
    head = {
        "format": FORMAT,
        "id": release.id,
        "version": release.version,
        "sequence": release.sequence,
        "profile": release.profile,
        "seed": release.seed,
        "size_bytes": manifest.size_bytes,
        "sha256": manifest.sha256,
        "minimum_disk_bytes": manifest.minimum_disk_bytes,
        "frame_bytes": manifest.frame_bytes,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items()]
    frames = (json.dumps([frame.stored_bytes, frame.stored_sha256, frame.raw_sha256]) for frame in manifest.frames)
    used = (json.dumps(list(extent)) for extent in manifest.used)
    text = "".join(lines) + '"frames": [\n' + ",\n".join(frames) + '],\n"used": [\n' + ",\n".join(used) + "]"
    return ("{" + text + "}\n").encode()


def decode(data: bytes, *, where: str) -> Manifest:
    """Read and check it. Raises TinyboxError, saying what is wrong, for whatever bytes."""
    try:
        table = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError):
        raise _refused(where, "it is not JSON in ASCII") from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise _refused(where, f"it is no {FORMAT}", hint="another version of tinybox-provision may have made it")
    try:
        manifest = _read(table)
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(where, str(error)) from None
    if encode(manifest) != data:
        raise _refused(where, "it is not in the one form that a manifest has")
    return manifest


def _refused(where: str, why: str, *, hint: str = "fetch the artefact again") -> TinyboxError:
    return TinyboxError(f"{where}: the manifest cannot be taken: {why}", hint=hint)


def _read(table: dict[str, Any]) -> Manifest:
    release = Release(
        id=_word(table, "id"),
        version=_word(table, "version"),
        sequence=_whole(table["sequence"], "sequence", 0, MAX_SEQUENCE),
        profile=_word(table, "profile"),
        seed=None if table["seed"] is None else _word(table, "seed"),
    )
    size_bytes = _whole(table["size_bytes"], "size_bytes", 1, MAX_SIZE_BYTES)
    frame_bytes = _whole(table["frame_bytes"], "frame_bytes", SECTOR_BYTES, MAX_FRAME_BYTES)
    if frame_bytes % SECTOR_BYTES:
        raise ValueError(f"frame_bytes is no multiple of {SECTOR_BYTES}")
    count = -(-size_bytes // frame_bytes)
    rows = _rows(table["frames"], "frames", 3)
    if len(rows) != count:
        raise ValueError(f"{len(rows)} frames, where the image's size makes {count}")
    most = frame_bytes + frame_bytes // 128 + 1024  # zstd's bound on what does not compress
    frames = tuple(
        Frame(_whole(row[0], "a frame's size", 1, most), _hash(row[1], "a frame"), _hash(row[2], "a frame"))
        for row in rows
    )
    return Manifest(
        release=release,
        size_bytes=size_bytes,
        sha256=_hash(table["sha256"], "sha256"),
        minimum_disk_bytes=_whole(table["minimum_disk_bytes"], "minimum_disk_bytes", size_bytes, MAX_SIZE_BYTES),
        frame_bytes=frame_bytes,
        frames=frames,
        used=_extents(_rows(table["used"], "used", 2), size_bytes),
    )


def _extents(rows: list[list[Any]], size_bytes: int) -> tuple[tuple[int, int], ...]:
    """Ranges in order, none of them empty, apart from each other and inside the image."""
    end = -1
    found = []
    for row in rows:
        offset = _whole(row[0], "a used range", 0, size_bytes - 1)
        length = _whole(row[1], "a used range", 1, size_bytes - offset)
        if offset <= end:
            raise ValueError("used ranges overlap or are not in order")
        end = offset + length
        found.append((offset, length))
    return tuple(found)


def _rows(value: Any, name: str, columns: int) -> list[list[Any]]:
    if not isinstance(value, list) or not all(isinstance(row, list) and len(row) == columns for row in value):
        raise ValueError(f"{name} is no list of {columns} columns")
    return value


def _word(table: dict[str, Any], key: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not WORD.fullmatch(value):
        raise ValueError(f"{key} is no plain word")
    return value


def _hash(value: Any, name: str) -> str:
    if not isinstance(value, str) or not HASH.fullmatch(value):
        raise ValueError(f"the hash of {name} is no SHA-256")
    return value


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is no whole number from {least} to {most}")
    return value


def check_release(release: Release) -> Release:
    """As it is, when it can stand in a manifest. Raises TinyboxError naming what cannot."""
    names = {"id": release.id, "version": release.version, "profile": release.profile, "seed": release.seed}
    for name, value in names.items():
        if value is not None and not WORD.fullmatch(value):
            hint = "small letters, digits and . _ + ~ - after the first"
            raise TinyboxError(f"the image's {name} is {value!r}, which is no plain word", hint=hint)
    if not 0 <= release.sequence <= MAX_SEQUENCE:
        raise TinyboxError(f"the image's sequence is {release.sequence}", hint="a whole number from 0 on")
    return release
