"""The one place that writes to a target: a drive or a regular file, past the page cache where the kernel lets us."""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import Protocol

from provisioning.artefact.manifest import SECTOR_BYTES
from tinybox.core.errors import TinyboxError

BLKDISCARD, BLKZEROOUT, BLKGETSIZE64, BLKRRPART = 0x1277, 0x127F, 0x80081272, 0x125F  # linux/fs.h
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2  # linux/falloc.h


class Disk(Protocol):
    """What a job writes to. All raise OSError; offsets and lengths in bytes."""

    @property
    def name(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    def write(self, offset: int, data: memoryview) -> None:
        """All of it, at this place."""

    def read_into(self, offset: int, into: memoryview) -> None:
        """Fill a buffer with what the medium holds, not with what was just written to memory."""

    def zero(self, offset: int, length: int) -> None:
        """Zeros from here on, at no cost where the device or file system can forget a range."""

    def discard(self, offset: int) -> None:
        """Tell an SSD that nothing from here on is needed; says nothing about what is read afterwards."""

    def flush(self) -> None:
        """On the medium when this returns."""

    def close(self) -> None: ...


class RealDisk:
    """A drive, held alone, or a regular file, locked. Raises TinyboxError when it cannot be had."""

    def __init__(self, path: Path, *, least_bytes: int) -> None:
        self.name = str(path)
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            self.is_device = path.exists() and stat.S_ISBLK(path.stat().st_mode)
            # A drive that is mounted, or part of an array or a volume group, cannot be opened so.
            flags |= os.O_EXCL if self.is_device else os.O_CREAT
            self._cached = os.open(path, flags, 0o644)
            if not self.is_device:
                fcntl.flock(self._cached, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(self._cached).st_size == 0:
                    os.truncate(self._cached, least_bytes)
        except OSError as error:
            busy = error.errno in (errno.EBUSY, errno.EWOULDBLOCK)
            hint = "unmount it, or end what uses it" if busy else ""
            raise TinyboxError(f"cannot open {path} for writing: {error.strerror}", hint=hint) from None
        self.size_bytes = self._measure()
        try:
            self._direct = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT)
        except OSError:  # a file system without direct access, as some in memory
            self._direct = os.dup(self._cached)

    def _measure(self) -> int:
        if not self.is_device:
            return os.fstat(self._cached).st_size
        return int(struct.unpack("<Q", fcntl.ioctl(self._cached, BLKGETSIZE64, bytes(8)))[0])

    def write(self, offset: int, data: memoryview) -> None:
        """See Disk. What is aligned goes past the page cache."""
        descriptor = self._direct if _is_aligned(offset, len(data)) else self._cached
        while data:
            written = os.pwrite(descriptor, data, offset)
            offset, data = offset + written, data[written:]

    def read_into(self, offset: int, into: memoryview) -> None:
        """See Disk. The page cache is emptied of the range first, for what cannot go past it."""
        os.posix_fadvise(self._cached, offset, len(into), os.POSIX_FADV_DONTNEED)
        descriptor = self._direct if _is_aligned(offset, len(into)) else self._cached
        while into:
            got = os.preadv(descriptor, [into], offset)
            if got == 0:
                raise OSError(errno.EIO, "the target ends too early")
            offset, into = offset + got, into[got:]

    def zero(self, offset: int, length: int) -> None:
        """See Disk."""
        if length == 0:
            return
        if self.is_device and _is_aligned(offset, length):
            fcntl.ioctl(self._cached, BLKZEROOUT, struct.pack("<QQ", offset, length))
            return
        if not self.is_device:
            try:
                _punch(self._cached, offset, length)
                return
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
        zeros = memoryview(bytes(min(length, 2**20)))
        for start in range(offset, offset + length, len(zeros)):
            piece = zeros[: min(len(zeros), offset + length - start)]
            if os.pwrite(self._cached, piece, start) != len(piece):
                raise OSError(errno.EIO, "zeros were not written whole")

    def discard(self, offset: int) -> None:
        """See Disk. Where it is not known, nothing happens."""
        if self.is_device:
            try:
                fcntl.ioctl(self._cached, BLKDISCARD, struct.pack("<QQ", offset, self.size_bytes - offset))
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY):
                    raise

    def flush(self) -> None:
        """See Disk."""
        os.fsync(self._cached)

    def close(self) -> None:
        """The kernel then looks for partitions anew."""
        os.close(self._direct)
        if self.is_device:
            with contextlib.suppress(OSError):  # a device without partitions, as a loop device may be
                fcntl.ioctl(self._cached, BLKRRPART)
        os.close(self._cached)


def _is_aligned(offset: int, length: int) -> bool:
    return offset % SECTOR_BYTES == 0 and length % SECTOR_BYTES == 0


def _punch(descriptor: int, offset: int, length: int) -> None:
    """fallocate(2) with a mode, which Python's os lacks."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, ctypes.c_longlong(offset))
    if libc.fallocate(*arguments, ctypes.c_longlong(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
