"""What checks remember: counters over a window, and how each card has been lately."""

from dataclasses import dataclass, replace

from tinybox.core.box import GpuKind
from tinybox.core.snapshot import Gpu
from tinybox.policy.lag import toward

SAMPLES = 60
SMOOTH_S = 20.0  # watts as the sensors' temperatures can follow them
SWING_W = 50.0
SETTLED_S = 90.0  # the time constant of a heat sink of a kilogram


@dataclass(frozen=True, slots=True)
class Window:
    """A counter's values over the last `span_s`, at most SAMPLES of them. One that goes back starts anew."""

    span_s: float
    samples: tuple[tuple[float, float], ...] = ()

    def added(self, now_s: float, value: float) -> "Window":
        """With this value of now."""
        kept = self.samples
        if kept and (value < kept[-1][1] or now_s < kept[-1][0]):
            kept = ()
        if len(kept) > 1 and kept[-1][0] - kept[-2][0] < self.span_s / SAMPLES:
            kept = kept[:-1]
        kept = (*kept, (now_s, value))
        while len(kept) > 1 and kept[0][0] < now_s - self.span_s:
            kept = kept[1:]
        return Window(self.span_s, kept)

    def rise(self) -> float:
        """From the oldest value to the newest."""
        return self.samples[-1][1] - self.samples[0][1] if self.samples else 0.0


@dataclass(frozen=True, slots=True)
class Swing:
    """A speed that goes up and down: the last extreme, which way it went since, and when it turned."""

    extreme: float
    is_rising: bool = True
    turns_s: tuple[float, ...] = ()

    def followed(self, now_s: float, value: float, least: float, span_s: float) -> "Swing":
        """With this value of now; a change smaller than `least` is no turn."""
        turns = tuple(at_s for at_s in self.turns_s if now_s - span_s < at_s <= now_s)
        if (value > self.extreme) == self.is_rising:
            return replace(self, extreme=value, turns_s=turns)
        if abs(value - self.extreme) < least:
            return replace(self, turns_s=turns)
        return Swing(value, not self.is_rising, (*turns, now_s)[-SAMPLES:])


@dataclass(frozen=True, slots=True)
class Still:
    """A sensor since its value last moved, and what the smoothed watts have done since."""

    value: float
    since_s: float
    least_w: float
    most_w: float

    @property
    def is_stuck(self) -> bool:
        """Whether the watts have moved far without it."""
        return self.most_w - self.least_w > SWING_W


@dataclass(frozen=True, slots=True)
class CardPast:
    """One card. Watts are the board's; `sink_k` is the estimator's heat sink above the inlet."""

    time_s: float
    watts: float = 0.0  # smoothed over SMOOTH_S
    settled_w: float = 0.0  # over SETTLED_S
    idle_since_s: float | None = None
    work_since_s: float | None = None
    sink_k: float | None = None
    fitted: float = 1.0  # the card's own thermal resistance as a share of its kind's
    fitted_s: float = 0.0  # seconds under load that went into it
    stills: tuple[tuple[str, Still], ...] = ()


IDLE_PCT, WORK_PCT = 3.0, 30.0


def follow(gpu: Gpu, past: CardPast | None, kind: GpuKind, now_s: float) -> CardPast:
    """The card's past with this moment in it; None of its figures is needed."""
    if past is None or now_s < past.time_s or now_s - past.time_s > 30.0:
        past = CardPast(now_s) if past is None else CardPast(now_s, fitted=past.fitted, fitted_s=past.fitted_s)
        watts = board_w(gpu, kind)
        return replace(past, watts=watts or 0.0, settled_w=watts or 0.0)
    dt_s = now_s - past.time_s
    now_w = board_w(gpu, kind)
    if past.settled_w <= 0 and now_w is not None:  # the first that is told: a counter has nothing to say at first
        past = replace(past, watts=now_w, settled_w=now_w)
    watts = past.watts if now_w is None else toward(past.watts, now_w, dt_s, SMOOTH_S)
    is_idle = gpu.busy_pct is not None and gpu.busy_pct < IDLE_PCT
    is_working = gpu.busy_pct is not None and gpu.busy_pct > WORK_PCT
    return replace(
        past,
        time_s=now_s,
        watts=watts,
        settled_w=toward(past.settled_w, watts, dt_s, SETTLED_S),
        idle_since_s=None if not is_idle else now_s if past.idle_since_s is None else past.idle_since_s,
        work_since_s=None if not is_working else now_s if past.work_since_s is None else past.work_since_s,
        stills=tuple(_still(name, gpu, past, watts, now_s) for name in SENSORS),
    )


SENSORS = ("edge_c", "junction_c", "memory_c")


def board_w(gpu: Gpu, kind: GpuKind) -> float | None:
    """Watts of the whole board as the card's own meter lets one think."""
    return None if gpu.power_w is None else gpu.power_w / kind.socket_to_board


def _still(name: str, gpu: Gpu, past: CardPast, watts: float, now_s: float) -> tuple[str, Still]:
    value = getattr(gpu, name)
    old = dict(past.stills).get(name)
    if value is None or old is None or value != old.value:
        return name, Still(float("nan") if value is None else value, now_s, watts, watts)
    return name, replace(old, least_w=min(old.least_w, watts), most_w=max(old.most_w, watts))
