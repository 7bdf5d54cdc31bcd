"""The daemon's face: HTTP on a Unix socket. It only answers questions, so everybody on the box may ask."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from tinybox.core.errors import TinyboxError
from tinybox.core.health import health_document
from tinybox.core.schema import schema_of_answers
from tinybox.core.wire import status_document, status_json
from tinybox.daemon.endpoint import Endpoint, Numbers, Parameter, route
from tinybox.daemon.loop import Tick
from tinybox.daemon.totals import Totals
from tinybox.screen import status_text

START_TIMEOUT_S = 60.0
HUNG_PERIODS = 10
TEXT = "text/plain"
EXPOSITION = "text/plain; version=0.0.4"  # of Prometheus
ON_THE_NETWORK = ("/metrics", "/healthz")  # and nothing else, where the owner opens a port
# linux/in.h, linux/in6.h: the address may come later than we do; Python has no names for them.
FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}
SCREEN = (
    Parameter("columns", "how wide the terminal is", default=80, most=9999),
    Parameter("colour", "1: with ANSI sequences", default=0, most=1),
)

Door = tuple[Starlette, socket.socket]

log = logging.getLogger("tinyboxd")


class Board:
    """The latest tick, for whoever asks; replaced whole, so no lock is needed."""

    def __init__(self, box: str) -> None:
        self.box = box
        self.tick: Tick | None = None
        self.totals = Totals()

    def publish(self, tick: Tick) -> None:
        """Show this tick from now on."""
        self.totals.note(tick)
        self.tick = tick


def endpoints(board: Board) -> tuple[Endpoint, ...]:
    """All there is to ask. What few ask for is imported when they do."""

    def status(tick: Tick, _: Numbers) -> str:
        return status_json(tick.snapshot, tick.decision, source="daemon", box=board.box)

    def status_screen(tick: Tick, numbers: Numbers) -> str:
        columns, colour = numbers["columns"], numbers["colour"] == 1
        return status_text(tick.snapshot, tick.decision, source="daemon", box=board.box, columns=columns, colour=colour)

    def health(tick: Tick, _: Numbers) -> str:
        document = health_document(tick.findings, source="daemon", box=board.box, unix_s=tick.snapshot.unix_s)
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def liveness(tick: Tick, _: Numbers) -> str:
        age_s = time.monotonic() - tick.snapshot.time_s
        if age_s > HUNG_PERIODS * tick.decision.period_s:
            raise HTTPException(503, f"the loop has not turned for {age_s:.1f} s\n")
        return "ok\n"

    def metrics(tick: Tick, _: Numbers) -> str:
        from tinybox.daemon.metrics import exposition

        return exposition(tick, board.totals, board.box)

    def document(_: Tick, __: Numbers) -> str:
        from tinybox.daemon.openapi import openapi_json

        return openapi_json(endpoints(board))

    return (
        Endpoint("/status", "the status document", "application/json", status, schema=status_schema),
        Endpoint("/status.txt", "the screen that 'tinybox status' prints", TEXT, status_screen, SCREEN),
        Endpoint("/health", "every check and its answer", "application/json", health, schema=health_schema),
        Endpoint("/healthz", "whether the loop turns", TEXT, liveness),
        Endpoint("/metrics", "every figure, for Prometheus", EXPOSITION, metrics),
        Endpoint("/openapi.json", "this document", "application/json", document, schema=lambda: {"type": "object"}),
    )


def status_schema() -> dict[str, object]:
    """What a status document looks like."""
    return schema_of_answers(status_document)


def health_schema() -> dict[str, object]:
    """What the answer of /health looks like."""
    return schema_of_answers(health_document)


def application(board: Board, paths: Iterable[str] | None = None) -> Starlette:
    """The routes: all of them, or those named. 503 until the first tick, and from /healthz when the loop hangs."""
    wanted = [one for one in endpoints(board) if paths is None or one.path in paths]
    return Starlette(routes=[route(endpoint, lambda: board.tick) for endpoint in wanted])


def doors(board: Board, path: Path, address: tuple[str, int] | None) -> tuple[Door, ...]:
    """The socket at `path` and the owner's port for Prometheus. One that is taken is no reason not to govern."""
    everything = (application(board), listen(path))
    if address is None:
        return (everything,)
    try:
        return (everything, (application(board, ON_THE_NETWORK), listen_to_network(address)))
    except TinyboxError as error:
        log.warning("%s (%s)", error.message, error.hint)
        return (everything,)


def listen(path: Path) -> socket.socket:
    """The API's socket at `path`, in place of a stale one. Only the holder of the daemon's lock may call this."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o666)  # it only answers questions
    return listener


def listen_to_network(address: tuple[str, int]) -> socket.socket:
    """A TCP socket there, also before the machine has that address. Raises TinyboxError where the port is taken."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(*FREEBIND[family], 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        what = f"cannot listen for metrics on {address[0]} port {address[1]}: {error.strerror}"
        raise TinyboxError(what, hint="set metrics.listen to a free port") from None
    return listener


class Server:
    """uvicorn in a thread of its own, so that a slow client never delays the loop. Each listener has its own routes."""

    def __init__(self, *doors: Door) -> None:
        self._served = [(uvicorn.Server(_config(app)), listener) for app, listener in doors]
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)

    def start(self) -> None:
        """Serve; returns once clients are answered."""
        self._thread.start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._has_started() and self._thread.is_alive() and time.monotonic() < deadline_s:
            time.sleep(0.01)

    def stop(self) -> None:
        """End politely."""
        for server, _ in self._served:
            server.should_exit = True
        self._thread.join(timeout=5.0)

    def _has_started(self) -> bool:
        return all(server.started for server, _ in self._served)

    def _serve(self) -> None:
        async def together() -> None:
            await asyncio.gather(*(server.serve(sockets=[listener]) for server, listener in self._served))

        asyncio.run(together())


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
