"""The records of `/dev/kmsg` (kernel: Documentation/ABI/testing/dev-kmsg), from where the last look ended.

The device gives one record a read and never waits; a twin or a recorded machine has a file with the same records in
lines.
"""

import contextlib
import errno
import os
import stat
from dataclasses import dataclass

RECORD_BYTES = 8192  # the kernel refuses to give a record to a smaller buffer
MOST_RECORDS = 4000  # of one look: a storm is read in portions
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """One record: level as syslog's, microseconds since boot."""

    level: int
    time_us: int
    text: str


def parse_record(line: str) -> Record | None:
    """One record's first line; None for a continuation or what is no record."""
    head, semicolon, text = line.partition(";")
    parts = head.split(",")
    if not semicolon or len(parts) < 3 or not (parts[0].isdecimal() and parts[2].isdecimal()):
        return None
    return Record(int(parts[0][:6]) & 7, int(parts[2][:18]), text.rstrip("\n"))


class Kmsg:
    """One reader of the log. `read` gives what came since the last time; a file that shrank is begun anew."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._is_device = False
        self._offset = 0
        self._begun = b""  # of a line that is not whole yet

    def read(self) -> tuple[list[Record], bool]:
        """New records, and whether all that was read before is void. Raises OSError."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._is_device = stat.S_ISCHR(os.fstat(self._descriptor).st_mode)
        lines, is_void = (self._from_device(), False) if self._is_device else self._from_file()
        return [record for line in lines if (record := parse_record(line)) is not None], is_void

    def close(self) -> None:
        """Let the descriptor go; the next look begins at the oldest record."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._offset, self._begun = -1, 0, b""

    def __del__(self) -> None:
        self.close()

    def _from_device(self) -> list[str]:
        found: list[str] = []
        for _ in range(MOST_RECORDS):
            try:
                data = os.read(self._descriptor, RECORD_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten before we came: go on with the oldest that is left
                    continue
                raise
            if not data:
                break
            found.append(data.decode("utf-8", "replace").partition("\n")[0])
        return found

    def _from_file(self) -> tuple[list[str], bool]:
        is_void = False
        with contextlib.suppress(OSError):
            # Read, not asked of stat: a file made on demand has no true size.
            is_void = self._offset > 0 and not os.pread(self._descriptor, 1, self._offset - 1)
        if is_void:
            self._offset, self._begun = 0, b""
        data = os.pread(self._descriptor, MOST_BYTES, self._offset)
        self._offset += len(data)
        *lines, self._begun = (self._begun + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines], is_void
