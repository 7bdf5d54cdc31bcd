"""The daemon's socket as calls. Imports next to nothing: `tinybox status` is asked for often and should answer at once.

`_socket` is the C module under `socket`, whose enums alone cost as much time as the whole answer.
"""

import _socket

from tinybox.core.errors import TinyboxError

TIMEOUT_S = 10.0
MOST_BYTES = 16 * 2**20


class DaemonAbsent(Exception):
    """Nobody answers on the socket; the message says whether it is missing or stale."""


def fetch(socket_path: str, target: str, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """GET `target` and return the body.

    Errors: DaemonAbsent when the socket is missing or nobody listens; TinyboxError when the daemon answers badly,
    late, or may not be asked.
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(socket_path)
        connection.send(f"GET {target} HTTP/1.1\r\nHost: tinybox\r\nConnection: close\r\n\r\n".encode())
        received = bytearray()
        while (chunk := connection.recv(65536)) and len(received) < MOST_BYTES:
            received += chunk
    except FileNotFoundError:
        raise DaemonAbsent(f"tinyboxd is not running (no socket at {socket_path})") from None
    except ConnectionRefusedError:
        raise DaemonAbsent(f"tinyboxd is not running (the socket at {socket_path} is stale)") from None
    except TimeoutError:
        hint = "see 'systemctl status tinyboxd' and 'journalctl -u tinyboxd'"
        raise TinyboxError(f"tinyboxd did not answer {target} within {timeout_s:g} s", hint=hint) from None
    except PermissionError:
        raise TinyboxError(f"may not open {socket_path}", hint="ask as root") from None
    except OSError as error:
        raise TinyboxError(f"cannot talk to {socket_path}: {error.strerror}", hint="restart tinyboxd") from None
    finally:
        connection.close()
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or status[1] != b"200":
        answer = body.decode(errors="replace").strip() or head.decode(errors="replace")
        raise TinyboxError(f"tinyboxd refused {target}: {answer}", hint="see 'journalctl -u tinyboxd'")
    return body
