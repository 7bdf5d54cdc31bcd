"""What a check is, what it may look at, and how it answers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum

from tinybox.core.box import Box
from tinybox.core.config import Config
from tinybox.core.health import Status
from tinybox.core.snapshot import Gpu, GpuState, Severity, Snapshot
from tinybox.policy.checks.past import CardPast, Swing, Window


class Step(IntEnum):
    """What to do, mildest first; what comes back goes one further."""

    RESTART_JOB = 0
    RESET_GPU = 1
    REBOOT = 2
    POWER_CYCLE = 3
    REPLACE = 4


STEP_WORDS = {
    Step.RESTART_JOB: "restart the job",
    Step.RESET_GPU: "reset the card (amdgpu: read amdgpu_gpu_recover in debugfs; NVIDIA: 'nvidia-smi -r')",
    Step.REBOOT: "reboot",
    Step.POWER_CYCLE: "shut down and cut the power at the supplies for ten seconds: a warm boot may not be enough",
    Step.REPLACE: "replace the part",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one device has to say to one check. An empty `limit` or `advice` is the check's own."""

    device: str
    status: Status
    evidence: str = ""
    limit: str = ""
    advice: str = ""
    step: Step | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The limits that were last written to a card by us."""

    cap_w: float | None = None


@dataclass(slots=True)
class Look:
    """One moment as checks see it. What they keep for the next one goes into `windows` and `cards`."""

    now: Snapshot
    box: Box
    config: Config
    windows: dict[str, Window]
    cards: dict[str, CardPast]
    baseline: dict[str, float] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    swings: dict[str, Swing] = field(default_factory=dict)
    is_only: bool = False  # no other look comes before or after it
    _faults: dict[str, list[str]] | None = None

    @property
    def is_slow_known(self) -> bool:
        """Whether controller, drives and the rest of the slow parts were read at all."""
        return self.now.slow_time_s is not None

    def reasons(self, device: str) -> list[str]:
        """Why the device could not be read, refusals of writes left out."""
        if self._faults is None:
            self._faults = {}
            for fault in self.now.faults:
                if not fault.is_refusal:
                    self._faults.setdefault(fault.device, []).append(fault.reason)
        return self._faults.get(device, [])

    def awake(self, vendor: str | None = None) -> list[Gpu]:
        """Cards that can be looked at: of this vendor, or all."""
        gpus = (gpu for gpu in self.now.gpus if gpu.state is GpuState.AWAKE)
        return [gpu for gpu in gpus if vendor is None or gpu.vendor == vendor]

    def rise(self, key: str, value: float, span_s: float) -> float:
        """By how much a counter rose within the span, as far as we have watched; it may start anew."""
        window = self.windows.get(key, Window(span_s)).added(self.now.time_s, value)
        self.windows[key] = window
        return window.rise()

    def beyond(self, key: str, value: float) -> float:
        """By how much it is above what was found at the very first look at this machine."""
        return value - self.baseline.setdefault(key, value)

    def absent(self, device: str) -> Answer:
        """For a figure that is not there: could it not be read, or has the device none?"""
        reasons = self.reasons(device)
        return Answer(device, Status.UNKNOWN, reasons[0]) if reasons else Answer(device, Status.NA, "not told")


Judge = Callable[[Look], Iterable[Answer]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check, and all that its row in docs/health.md says. It is raised after lasting for `after_s`."""

    id: str
    reads: str
    limit: str
    source: str
    advice: str
    judge: Judge
    severity: Severity = Severity.WARNING
    after_s: float = 2.0
    holds_s: float = 3.0
    is_slow: bool = False  # it judges what is read by the slow thread
    is_told: bool = True  # as an alert; false where the driver's own fault already is one


def good(device: str, evidence: str = "") -> Answer:
    """Nothing to say."""
    return Answer(device, Status.OK, evidence)


def warn(device: str, evidence: str, *, limit: str = "", advice: str = "", step: Step | None = None) -> Answer:
    """It should be looked at."""
    return Answer(device, Status.WARN, evidence, limit, advice, step)


def crit(device: str, evidence: str, *, limit: str = "", advice: str = "", step: Step | None = None) -> Answer:
    """Something is broken, or soon will be."""
    return Answer(device, Status.CRIT, evidence, limit, advice, step)


def above(device: str, value: float, *, warn_at: float, crit_at: float, unit: str) -> Answer:
    """By two limits that grow worse upwards."""
    evidence, limit = f"{value:.0f}{unit}", f"{warn_at:.0f}{unit} / {crit_at:.0f}{unit}"
    if value >= crit_at:
        return crit(device, evidence, limit=limit)
    if value >= warn_at:
        return warn(device, evidence, limit=limit)
    return replace(good(device, evidence), limit=limit)
