"""The loop: read, decide, apply, publish, wait. No arithmetic beyond its own times."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tinybox.core.actions import Action
from tinybox.core.box import Box
from tinybox.core.commission import Commission
from tinybox.core.config import Config
from tinybox.core.decision import Decision
from tinybox.core.snapshot import Snapshot
from tinybox.policy.decide import Memory, decide, fresh_memory

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
    ) -> None:
        self._machine = machine
        self._box = box
        self._config = config
        self._publish = publish
        self._beat = beat
        self._stop = threading.Event()

    def stop(self) -> None:
        """End after the current turn; safe to call from a signal handler."""
        self._stop.set()

    def run(self, commission: Commission | None = None) -> None:
        """Turn until stopped; `commission` is what was measured of this box. Any exception is a bug and leaves here."""
        memory = fresh_memory(self._config, commission)
        deadline_s = time.monotonic()
        while not self._stop.is_set():
            decision, memory = self.turn(memory)
            # The deadline advances by the period, so the cadence does not drift; a late loop starts afresh.
            deadline_s = max(deadline_s + decision.period_s, time.monotonic())
            self._wait_until(deadline_s)

    def _wait_until(self, deadline_s: float) -> None:
        self._beat()
        while deadline_s - time.monotonic() > BEAT_S and not self._stop.wait(BEAT_S):
            self._beat()
        self._stop.wait(deadline_s - time.monotonic())

    def turn(self, memory: Memory) -> tuple[Decision, Memory]:
        """One tick."""
        snapshot = self._machine.read()
        began_s = time.perf_counter()
        decision, memory = decide(snapshot, self._box, self._config, memory)
        decision_s = time.perf_counter() - began_s
        self._machine.apply(decision.actions)
        self._publish(Tick(snapshot, decision, decision_s))
        return decision, memory
