"""The real server in this process, for tests that need no twin."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinybox.daemon.api import Board, Server, doors


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    media_type: str
    text: str


@contextmanager
def serving(board: Board, path: Path, address: tuple[str, int] | None = None) -> Iterator[str]:
    """The API on a real socket, and on a port where there is an address."""
    server = Server(*doors(board, path, address))
    server.start()
    try:
        yield str(path)
    finally:
        server.stop()


def ask(address: str | tuple[str, int], target: str) -> Answer:
    """GET from a Unix socket's path, or a host and port."""
    connection = http.client.HTTPConnection("tinybox", timeout=30)
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    connection.sock = socket.socket(family, socket.SOCK_STREAM)
    connection.sock.settimeout(30)
    connection.sock.connect(address)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        return Answer(response.status, response.headers["content-type"], response.read().decode())
    finally:
        connection.close()


def free_address() -> tuple[str, int]:
    """A loopback port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as found:
        found.bind(("127.0.0.1", 0))
        return "127.0.0.1", int(found.getsockname()[1])
