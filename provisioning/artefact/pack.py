"""An image into an artefact. The same image, key and level give the same bytes, on every machine and at every time."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import minisign

from provisioning.artefact.container import head_bytes
from provisioning.artefact.frames import pack_frame
from provisioning.artefact.keys import sign
from provisioning.artefact.manifest import FRAME_BYTES, Frame, Manifest, Release, encode
from tinybox.core.errors import TinyboxError

LEVEL = 3  # what FACTS' sizes are of; each step up costs seconds and gains a few per cent
BLOCK_BYTES = 64 * 1024  # what the block map tells apart
ZEROS = bytes(BLOCK_BYTES)
WINDOW = 2 * (os.cpu_count() or 1)

Progress = Callable[[int, int], None]  # bytes done, bytes in all


def pack(
    image: Path, release: Release, key: minisign.SecretKey | None, out: Path, *, frame_bytes: int = FRAME_BYTES,
    progress: Progress = lambda _done, _all: None,
) -> Manifest:  # fmt: skip
    """Write the artefact, unsigned without a key; it appears whole or not at all. Raises TinyboxError."""
    if out.exists() and out.samefile(image):
        raise TinyboxError(f"{out} is the image itself", hint="name another file for the artefact")
    try:
        size_bytes = _size(image)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent) as frames, image.open("rb") as source:
            manifest = _pack_frames(source, size_bytes, release, frames, frame_bytes, progress)
            encoded = encode(manifest)
            signature = b"" if key is None else sign(key, encoded, release.comment)
            _publish(out, head_bytes(encoded, signature), frames)
    except OSError as error:
        where = error.filename or out
        raise TinyboxError(f"cannot pack {image} into {out}: {where}: {error.strerror}") from None
    return manifest


def _size(image: Path) -> int:
    """Of a file or a whole drive."""
    with image.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
    if size_bytes == 0:
        raise TinyboxError(f"{image} is empty", hint="'make image' builds an image")
    return size_bytes


def _pack_frames(
    source: BinaryIO, size_bytes: int, release: Release, frames: BinaryIO, frame_bytes: int, progress: Progress
) -> Manifest:
    whole = hashlib.sha256()
    entries: list[Frame] = []
    extents: list[tuple[int, int]] = []
    waiting: deque[Future[tuple[bytes, Frame]]] = deque()

    def take() -> None:
        stored, entry = waiting.popleft().result()
        frames.write(stored)
        entries.append(entry)
        progress(min(size_bytes, len(entries) * frame_bytes), size_bytes)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        offset = 0
        for raw in _pieces(source, size_bytes, frame_bytes):
            waiting.append(pool.submit(pack_frame, raw, LEVEL))
            whole.update(raw)
            _note_used(extents, raw, offset)
            offset += len(raw)
            while len(waiting) >= WINDOW:
                take()
        while waiting:
            take()
    if offset != size_bytes or source.read(1):
        raise TinyboxError(f"{source.name} changed while it was read", hint="let nobody write to it, then pack again")
    return Manifest(
        release=release,
        size_bytes=size_bytes,
        sha256=whole.hexdigest(),
        minimum_disk_bytes=size_bytes,
        frame_bytes=frame_bytes,
        frames=tuple(entries),
        used=tuple(extents),
    )


def _pieces(source: BinaryIO, size_bytes: int, length: int) -> Iterator[bytes]:
    left = size_bytes
    while left > 0 and (raw := source.read(min(length, left))):
        left -= len(raw)
        yield raw


def _note_used(extents: list[tuple[int, int]], raw: bytes, base: int) -> None:
    """Add the blocks of these bytes that are not all zero; neighbours become one range."""
    for start in range(0, len(raw), BLOCK_BYTES):
        length = min(BLOCK_BYTES, len(raw) - start)
        if raw[start : start + length] == ZEROS[:length]:
            continue
        if extents and sum(extents[-1]) == base + start:
            extents[-1] = (extents[-1][0], extents[-1][1] + length)
        else:
            extents.append((base + start, length))


def _publish(out: Path, head: bytes, frames: BinaryIO) -> None:
    """Under its name only once all of it is on the disk."""
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(head)
            frames.seek(0)
            shutil.copyfileobj(frames, file, 2**20)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(out)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
