"""Every byte of an artefact against its manifest, without writing any."""

import hashlib
from collections.abc import Iterator

from provisioning.artefact.container import Artefact
from provisioning.artefact.frames import unpack_frame
from provisioning.artefact.source import Source
from tinybox.core.errors import TinyboxError

HINT = "fetch the artefact again; if it stays so, ask whoever made it"


def raw_frames(source: Source, artefact: Artefact) -> Iterator[bytes]:
    """The image, a frame at a time, each checked. Raises TinyboxError at the first that is not what was signed."""
    manifest = artefact.manifest
    for index, (frame, offset) in enumerate(zip(manifest.frames, artefact.offsets, strict=True)):
        stored = source.read(offset, frame.stored_bytes)
        try:
            yield unpack_frame(stored, frame, manifest.raw_bytes(index), where=frame_name(source, artefact, index))
        except TinyboxError as error:
            raise TinyboxError(error.message, hint=error.hint or HINT) from None


def frame_name(source: Source, artefact: Artefact, index: int) -> str:
    """A frame in words."""
    return f"{source.name}: frame {index + 1} of {len(artefact.manifest.frames)}, at byte {artefact.offsets[index]:,},"


def verify(source: Source, artefact: Artefact) -> Iterator[int]:
    """Yields the bytes of the image that are proven so far. Raises TinyboxError where it is not what was signed."""
    whole, done = hashlib.sha256(), 0
    for raw in raw_frames(source, artefact):
        whole.update(raw)
        done += len(raw)
        yield done
    if source.read(artefact.end, 1):
        raise TinyboxError(f"{source.name} has something behind its last frame", hint=HINT)
    if whole.hexdigest() != artefact.manifest.sha256:
        raise TinyboxError(f"{source.name}: the image as a whole is not what was signed", hint=HINT)
