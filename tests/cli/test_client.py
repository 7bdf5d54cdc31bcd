"""The socket as calls: who answers, who does not, and what is said then."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tinybox.client import DaemonAbsent, fetch
from tinybox.core.errors import TinyboxError


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A server that gives one answer to one question, and keeps the question."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join(timeout=5)


def test_the_body_of_a_good_answer_is_returned(tmp_path: Path) -> None:
    with answering(tmp_path / "s", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{}\r\n") as asked:
        assert fetch(str(tmp_path / "s"), "/status") == b"{}\r\n"
    assert asked[0].startswith(b"GET /status HTTP/1.1\r\n")


def test_an_absent_socket_is_a_daemon_that_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(DaemonAbsent, match="no socket at"):
        fetch(str(tmp_path / "none"), "/status")


def test_a_stale_socket_is_called_stale(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "s"))
    with pytest.raises(DaemonAbsent, match="is stale"):
        fetch(str(tmp_path / "s"), "/status")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\nstarting: no reading yet\n", "starting: no reading yet"),
        (b"", "refused"),
        (b"garbage", "garbage"),
    ],
)
def test_a_bad_answer_is_repeated_in_one_line(answer: bytes, words: str, tmp_path: Path) -> None:
    with answering(tmp_path / "s", answer), pytest.raises(TinyboxError) as caught:
        fetch(str(tmp_path / "s"), "/status")
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_a_daemon_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(TinyboxError, match="did not answer"):
            fetch(str(tmp_path / "s"), "/status", timeout_s=0.05)
