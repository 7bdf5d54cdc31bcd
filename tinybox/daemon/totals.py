"""What the loop has done since it began, as counters."""

from collections.abc import Mapping

from tinybox.core.actions import (
    EndWork,
    FreezeWork,
    LimitGpuFan,
    PowerOff,
    ReleaseFans,
    SetCap,
    SetClockLimit,
    SetCpuCap,
    SetFanDuty,
)
from tinybox.daemon.loop import Tick
from tinybox.policy.pace import is_late

LEVERS = {
    SetCap: "gpu_cap",
    SetClockLimit: "gpu_clock",
    SetCpuCap: "cpu_cap",
    SetFanDuty: "fans",
    ReleaseFans: "fans",
    LimitGpuFan: "gpu_fan",
}
STEPS = {FreezeWork: "freeze", EndWork: "end", PowerOff: "off"}


class Totals:
    """The loop's thread counts, the API's reads: the keys are all there from the beginning, so neither waits."""

    def __init__(self) -> None:
        self.turns = 0
        self.late_turns = 0
        self.decision_s = 0.0
        self.writes = dict.fromkeys(LEVERS.values(), 0)
        self.interventions = dict.fromkeys(STEPS.values(), 0)
        self.told: Mapping[str, Mapping[str, int]] = {}  # messages to the owner, by way out and what became of them
        self._last: Tick | None = None
        self._step: str | None = None

    def note(self, tick: Tick) -> None:
        """One more turn."""
        last, self._last = self._last, tick
        self.turns += 1
        self.decision_s += tick.decision_s
        if last is not None and is_late(tick.snapshot.time_s - last.snapshot.time_s, last.decision.period_s):
            self.late_turns += 1
        for action in tick.decision.actions:
            if (lever := LEVERS.get(type(action))) is not None:
                self.writes[lever] += 1
            else:
                self._note_step(None if action == FreezeWork(is_frozen=False) else STEPS[type(action)])

    def _note_step(self, step: str | None) -> None:
        """A step against work is repeated while it lasts and counts once; None: work goes on."""
        if step is not None and step != self._step:
            self.interventions[step] += 1
        self._step = step
