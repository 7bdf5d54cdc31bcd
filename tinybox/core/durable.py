"""Files that survive a power cut whole, and a lock that two programs share."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

POLL_S = 0.02


def write_durably(files: Mapping[Path, str]) -> None:
    """These files with these texts, on the disk when this returns; where one cannot be written, all are as they were.

    Raises OSError.
    """
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in files}
    try:
        for path, draft in drafts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("w") as file:
                file.write(files[path])
                file.flush()
                os.fsync(file.fileno())
        for path, draft in drafts.items():
            draft.replace(path)
    finally:
        for draft in drafts.values():
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
    for folder in {path.parent for path in files}:
        _sync_folder(folder)


class Seen:
    """A file that somebody else writes, and whether it is another than at the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at_ns: int | None = None

    def is_new(self) -> bool:
        """Whether it changed, came or went since; the first look is news."""
        try:
            at_ns = self._path.stat().st_mtime_ns
        except OSError:
            at_ns = 0
        is_new, self._at_ns = at_ns != self._at_ns, at_ns
        return is_new


def remove_durably(path: Path) -> None:
    """No such file from now on, also after a power cut. Raises OSError."""
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


@contextlib.contextmanager
def held(path: Path, *, is_shared: bool, timeout_s: float) -> Iterator[None]:
    """The lock, for its owner's programs alone. Raises TimeoutError when somebody keeps it, OSError without access."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whoever may open it can keep the daemon from writing: nobody but its owner may.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline_s = time.monotonic() + timeout_s
        while not _try_lock(descriptor, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{path} is held by another program")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
