"""systemd's notification protocol (sd_notify(3)): readiness and the watchdog's heartbeat."""

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Says things to the service manager; silent where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ is systemd's way to write an abstract socket's NUL.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None

    def ready(self, status: str) -> None:
        """The daemon holds the budget and answers."""
        self._send(f"READY=1\nSTATUS={status}")

    def beat(self) -> None:
        """The loop is alive."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The daemon is on its way out on purpose."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(OSError):  # a deaf manager must never stop the loop that guards the outlet
            self._socket.sendto(message.encode(), self._address)
