"""How often to look: fast while cards work, slow while none does, slower on a machine that cannot keep up."""

from dataclasses import dataclass, replace

from tinybox.core.config import DaemonConfig
from tinybox.core.snapshot import GpuState, Snapshot

BUSY_PCT = 1.0
LINGER_S = 5.0  # work often pauses for a moment: stay fast that long after the last of it
LATE_FRACTION = 0.5  # of a period: later than this is a missed beat
MISSED_BEATS = 8  # in a row, before the rate is halved
SLOWEST_S = 3.2
RETRY_S = 300.0  # after so long at a rate that holds, the next faster one gets a chance


@dataclass(frozen=True, slots=True)
class PaceMemory:
    """`working_period_s` is the rate this machine proved able to hold."""

    working_period_s: float
    last_busy_s: float | None = None
    last_time_s: float | None = None
    asked_period_s: float | None = None
    missed: int = 0
    slowed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The next period, and the words for an alert when it is slower than asked."""

    period_s: float
    slow_reason: str | None


def start_pace(config: DaemonConfig) -> PaceMemory:
    """Begin at the configured rate."""
    return PaceMemory(working_period_s=config.period_s)


def is_late(after_s: float, asked_period_s: float) -> bool:
    """Whether a look that came so long after the one before it was a missed beat."""
    return after_s - asked_period_s > LATE_FRACTION * asked_period_s


def has_work(snapshot: Snapshot) -> bool:
    """Whether any card is busy, or cannot say that it is not; one that a program drives itself never can."""
    told = (gpu for gpu in snapshot.gpus if gpu.state in (GpuState.AWAKE, GpuState.USERSPACE))
    return any(gpu.busy_pct is None or gpu.busy_pct >= BUSY_PCT for gpu in told)


def next_pace(
    snapshot: Snapshot, config: DaemonConfig, memory: PaceMemory, *, is_unexplained: bool = False
) -> tuple[Pace, PaceMemory]:
    """The period until the next look. `is_unexplained`: the meters see more than the parts show, so look closer."""
    memory = _count_missed(snapshot, memory)
    if memory.missed >= MISSED_BEATS and memory.working_period_s < SLOWEST_S:
        slower_s = min(2 * memory.working_period_s, SLOWEST_S)
        memory = replace(memory, working_period_s=slower_s, missed=0, slowed_s=snapshot.time_s)
    elif memory.working_period_s > config.period_s and snapshot.time_s - memory.slowed_s > RETRY_S:
        faster_s = max(memory.working_period_s / 2, config.period_s)
        memory = replace(memory, working_period_s=faster_s, slowed_s=snapshot.time_s)
    if is_unexplained or has_work(snapshot):
        memory = replace(memory, last_busy_s=snapshot.time_s)
    lingers = memory.last_busy_s is not None and snapshot.time_s - memory.last_busy_s < LINGER_S
    period_s = memory.working_period_s if lingers else max(memory.working_period_s, config.idle_period_s)
    reason = None
    if memory.working_period_s > config.period_s:
        asked_hz, held_hz = 1 / config.period_s, 1 / memory.working_period_s
        reason = f"this machine cannot look {asked_hz:.3g} times a second: the loop runs at {held_hz:.3g} Hz"
    memory = replace(memory, last_time_s=snapshot.time_s, asked_period_s=period_s)
    return Pace(period_s, reason), memory


def _count_missed(snapshot: Snapshot, memory: PaceMemory) -> PaceMemory:
    if memory.last_time_s is None or memory.asked_period_s is None:
        return memory
    missed = memory.missed + 1 if is_late(snapshot.time_s - memory.last_time_s, memory.asked_period_s) else 0
    return replace(memory, missed=missed)
