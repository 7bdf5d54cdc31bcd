"""The daemon's side of the failsafe: heartbeats out, answers in, and the list of writes for when they stop."""

import contextlib
import logging
import os
import socket
import time
from pathlib import Path

from tinybox.core.config import FAILSAFE_LIST

log = logging.getLogger("tinyboxd")


class Heartbeat:
    """Speaks to the failsafe of this run folder, whether or not one runs there. Never blocks, never raises."""

    def __init__(self, folder: Path) -> None:
        self._address = str(folder / "failsafe.sock")
        self._list = folder / FAILSAFE_LIST
        self._answered_s: float | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.bind("")  # Linux chooses an abstract name: something to be answered at

    def beat(self) -> None:
        """One sign of life, which carries its time; the answers so far say how old the last one heard is."""
        with contextlib.suppress(OSError):
            # Anew every time: a failsafe that was restarted has another socket. And connected, only it may answer.
            self._socket.connect(self._address)
            self._socket.send(f"{time.monotonic():.3f}".encode())
            while True:
                self._answered_s = float(self._socket.recv(64))

    def age_s(self, now_s: float) -> float | None:
        """Seconds since the last beat that was answered; None: none ever was."""
        return None if self._answered_s is None else max(0.0, now_s - self._answered_s)

    def forget(self) -> None:
        """No list: nothing is to be written whoever falls silent."""
        with contextlib.suppress(OSError):
            self._list.unlink(missing_ok=True)

    def prepare(self, writes: tuple[tuple[str, str], ...]) -> None:
        """Make these (path, text) the failsafe's list, whole or not at all; a list that says so already is kept."""
        content = "".join(path + "\t" + text.replace("\n", "\\n") + "\n" for path, text in writes).encode()
        try:
            if self._list.exists() and self._list.read_bytes() == content:
                return
            self._list.parent.mkdir(parents=True, exist_ok=True)
            draft = self._list.with_suffix(f".{os.getpid()}")
            draft.write_bytes(content)
            draft.replace(self._list)
        except OSError as error:
            log.warning("cannot write %s: %s", self._list, error.strerror)
