"""Health in the daemon's turn: judged once a second, kept over restarts, told when it changes.

Files are written by a thread of their own: a drive that stalls delays no turn.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tinybox.core.actions import SetCap
from tinybox.core.box import Box
from tinybox.core.config import Config
from tinybox.core.decision import Alert
from tinybox.core.durable import Seen, write_durably
from tinybox.core.health import RAISED, Ack, Finding, HealthEvent, Status, acknowledged, changes
from tinybox.core.healthfile import (
    ACKS,
    KNOWN,
    SavedFigure,
    SavedHealth,
    SavedTrouble,
    add_history,
    health_text,
    load_acks,
    load_health,
)
from tinybox.core.snapshot import Fault, GpuState, Snapshot
from tinybox.daemon.loop import Tick
from tinybox.policy.checks.check import Answer, Asked
from tinybox.policy.health import HealthMemory, Raised, alerts_of, judge

PERIOD_S = 2.0
SAVE_EVERY_S = 600.0
STOP_S = 3.0

log = logging.getLogger("tinyboxd")


class Keeper:
    """Writes what it is told to, one after the other, without anybody waiting."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_always, name="health-keeper", daemon=True)
        self._thread.start()

    def put(self, job: Callable[[], None]) -> None:
        """Do this when it is its turn."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Finish what is waiting."""
        self._jobs.put(None)
        self._thread.join(timeout=STOP_S)

    def _write_always(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except OSError as error:
                log.warning("health cannot be kept: %s", error)


class Watch:
    """Judges one session's box."""

    def __init__(self, state: Path, box: Box, config: Config, keeper: Keeper) -> None:
        self.took_s = 0.0
        self._state, self._box, self._config, self._keeper = state, box, config, keeper
        self._memory = _remembered(load_health(state, box.name))
        self._findings: tuple[Finding, ...] = ()
        self._alerts: tuple[Alert, ...] = ()
        self._due_s = self._save_due_s = float("-inf")
        self._asked: dict[str, Asked] = {}
        self._written: dict[str, Asked] = {}
        self._refusals: dict[str, Fault] = {}
        self._acks: tuple[Ack, ...] = ()
        self._acks_file = Seen(state / ACKS)
        self._is_begun = bool(self._memory.raised)

    def look(self, tick: Tick) -> Tick:
        """The tick with what health says of it, judged anew every two seconds."""
        self._follow_writes(tick)
        if tick.snapshot.time_s >= self._due_s:
            began_s = time.perf_counter()
            self._judge(tick.snapshot)
            self.took_s = time.perf_counter() - began_s
            # A little less than the period: turns come at that pace when nobody works, and none may be skipped.
            self._due_s = tick.snapshot.time_s + 0.9 * PERIOD_S
        decision = replace(tick.decision, alerts=(*tick.decision.alerts, *self._alerts))
        return replace(tick, decision=decision, findings=self._findings, health_s=self.took_s)

    def close(self) -> None:
        """Keep what is known now."""
        self._save()

    def _follow_writes(self, tick: Tick) -> None:
        for gpu in tick.snapshot.gpus:
            if gpu.state is not GpuState.AWAKE:
                self._asked.pop(gpu.id, None)  # whatever comes back has the factory's limits
        for fault in tick.snapshot.faults:
            if fault.is_refusal:
                self._refusals[fault.device] = fault
                self._written.pop(fault.device, None)  # it is not in force: gpu.limits says so
        self._asked |= self._written
        self._written = {}  # whether it was refused is known in the next turn
        for action in tick.decision.actions if tick.snapshot.is_armed else ():
            if isinstance(action, SetCap):
                self._written[action.device] = Asked(action.cap_w)

    def _judge(self, snapshot: Snapshot) -> None:
        shown = {fault.device for fault in snapshot.faults if fault.is_refusal}
        missed = tuple(fault for device, fault in self._refusals.items() if device not in shown)
        self._refusals.clear()
        seen = replace(snapshot, faults=(*snapshot.faults, *missed))
        asked = self._asked if snapshot.is_armed else {}
        findings, self._memory = judge(seen, self._box, self._config, self._memory, asked=asked)
        findings = acknowledged(findings, self._current_acks())
        self._tell(changes(self._findings, findings, snapshot.unix_s))
        self._findings, self._alerts = findings, alerts_of(findings)
        if snapshot.time_s >= self._save_due_s:
            self._save_due_s = snapshot.time_s + SAVE_EVERY_S
            self._save()

    def _current_acks(self) -> tuple[Ack, ...]:
        if self._acks_file.is_new():
            self._acks = load_acks(self._state)
        return self._acks

    def _tell(self, events: tuple[HealthEvent, ...]) -> None:
        fresh = tuple(event for event in events if not self._is_echo(event))
        self._is_begun = False
        if events:
            self._save()
        if fresh:
            self._keeper.put(lambda: add_history(self._state, fresh))

    def _is_echo(self, event: HealthEvent) -> bool:
        """Whether a first look only finds what was raised before the restart."""
        if not self._is_begun or event.what != "raised":
            return False
        finding_since = self._memory.raised
        keys = [f"{event.id} {device}" for device in event.devices]
        return all(key in finding_since and finding_since[key].since_unix_s < event.unix_s - 0.001 for key in keys)

    def _save(self) -> None:
        memory = self._memory
        raised = tuple(
            SavedTrouble(key, one.status, one.since_unix_s, memory.times.get(key, ()))
            for key, one in memory.raised.items()
            if one.status in RAISED
        )
        baseline = tuple(SavedFigure(key, float(value)) for key, value in sorted(memory.baseline.items()))
        text = health_text(SavedHealth(self._box.name, baseline, raised))
        self._keeper.put(lambda: write_durably({self._state / KNOWN: text}))


def _remembered(saved: SavedHealth) -> HealthMemory:
    """What a daemon that just started knows: what was raised is raised until a look says otherwise."""
    raised = {}
    for one in saved.raised:
        if one.status in RAISED:
            status = Status(one.status)
            device = one.key.partition(" ")[2]
            raised[one.key] = Raised(status, one.since_unix_s, Answer(device, status))
    times = {one.key: one.times_unix_s for one in saved.raised}
    return HealthMemory(raised=raised, times=times, baseline={one.key: one.value for one in saved.baseline})
