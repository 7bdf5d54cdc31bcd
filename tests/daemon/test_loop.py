"""The loop and what surrounds it, on a machine made by hand."""

import itertools
import json
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.daemon.serving import serving
from tests.policy.conftest import card, machine, obey
from tinybox.client import fetch
from tinybox.core.actions import Action
from tinybox.core.box import load_box
from tinybox.core.config import Config, DaemonConfig
from tinybox.core.errors import TinyboxError
from tinybox.core.snapshot import Snapshot
from tinybox.daemon.api import Board
from tinybox.daemon.loop import Loop, Tick
from tinybox.daemon.main import hold_lock
from tinybox.daemon.notify import Notifier

RED = load_box("red")
FAST = Config(daemon=DaemonConfig(period_s=0.02, idle_period_s=0.02))


class HandMadeMachine:
    """Six cards that obey; its time is the number of looks."""

    def __init__(self) -> None:
        self.snapshot = machine(RED)

    def read(self) -> Snapshot:
        """The next look, a tenth of a second later."""
        self.snapshot = replace(self.snapshot, time_s=self.snapshot.time_s + 0.1)
        return self.snapshot

    def apply(self, actions: tuple[Action, ...]) -> None:
        """Every card does as told."""
        gpus = {gpu.id: gpu for gpu in self.snapshot.gpus}
        for action in actions:
            gpus[action.device] = obey(gpus[action.device], action)
        self.snapshot = replace(self.snapshot, gpus=tuple(gpus.values()))


def some_ticks(count: int) -> list[Tick]:
    ticks: list[Tick] = []
    loop = Loop(HandMadeMachine(), RED, FAST, lambda tick: (ticks.append(tick), len(ticks) >= count and loop.stop()))
    loop.run()
    return ticks


def test_the_loop_publishes_what_it_saw_and_did() -> None:
    ticks = some_ticks(20)
    assert len(ticks) == 20
    assert ticks[0].decision.actions
    assert not ticks[-1].decision.actions
    assert ticks[-1].snapshot.gpus[0].clock_limit_mhz != card(0, RED).clock_limit_mhz


def test_the_loop_ends_when_told() -> None:
    loop = Loop(HandMadeMachine(), RED, Config(), lambda tick: None)
    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_the_api_answers_what_it_promises(tmp_path: Path) -> None:
    board = Board("red")
    with serving(board, tmp_path / "s") as path:
        with pytest.raises(TinyboxError, match="starting: no reading yet"):
            fetch(path, "/status")
        board.publish(some_ticks(1)[0])
        assert json.loads(fetch(path, "/status"))["source"] == "daemon"
        assert "of 1,426 W" in fetch(path, "/status.txt?columns=100").decode()
        assert b"\x1b[" in fetch(path, "/status.txt?columns=100&colour=1")
        with pytest.raises(TinyboxError, match="columns is 'wide'"):
            fetch(path, "/status.txt?columns=wide")
        with pytest.raises(TinyboxError, match="Not Found"):
            fetch(path, "/nothing")


def test_health_says_when_the_loop_hangs(tmp_path: Path) -> None:
    board = Board("red")
    board.publish(some_ticks(1)[0])  # its clock began at zero, long ago by the machine's own
    with serving(board, tmp_path / "s") as path, pytest.raises(TinyboxError, match="has not turned"):
        fetch(path, "/healthz")


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as old:
        old.bind(str(tmp_path / "s"))
    with serving(Board("red"), tmp_path / "s") as path, pytest.raises(TinyboxError, match="no reading yet"):
        fetch(path, "/status")


def test_two_daemons_at_once_are_refused_with_the_holder_named(tmp_path: Path) -> None:
    with hold_lock(tmp_path), pytest.raises(TinyboxError, match=r"already runs \(process \d+\)"):
        hold_lock(tmp_path)
    hold_lock(tmp_path).close()


def test_the_service_manager_hears_of_readiness_and_of_every_beat(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.ready("governing")
        notifier.beat()
        assert manager.recv(100) == b"READY=1\nSTATUS=governing"
        assert manager.recv(100) == b"WATCHDOG=1"


def test_a_deaf_service_manager_is_no_reason_to_stop(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).beat()
    Notifier({}).beat()


def test_a_woken_loop_takes_its_turn_before_its_rest_is_over_and_a_storm_makes_it_no_faster() -> None:
    config = Config(daemon=DaemonConfig(period_s=0.05, idle_period_s=60.0))
    times_s: list[float] = []

    def publish(tick: Tick) -> None:
        if tick.decision.period_s < 60.0:
            return
        times_s.append(time.monotonic())
        if len(times_s) == 5:
            loop.stop()

    loop = Loop(HandMadeMachine(), RED, config, publish)
    storm = threading.Event()

    def blow() -> None:
        while not storm.wait(0.0005):
            loop.wake()

    thread = threading.Thread(target=blow)
    thread.start()
    try:
        loop.run()
    finally:
        storm.set()
        thread.join()
    rests_s = [after - before for before, after in itertools.pairwise(times_s)]
    assert all(0.05 <= rest_s < 60.0 for rest_s in rests_s)
