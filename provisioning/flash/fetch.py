"""Frames out of the artefact for whoever writes, each judged by its hash, and asked for again where it is wrong."""

import threading

from provisioning.artefact.container import Artefact
from provisioning.artefact.frames import unpack_frame
from provisioning.artefact.source import Source
from provisioning.artefact.verify import HINT, frame_name
from provisioning.flash.ends import Ends
from tinybox.core.errors import TinyboxError

TRIES = 3


class Fetcher:
    """One artefact, read by several threads."""

    def __init__(self, source: Source, artefact: Artefact) -> None:
        self._source = source
        self._artefact = artefact
        self._lock = threading.Lock()
        self.stopped = threading.Event()  # nobody goes on: the flash was interrupted
        self.manifest = artefact.manifest
        self.ends = Ends(artefact.manifest.size_bytes)

    def stored(self, index: int) -> bytes:
        """A frame as it lies in the artefact, not judged. Raises TinyboxError."""
        with self._lock:
            return self._source.read(self._artefact.offsets[index], self.manifest.frames[index].stored_bytes)

    def unpack(self, index: int, stored: bytes) -> bytes:
        """A frame's part of the image; a frame that is not what was signed is read again. Raises TinyboxError."""
        where = frame_name(self._source, self._artefact, index)
        for attempt in range(1, TRIES + 1):
            try:
                raw = unpack_frame(stored, self.manifest.frames[index], self.manifest.raw_bytes(index), where=where)
                break
            except TinyboxError as error:
                if attempt == TRIES:
                    raise TinyboxError(f"{error.message}; read {TRIES} times", hint=HINT) from None
                stored = self.stored(index)
        self.ends.hold(index * self.manifest.frame_bytes, raw)
        return raw

    def raw(self, index: int) -> bytes:
        """The same, read now."""
        return self.unpack(index, self.stored(index))
