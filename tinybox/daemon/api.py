"""The daemon's face: HTTP and JSON on a Unix socket. It only answers questions, so everybody on the box may ask."""

import asyncio
import socket
import threading
import time
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tinybox.core.wire import status_json
from tinybox.daemon.loop import Tick
from tinybox.screen import status_text

START_TIMEOUT_S = 60.0
HUNG_PERIODS = 10


class Board:
    """The latest tick, for whoever asks; replaced whole, so no lock is needed."""

    def __init__(self, box: str) -> None:
        self.box = box
        self.tick: Tick | None = None

    def publish(self, tick: Tick) -> None:
        """Show this tick from now on."""
        self.tick = tick


def application(board: Board) -> Starlette:
    """The routes. 503 until the first tick, and from /healthz when the loop hangs."""

    async def status(_: Request) -> Response:
        if (tick := board.tick) is None:
            return _starting()
        body = status_json(tick.snapshot, tick.decision, source="daemon", box=board.box)
        return Response(body, media_type="application/json")

    async def status_screen(request: Request) -> Response:
        if (tick := board.tick) is None:
            return _starting()
        columns = request.query_params.get("columns", "80")
        if not columns.isdecimal():
            return PlainTextResponse(f"columns is '{columns}': it wants a whole number\n", status_code=400)
        colour = request.query_params.get("colour", "0") == "1"
        text = status_text(
            tick.snapshot, tick.decision, source="daemon", box=board.box, columns=int(columns), colour=colour
        )
        return PlainTextResponse(text)

    async def health(_: Request) -> Response:
        if (tick := board.tick) is None:
            return _starting()
        age_s = time.monotonic() - tick.snapshot.time_s
        if age_s > HUNG_PERIODS * tick.decision.period_s:
            return PlainTextResponse(f"the loop has not turned for {age_s:.1f} s\n", status_code=503)
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/status", status), Route("/status.txt", status_screen), Route("/healthz", health)])


def _starting() -> Response:
    return PlainTextResponse("starting: no reading yet\n", status_code=503)


def listen(path: Path) -> socket.socket:
    """The API's socket at `path`, in place of a stale one. Only the holder of the daemon's lock may call this."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o666)  # it only answers questions
    return listener


class Server:
    """uvicorn in a thread of its own, so that a slow client never delays the loop."""

    def __init__(self, board: Board, listener: socket.socket) -> None:
        config = uvicorn.Config(
            application(board),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._listener = listener
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)

    def start(self) -> None:
        """Serve; returns once clients are answered."""
        self._thread.start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline_s:
            time.sleep(0.01)

    def stop(self) -> None:
        """End politely."""
        self._server.should_exit = True
        self._thread.join(timeout=5.0)

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))
