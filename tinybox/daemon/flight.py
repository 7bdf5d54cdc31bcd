"""The flight recorder: every turn into a bounded file that survives a sudden power loss (docs/flight-recorder.md).

All writing is in a thread of its own: a drive that stalls for seconds delays nothing, and loses at most what no longer
fits the queue.
"""

import contextlib
import fcntl
import logging
import os
import struct
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

from tinybox.core.box import Box
from tinybox.core.errors import TinyboxError
from tinybox.core.flight import (
    CRASH_FILE,
    NOW_FILE,
    Flight,
    file_bytes,
    found_by,
    pack_header,
    pack_record,
    place_of,
    read_flight,
    read_header,
)
from tinybox.daemon.loop import Tick

SYNC_S = 1.0
QUEUE = 600  # turns: a minute of a drive that does not answer
RETRY_S = 60.0
STOP_S = 5.0
SHORT_S, RECENT_S = 30.0, 3600.0  # a run so short does not displace what led to it so shortly before
# <linux/fs.h>: a ring that is overwritten for ever would fragment a copy-on-write file system
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_NOCOW_FL = 0x80086601, 0x40086602, 0x00800000

log = logging.getLogger("tinyboxd")


class Recorder:
    """Takes ticks from the loop without waiting; a thread writes them down once a second."""

    def __init__(self, folder: Path, box: Box, boot: str) -> None:
        self._folder = folder
        self._flight = Flight(box.name, boot, time.time(), len(box.slots), box.fans.count)
        self._pending: deque[Tick] = deque(maxlen=QUEUE)
        self._number = 0
        self._descriptor = -1
        self._due_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write_always, name="flight-recorder", daemon=True)

    def start(self) -> None:
        """Put a crash's curve aside, begin a new one, and write from now on."""
        self._thread.start()

    def note(self, tick: Tick) -> None:
        """One turn. Never waits."""
        self._pending.append(tick)

    def stop(self, *, is_clean: bool) -> None:
        """Write what is left; a clean end is noted, so that nobody takes it for a crash."""
        self._flight = replace(self._flight, is_clean=is_clean)
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_S)

    def _write_always(self) -> None:
        self._try_to_write()
        while not self._stopping.wait(SYNC_S):
            self._try_to_write()
        self._try_to_write()
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, pack_header(self._flight), 0)
                os.fdatasync(self._descriptor)
            os.close(self._descriptor)

    def _try_to_write(self) -> None:
        if time.monotonic() < self._due_s:
            return
        try:
            if self._descriptor < 0:
                keep_crash(self._folder, self._flight.boot)
                self._descriptor = _create(self._folder, self._flight)
            self._write()
        except OSError as error:
            self._due_s = time.monotonic() + RETRY_S
            log.warning("the flight recorder cannot write to %s: %s", self._folder, error.strerror)

    def _write(self) -> None:
        if not self._pending:
            return
        while self._pending:
            tick = self._pending.popleft()
            self._number += 1
            data = pack_record(self._flight, self._number, tick.snapshot, tick.decision)
            os.pwrite(self._descriptor, data, place_of(self._flight, self._number))
        os.fdatasync(self._descriptor)


def keep_crash(folder: Path, boot: str) -> None:
    """Put the curve of a run that ended without a clean stop aside. Raises OSError."""
    path, kept = folder / NOW_FILE, folder / CRASH_FILE
    flight = read_header(path)
    if flight is None or flight.is_clean or _is_echo(path, kept):
        return
    with path.open("r+b") as file:
        file.write(pack_header(found_by(flight, boot)))
        file.flush()
        os.fsync(file.fileno())
    path.replace(kept)


def _is_echo(path: Path, kept: Path) -> bool:
    """Whether this run is one of a row of short ones: the first of them tells more."""
    try:
        (_, now), (_, before) = read_flight(path), read_flight(kept)
    except TinyboxError:
        return False
    if not now or not before:
        return not now
    is_short = now[-1].time_s - now[0].time_s < SHORT_S
    return is_short and 0 <= now[0].unix_s - before[-1].unix_s < RECENT_S


def _create(folder: Path, flight: Flight) -> int:
    """A new file in place of the old, written whole: no later write needs space, or a change of the file system's."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{NOW_FILE}"
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _forbid_copies(descriptor)
        os.pwrite(descriptor, bytes(file_bytes(flight)), 0)
        os.pwrite(descriptor, pack_header(flight), 0)
        os.fsync(descriptor)
        draft.replace(folder / NOW_FILE)
    except OSError:
        os.close(descriptor)
        draft.unlink(missing_ok=True)  # a disk that is full needs it
        raise
    return descriptor


def _forbid_copies(descriptor: int) -> None:
    """Written in place from now on, where the file system would copy otherwise; others know no such thing."""
    with contextlib.suppress(OSError):
        flags = struct.unpack("i", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(4)))[0]
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("i", flags | FS_NOCOW_FL))
