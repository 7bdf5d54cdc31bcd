"""A web server on loopback with one file, and with the bad manners that real ones have."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves `data`; counts what was asked of it.

    `knows_ranges`: answers them. `cut_after`: ends each connection after so many bytes. `lies`: so many times a byte of
    what it sends is another. `stall_at`: stands still before that byte. `claims`: the size it tells.
    """

    def __init__(
        self,
        data: bytes,
        *,
        knows_ranges: bool = True,
        cut_after: int | None = None,
        lies: int = 0,
        stall_at: int | None = None,
        refuses: int = 0,
    ) -> None:
        self.data, self.knows_ranges, self.cut_after = data, knows_ranges, cut_after
        self.lies, self.stall_at, self.refuses = lies, stall_at, refuses
        self.requests: list[int] = []
        self.stalled, self._end = threading.Event(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/box.tbx"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                first = int(found[1]) if found and server.knows_ranges else 0
                server.requests.append(first)
                if self.path != "/box.tbx" or server.refuses:
                    server.refuses = max(0, server.refuses - 1)
                    self.send_error(404 if self.path != "/box.tbx" else 503)
                    return
                self.send_response(206 if found and server.knows_ranges else 200)
                if found and server.knows_ranges:
                    self.send_header("Content-Range", f"bytes {first}-{len(server.data) - 1}/{len(server.data)}")
                self.send_header("Content-Length", str(len(server.data) - first))
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                server.send(self, first)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def send(self, handler: BaseHTTPRequestHandler, first: int) -> None:
        end = len(self.data) if self.cut_after is None else min(len(self.data), first + self.cut_after)
        for at in range(first, end, 65536):
            piece = bytearray(self.data[at : min(at + 65536, end)])
            if self.lies and at > len(self.data) // 2:
                self.lies -= 1
                piece[len(piece) // 2] ^= 4
            if self.stall_at is not None and at + len(piece) > self.stall_at:
                self.stalled.set()
                self._end.wait(60)
                return
            try:
                handler.wfile.write(piece)
            except OSError:
                return

    def __enter__(self) -> "Server":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._server.shutdown()
        self._server.server_close()
