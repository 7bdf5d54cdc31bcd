"""One frame in, one frame out; nothing is believed that its hash does not say."""

import hashlib
import threading

import zstandard

from provisioning.artefact.manifest import Frame
from tinybox.core.errors import TinyboxError

_OWN = threading.local()  # zstandard's contexts belong to one thread each


def pack_frame(raw: bytes, level: int) -> tuple[bytes, Frame]:
    """The frame's bytes and what the manifest says of them. The same bytes in give the same bytes out."""
    if getattr(_OWN, "level", None) != level:
        _OWN.compressor, _OWN.level = zstandard.ZstdCompressor(level=level, write_checksum=True), level
    stored = _OWN.compressor.compress(raw)
    return stored, Frame(len(stored), hashlib.sha256(stored).hexdigest(), hashlib.sha256(raw).hexdigest())


def unpack_frame(stored: bytes, frame: Frame, raw_bytes: int, *, where: str) -> bytes:
    """What was packed. Raises TinyboxError before a byte is unpacked that was not signed, and for one that is wrong."""
    if len(stored) != frame.stored_bytes:
        raise TinyboxError(f"{where} is cut off after {len(stored):,} of {frame.stored_bytes:,} bytes")
    if hashlib.sha256(stored).hexdigest() != frame.stored_sha256:
        raise TinyboxError(f"{where} is not what was signed: its hash is another")
    try:
        # A frame that claims gigabytes is refused before memory is taken for it.
        if zstandard.frame_content_size(stored) != raw_bytes:
            raise TinyboxError(f"{where} does not unpack to the {raw_bytes:,} bytes that the manifest says")
        if not hasattr(_OWN, "decompressor"):
            _OWN.decompressor = zstandard.ZstdDecompressor()
        raw = bytes(_OWN.decompressor.decompress(stored, max_output_size=raw_bytes, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise TinyboxError(f"{where} is no zstd frame: {error}") from None
    if hashlib.sha256(raw).hexdigest() != frame.raw_sha256:
        raise TinyboxError(f"{where} unpacks to something else than what was packed")
    return raw
