"""How manifest, signature and frames lie in one file that stock `zstd -dc` unpacks.

Two skippable frames come first, so that everything is known, and judged, before the first byte of the image is read:

    0x184D2A54  length  manifest
    0x184D2A55  length  signature, in minisign's format
    zstd frame, zstd frame, ...                            up to the last byte of the file

Skippable frames: RFC 8878, section 3.1.2.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import minisign

from provisioning.artefact.keys import trusted_comment
from provisioning.artefact.manifest import Manifest, decode
from tinybox.core.errors import TinyboxError

MANIFEST_MAGIC = 0x184D2A54
SIGNATURE_MAGIC = 0x184D2A55
HEADER = struct.Struct("<II")
MAX_MANIFEST_BYTES = 64 * 2**20
MAX_SIGNATURE_BYTES = 4096
HINT = "fetch it again, or ask whoever made it"

ReadAt = Callable[[int, int], bytes]  # offset, length in bytes: exactly so many, fewer only at the end of the file


@dataclass(frozen=True, slots=True)
class Head:
    """What comes before the frames, as it lies there."""

    manifest: bytes
    signature: bytes

    @property
    def length_bytes(self) -> int:
        """Where the first frame begins."""
        return 2 * HEADER.size + len(self.manifest) + len(self.signature)


@dataclass(frozen=True, slots=True)
class Artefact:
    """An artefact that was taken: what it says, where each frame lies, and whether a trusted key signed it."""

    manifest: Manifest
    head: Head
    offsets: tuple[int, ...]
    end: int
    is_signed: bool


def head_bytes(manifest: bytes, signature: bytes) -> bytes:
    """Both skippable frames."""
    parts = (MANIFEST_MAGIC, manifest), (SIGNATURE_MAGIC, signature)
    return b"".join(HEADER.pack(magic, len(payload)) + payload for magic, payload in parts)


def read_head(read: ReadAt, *, where: str) -> Head:
    """The first two frames, never more of the file than they may have. Raises TinyboxError."""
    manifest = _payload(read, 0, MANIFEST_MAGIC, MAX_MANIFEST_BYTES, where=f"{where}: the manifest")
    offset = HEADER.size + len(manifest)
    return Head(manifest, _payload(read, offset, SIGNATURE_MAGIC, MAX_SIGNATURE_BYTES, where=f"{where}: the signature"))


def _payload(read: ReadAt, offset: int, magic: int, most_bytes: int, *, where: str) -> bytes:
    header = read(offset, HEADER.size)
    if len(header) < HEADER.size:
        raise TinyboxError(f"{where} is missing: the file ends", hint=HINT)
    found, length = HEADER.unpack(header)
    if found != magic:
        hint = "an artefact is made by 'tinybox-provision pack'; an image without one cannot be checked"
        raise TinyboxError(f"{where} is missing: this is no artefact", hint=hint)
    if length > most_bytes:
        raise TinyboxError(f"{where} says it has {length:,} bytes, more than the {most_bytes:,} it may have", hint=HINT)
    payload = read(offset + HEADER.size, length)
    if len(payload) < length:
        raise TinyboxError(f"{where} is cut off after {len(payload):,} of {length:,} bytes", hint=HINT)
    return payload


def open_artefact(
    read: ReadAt,
    size_bytes: int | None,
    trust: minisign.PublicKey | None,
    *,
    where: str,
    is_unsigned_allowed: bool = False,
) -> Artefact:
    """Judge all that comes before the frames; without a key whoever calls has decided to trust nobody's signature.

    `size_bytes` is the file's, None where its holder does not tell. Raises TinyboxError; nothing was written by then.
    """
    head = read_head(read, where=where)
    if trust is not None and not head.signature and not is_unsigned_allowed:
        raise TinyboxError(f"{where} is not signed", hint="'--allow-unsigned' takes it all the same")
    comment = None
    if trust is not None and head.signature:
        comment = trusted_comment(trust, head.manifest, head.signature, where=where)
    manifest = decode(head.manifest, where=where)
    if comment is not None and comment != manifest.release.comment:
        hint = "the two were not made together: do not use it"
        raise TinyboxError(f"{where}: signed as '{comment}', but the manifest is of another release", hint=hint)
    offsets, offset = [], head.length_bytes
    for frame in manifest.frames:
        offsets.append(offset)
        offset += frame.stored_bytes
    if size_bytes is not None and size_bytes != offset:
        what = "is cut off" if size_bytes < offset else "has something behind its last frame"
        raise TinyboxError(f"{where} {what}: {size_bytes:,} bytes, and it says {offset:,}", hint=HINT)
    return Artefact(manifest, head, tuple(offsets), offset, is_signed=comment is not None)
