"""The loop: read, decide, apply, publish, wait. No arithmetic beyond its own times."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from tinybox.core.actions import Action
from tinybox.core.box import Box
from tinybox.core.commission import Commission
from tinybox.core.config import Config
from tinybox.core.decision import Decision
from tinybox.core.health import Finding
from tinybox.core.quiet import Quiet
from tinybox.core.snapshot import Snapshot
from tinybox.policy.decide import Memory, decide, fresh_memory
from tinybox.policy.noise import Acoustics

BEAT_S = 0.1


class Readable(Protocol):
    """What the loop needs of a machine."""

    def read(self) -> Snapshot: ...

    def apply(self, actions: tuple[Action, ...]) -> None: ...


@dataclass(frozen=True, slots=True)
class Tick:
    """One turn of the loop, as published."""

    snapshot: Snapshot
    decision: Decision
    decision_s: float = 0.0  # it took to decide
    findings: tuple[Finding, ...] = ()
    health_s: float = 0.0  # it took to judge health the last time


class Loop:
    """Governs one machine until told to stop. `publish` gets every tick, after its actions were applied.

    `beat` is called ten times a second or once a turn, by the loop's own thread: when a turn hangs it is not.
    """

    def __init__(
        self,
        machine: Readable,
        box: Box,
        config: Config,
        publish: Callable[[Tick], None],
        beat: Callable[[], None] = lambda: None,
        listen: Callable[[], tuple[Acoustics | None, Quiet | None]] = lambda: (None, None),
    ) -> None:
        self._machine = machine
        self._box = box
        self._config = config
        self._publish = publish
        self._beat = beat
        self._listen = listen
        self._stop = threading.Event()
        self._woken = threading.Event()

    def stop(self) -> None:
        """End after the current turn; safe to call from a signal handler."""
        self._stop.set()
        self._woken.set()

    def wake(self) -> None:
        """Take the next turn as soon as a period of work allows, however long it was to rest."""
        self._woken.set()

    def run(self, commission: Commission | None = None) -> None:
        """Turn until stopped; `commission` is what was measured of this box. Any exception is a bug and leaves here."""
        memory = fresh_memory(self._config, commission)
        deadline_s = time.monotonic()
        while not self._stop.is_set():
            decision, memory = self.turn(memory)
            # The deadline advances by the period, so the cadence does not drift; a late loop starts afresh.
            deadline_s = max(deadline_s + decision.period_s, time.monotonic())
            self._wait_until(deadline_s)
            if self._woken.is_set():
                self._woken.clear()
                deadline_s = time.monotonic()

    def _wait_until(self, deadline_s: float) -> None:
        """Whoever wakes it, a period of work passes: a storm of news makes no turn come sooner than that."""
        soonest_s = min(time.monotonic() + self._config.daemon.period_s, deadline_s)
        self._rest_until(soonest_s, self._stop)
        if soonest_s < deadline_s:
            self._rest_until(deadline_s, self._woken)

    def _rest_until(self, time_s: float, cut: threading.Event) -> None:
        self._beat()
        while time_s - time.monotonic() > BEAT_S and not cut.wait(BEAT_S):
            self._beat()
        cut.wait(time_s - time.monotonic())

    def turn(self, memory: Memory) -> tuple[Decision, Memory]:
        """One tick."""
        snapshot = self._machine.read()
        began_s = time.perf_counter()
        acoustics, quiet = self._listen()
        if acoustics is not memory.acoustics or quiet is not memory.quiet:
            memory = replace(memory, acoustics=acoustics, quiet=quiet)
        decision, memory = decide(snapshot, self._box, self._config, memory)
        decision_s = time.perf_counter() - began_s
        self._machine.apply(decision.actions)
        self._publish(Tick(snapshot, decision, decision_s))
        return decision, memory
