"""One target's way from erased to whole. What it holds is judged by the signed manifest, never by what was written.

The order is what keeps a power cut harmless: the mark first, and with it nothing that starts; then everything between
the ends; then it is read back; then what makes this box another than the next; then the last MiB, and last the first.
"""

import hashlib
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from provisioning.artefact.manifest import SECTOR_BYTES, Manifest
from provisioning.flash.disk import Disk
from provisioning.flash.ends import end_frames
from provisioning.flash.fetch import TRIES, Fetcher
from provisioning.flash.keep import table_with
from provisioning.flash.mark import LENGTH, Mark, mark_bytes
from tinybox.core.errors import TinyboxError

ZERO_STEP_BYTES = 2**30
AGAIN = "run the same command again: it goes on where this one ended"


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person or a script wants to know: of which target, which phase, how far."""

    event: str
    target: str
    phase: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    message: str = ""


@dataclass(slots=True)
class Job:
    """`begin`, `write` for each frame, `finish`. Raises OSError and TinyboxError; the target stays marked then."""

    disk: Disk
    fetcher: Fetcher
    mark: Mark
    say: Callable[[Event], None]
    is_resumed: bool = False
    is_verified: bool = True
    erase: Callable[[], None] | None = None  # what else makes somebody see something on it
    personalise: Callable[[], None] | None = None
    threads: int = 1
    have: set[int] = field(default_factory=set)
    failure: str | None = None
    done_bytes: int = 0
    _own: threading.local = field(default_factory=threading.local)

    @property
    def manifest(self) -> Manifest:
        """What the target is to hold."""
        return self.fetcher.manifest

    def begin(self) -> None:
        """Nothing starts from it any more; what the image leaves empty is empty."""
        self._tell("begin")
        ends = self.fetcher.ends
        self.disk.write(0, _aligned(mark_bytes(self.mark)[: self.disk.size_bytes]))
        self.disk.flush()
        if self.erase is not None:
            self.erase()
        self.disk.zero(LENGTH, max(0, len(ends.first) - LENGTH))
        if not self.is_resumed and not self.mark.kept and self.disk.size_bytes > LENGTH:
            self.disk.discard(LENGTH)
        if self.is_resumed:
            self.have = set(self._right_frames(self._middle_frames(), "look"))
            self.done_bytes = sum(self.manifest.raw_bytes(index) for index in self.have)
        for offset, length in self._empty_ranges():
            if self.fetcher.stopped.is_set():
                raise TinyboxError("interrupted", hint=AGAIN)
            self.disk.zero(offset, length)
            self._progress("write", length)

    def write(self, index: int, raw: memoryview) -> None:
        """One frame, without what the ends hold back of it."""
        offset = index * self.manifest.frame_bytes
        start, end = self.fetcher.ends.middle(offset, len(raw))
        if start < end:
            self._write_again(start, raw[start - offset : end - offset])
        self._progress("write", len(raw))

    def finish(self) -> None:
        """Read back, personalise, and only then the ends."""
        self.disk.flush()
        if self.is_verified:
            self._mend(self._wrong_frames())
        if self.personalise is not None:
            self._tell("phase", "personalise")
            self.personalise()
        ends = self.fetcher.ends
        self._put(ends.last_start, bytes(ends.last))
        first = bytes(ends.first)
        if self.mark.kept:
            table = table_with(ends, self.mark.kept, self.disk.size_bytes)
            self._put(table.tail_offset, table.tail)
            first = table.first
        self._put(LENGTH, first[LENGTH:])
        self._put(0, first[:LENGTH].ljust(min(LENGTH, self.disk.size_bytes), b"\0"))
        self._tell("done")

    def _put(self, offset: int, data: bytes) -> None:
        """A part of an end, on the medium and compared when this returns."""
        if not data:
            return
        self.disk.write(offset, _aligned(data))
        self.disk.flush()
        if self.is_verified:
            found = self._buffer(len(data))
            self.disk.read_into(offset, found)
            if found != data:
                raise TinyboxError(f"{self.disk.name} does not hold at byte {offset:,} what was written", hint=AGAIN)

    def _write_again(self, offset: int, data: memoryview) -> None:
        """A write that fails is tried again: a cable's hiccup is over by then."""
        for attempt in range(1, TRIES + 1):
            try:
                self.disk.write(offset, data)
                return
            except OSError:
                if attempt == TRIES:
                    raise

    def _middle_frames(self) -> list[int]:
        ends = end_frames(self.manifest)
        return [index for index in range(len(self.manifest.frames)) if index not in ends]

    def _empty_ranges(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of what the image leaves empty between its ends, neighbours together."""
        size, ends = self.manifest.frame_bytes, self.fetcher.ends
        run: tuple[int, int] | None = None
        for index, is_used in enumerate((*self.manifest.is_used(), True)):
            if not is_used and index not in self.have:
                start, end = ends.middle(index * size, self.manifest.raw_bytes(index))
                if run is not None and run[1] == start and end - run[0] <= ZERO_STEP_BYTES:
                    run = run[0], end
                    continue
                if run is not None and run[0] < run[1]:
                    yield run[0], run[1] - run[0]
                run = start, end
            elif run is not None:
                if run[0] < run[1]:
                    yield run[0], run[1] - run[0]
                run = None

    def _wrong_frames(self) -> list[int]:
        frames = range(len(self.manifest.frames))
        right = set(self._right_frames(frames, "verify"))
        return [index for index in frames if index not in right]

    def _right_frames(self, frames: Sequence[int], phase: str) -> Iterator[int]:
        """Those that the target holds as the manifest says."""
        done = 0
        with ThreadPoolExecutor(self.threads) as pool:
            for index, found in zip(frames, pool.map(self._sha256, frames), strict=True):
                done += self.manifest.raw_bytes(index)
                self._tell("progress", phase, done, self.manifest.size_bytes)
                if found == self.manifest.frames[index].raw_sha256:
                    yield index

    def _sha256(self, index: int) -> str:
        """Of what the target holds of a frame, its ends thought to be there already. Raises when stopped."""
        if self.fetcher.stopped.is_set():
            raise TinyboxError("interrupted", hint=AGAIN)
        offset, length = index * self.manifest.frame_bytes, self.manifest.raw_bytes(index)
        found = self._buffer(length)
        self.disk.read_into(offset, found)
        self.fetcher.ends.overlay(offset, found)
        return hashlib.sha256(found).hexdigest()

    def _mend(self, wrong: list[int]) -> None:
        """Frames that do not read back are written again. Raises TinyboxError saying what was found."""
        for index in wrong:
            offset, expected = index * self.manifest.frame_bytes, self.manifest.frames[index].raw_sha256
            self._tell("retry", "verify", offset, self.manifest.size_bytes)
            seen = []
            for _ in range(TRIES):
                raw = _aligned(self.fetcher.raw(index))
                start, end = self.fetcher.ends.middle(offset, len(raw))
                if start < end:
                    self.disk.write(start, raw[start - offset : end - offset])
                    self.disk.flush()
                seen.append(self._sha256(index))
                if seen[-1] == expected:
                    break
            else:
                how = "each time the same" if len(set(seen)) == 1 else "each time something else: a bad cable or medium"
                words = f"{self.disk.name} does not keep what is written at byte {offset:,}"
                raise TinyboxError(f"{words}: SHA-256 {seen[-1][:16]}…, not {expected[:16]}…; {how}", hint=AGAIN)

    def _buffer(self, length: int) -> memoryview:
        """This thread's own, aligned for direct reads."""
        if getattr(self._own, "size", 0) < length:
            self._own.size = max(length, SECTOR_BYTES)
            self._own.buffer = mmap.mmap(-1, self._own.size)
        return memoryview(self._own.buffer)[:length]

    def _progress(self, phase: str, more_bytes: int) -> None:
        self.done_bytes += more_bytes
        self._tell("progress", phase, min(self.done_bytes, self.manifest.size_bytes), self.manifest.size_bytes)

    def _tell(self, event: str, phase: str = "", done: int = 0, total: int = 0) -> None:
        self.say(Event(event, self.disk.name, phase, done, total))


def _aligned(data: bytes) -> memoryview:
    """A copy where direct writes may begin."""
    buffer = mmap.mmap(-1, -(-len(data) // os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PAGE_SIZE"))
    buffer[: len(data)] = data
    return memoryview(buffer)[: len(data)]
