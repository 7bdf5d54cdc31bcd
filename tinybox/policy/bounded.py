"""The bounded guarantee's sharing: one clock for all cards, as high as the promises allow.

The clock is the highest at which, by what the cards have shown,
- what they draw now stays at most at the breaker's rating,
- the mean over the promise's ten seconds is kept for every window that ends in the next ten, if what was seen lately
  goes on: what was saved may be spent, what was overspent is paid back,
- a jump of every card to full load, until it is seen and answered, still fits that mean,
- a daemon that dies now, with every card at its grant, is answered by the failsafe before the fastest breaker comes
  near its trip.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tinybox.core.box import Box
from tinybox.core.circuit import BREAKER_SHARE, Circuit
from tinybox.core.snapshot import GpuState
from tinybox.policy.breaker import amps_allowed, share_of_trip
from tinybox.policy.cards import BUSY_LEAST, Card, is_waiting, refuses
from tinybox.policy.envelope import CLOCK_STEP_MHZ, floor_clock_mhz
from tinybox.policy.ladder import FREEZE_AT
from tinybox.policy.ledger import WINDOW_S, Ledger, spent_as

HORIZONS_S = (0.3, 0.7, 1.4, 2.4, 3.6, 5.0, 6.4, 7.6, 8.6, 9.3, WINDOW_S)
LASTS_LEAST_S = 0.3
REACTION_S = 0.15  # from a decision until the cards obey it
CONTROL_SLACK = 0.003
HEAT_SLACK = 0.01
# An overspending that is begun should be able to go on so long: limits that follow every moment cost writes.
HOLD_S = 1.5
PAYBACK = 0.92  # of the promise: what overspending leaves for the seconds after it
FAILSAFE_S = 1.1  # from the daemon's last sign of life until the failsafe has written
OBEY_S = 1.0  # and until the cards obey
GUARANTEE_S = FAILSAFE_S + OBEY_S
LINE_LOW = 0.95  # of nominal: the fewest volts, the most amps
WAITING = 0  # the rank of cards without work


@dataclass(frozen=True, slots=True)
class Draw:
    """What the box draws beside the cards, and what it may: amps at the outlet, `per_w` amps for a board watt."""

    amps: float  # of the box, now
    per_w: float
    cpu_jump_a: float  # the processor's way to its grant
    other_a: float  # of others on the circuit
    heat: float  # of the fastest breaker
    period_s: float
    rest_worst_w: float  # DC watts of everything but the cards at its worst
    margin: float  # of the amps: what the meters may be off


@dataclass(frozen=True, slots=True)
class Clocks:
    """Clock limits in MHz by card, and the amps expected at them now."""

    by_card: dict[str, int]
    amps: float

    @property
    def most_mhz(self) -> int:
        """The highest."""
        return max(self.by_card.values(), default=0)


@dataclass(frozen=True, slots=True)
class _Load:
    """One card as a few numbers: what it draws at a clock is looked up with them."""

    gpu: str
    rank: int  # among the priorities of the working cards, from 1 for the lowest; 0: it waits for work
    watts_by_step: tuple[float, ...]
    margin: float
    idle_w: float
    watts: float
    activity: float
    busy: float
    busy_mean: float
    weights: tuple[float, ...]  # for each horizon: how much of what it does now will be in the mean until then
    now_mhz: float
    least_mhz: float
    most_mhz: float
    ratio: float  # of the common clock
    is_free: bool  # its clock follows the common one

    def clock_mhz(self, steps: Sequence[int]) -> float:
        """Its clock when the ranks run at these steps."""
        if not self.is_free:
            return self.now_mhz
        mhz = steps[self.rank] * CLOCK_STEP_MHZ * self.ratio
        return self.most_mhz if mhz > self.most_mhz else self.least_mhz if mhz < self.least_mhz else mhz


def clocks(cards: Sequence[Card], box: Box, circuit: Circuit, ledger: Ledger, draw: Draw, now_s: float) -> Clocks:
    """The highest clocks that keep every promise; the lowest where none does.

    Cards without work wait at the same clock as long as their waking all at once could be answered in time; where it
    could not they wait lower, though never below what six working cards would get. A higher priority is served first,
    the others wait for what it leaves at their lowest clock.
    """
    priorities = sorted({card.priority for card in cards if not is_waiting(card)})
    loads = [_load(card, priorities, now_s) for card in cards if card.watts > 0 or card.is_awake]
    limits = _limits(circuit, ledger, draw)
    low = min(kind.clock_min_mhz for kind in box.gpus) // CLOCK_STEP_MHZ
    high = -(-max(kind.clock_max_mhz for kind in box.gpus) // CLOCK_STEP_MHZ)
    steps = [high] * (1 + len(priorities))
    if not _fits(loads, steps, draw, limits, box):
        has_waiting = any(load.rank == WAITING for load in loads)
        equal = _equal_step(loads, (low, high), draw, limits) if has_waiting else high
        steps = [low] * len(steps)
        for rank in range(len(priorities), 0, -1):

            def fits(one: int, at: int = rank) -> bool:
                return _fits(loads, _with(_with(steps, at, one), WAITING, min(one, equal)), draw, limits, box)

            steps[rank] = _highest(low, high, fits, near=_near(loads, rank))
        common = min(steps[1:], default=high)
        steps[WAITING] = min(common, equal)
        if has_waiting:
            steps[WAITING] = _highest(
                steps[WAITING],
                common,
                lambda one: _fits(loads, _with(steps, WAITING, one), draw, limits, box),
                near=_near(loads, WAITING),
            )
    by_card = {
        load.gpu: int(load.clock_mhz(steps) // CLOCK_STEP_MHZ) * CLOCK_STEP_MHZ for load in loads if load.is_free
    }
    by_card = {gpu: max(mhz, box.kind_of(gpu).clock_min_mhz) for gpu, mhz in by_card.items()}
    return Clocks(by_card, _amps(loads, steps, draw)[0])


def _with(steps: list[int], rank: int, step: int) -> list[int]:
    """The same with one rank at another step."""
    return [*steps[:rank], step, *steps[rank + 1 :]]


def _equal_step(loads: list[_Load], ends: tuple[int, int], draw: Draw, limits: "_Limits") -> int:
    """The highest step at which every card at full load would keep the promise."""
    room_w = (limits.promised_a - draw.amps - draw.cpu_jump_a) / draw.per_w
    room_w += sum(load.watts - load.idle_w for load in loads)
    tables = [(load.watts_by_step, max(1.0, load.activity), load.idle_w) for load in loads]

    def fits(step: int) -> bool:
        return sum((table[min(step, len(table) - 1)] - idle_w) * most for table, most, idle_w in tables) <= room_w

    return _highest(*ends, fits, near=ends[0])


def _near(loads: list[_Load], rank: int) -> int:
    """The step at which the cards of a rank run now: where a search best begins."""
    return int(min((load.now_mhz / load.ratio for load in loads if load.rank == rank), default=0)) // CLOCK_STEP_MHZ


def _highest(low: int, high: int, fits: Callable[[int], bool], *, near: int) -> int:
    """The highest step that fits, looked for around `near` in growing strides, then by halving; else the lowest."""
    near, stride = min(max(near, low), high), 1
    if fits(near):
        low, over = near, high + 1
        while low < high:
            upper = min(low + stride, high)
            if not fits(upper):
                over = upper
                break
            low, stride = upper, 4 * stride
    else:
        over = near
        while over > low:
            under = max(over - stride, low)
            if under == low or fits(under):
                low = under
                break
            over, stride = under, 4 * stride
    while over - low > 1:
        middle = (low + over) // 2
        if fits(middle):
            low = middle
        else:
            over = middle
    return low


def guarantee_amps(worst_dc_w: float, box: Box, circuit: Circuit, line_v: float) -> float:
    """Amps of the box with everything behind its supplies at its worst, and they too."""
    return worst_dc_w / (box.psu.efficiency_min * line_v * circuit.power_factor)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What the amps of one clock are held against."""

    promised_a: float
    now_a: float
    left_as: tuple[float, ...]  # amp-seconds left of the window that ends so many seconds from now
    payback_a: float
    jump_s: float
    grants_w: float


def _limits(circuit: Circuit, ledger: Ledger, draw: Draw) -> _Limits:
    promised_a = max(0.0, circuit.promised_a - draw.other_a)
    whole_as = WINDOW_S * promised_a * (1 - draw.margin - CONTROL_SLACK)
    allowed_a = amps_allowed(draw.heat, GUARANTEE_S, BREAKER_SHARE, circuit) - draw.other_a
    # What was saved may be spent, but not so that the breaker gets as warm as where work is frozen; there it is the
    # floor's turn before anything else.
    cool_a = amps_allowed(draw.heat, WINDOW_S, FREEZE_AT - HEAT_SLACK, circuit) - draw.other_a
    now_a = max(promised_a, min(circuit.rating_a - draw.other_a, cool_a)) * (1 - draw.margin)
    if share_of_trip(draw.heat, circuit) >= FREEZE_AT - HEAT_SLACK / 2:
        now_a = 0.0
    volts = circuit.volts * LINE_LOW * circuit.power_factor
    return _Limits(
        promised_a=promised_a,
        now_a=now_a,
        left_as=tuple(whole_as - spent_as(ledger, WINDOW_S - horizon_s) for horizon_s in HORIZONS_S),
        payback_a=PAYBACK * promised_a,
        jump_s=draw.period_s + REACTION_S,
        grants_w=max(0.0, allowed_a) * volts,
    )


def _load(card: Card, priorities: list[int], now_s: float) -> _Load:
    gpu, kind, memory = card.gpu, card.kind, card.memory
    limit_mhz = gpu.clock_limit_mhz if gpu.clock_limit_mhz is not None else kind.clock_max_mhz
    most_mhz = float(kind.clock_max_mhz)
    if card.limit_w is not None:
        most_mhz = max(kind.clock_min_mhz, card.envelope.clock_for_w(card.limit_w * card.envelope.margin))
    waits = is_waiting(card)
    now_mhz = min(limit_mhz, kind.clock_max_mhz)
    activity, busy, watts = memory.activity, card.busy, card.watts
    has_lever = gpu.has_clock_lever and not gpu.clock_lever_is_coarse and not memory.is_deaf
    is_free = card.is_awake and has_lever and not refuses(card, now_s)
    if not is_free and busy > BUSY_LEAST:  # it draws what it draws, whatever its limit says
        activity = max(activity, (card.watts - card.idle_w) / (busy * (card.envelope.nominal_w(now_mhz) - card.idle_w)))
    if gpu.state is GpuState.USERSPACE:  # what it draws is in the meters; room is kept for it to do its worst
        watts = card.idle_w
        activity = max(1.0, (card.grant_w - watts) / (card.envelope.nominal_w(now_mhz) - watts))
    return _Load(
        gpu=gpu.id,
        rank=WAITING if waits else 1 + priorities.index(card.priority),
        watts_by_step=card.envelope.by_step_w,
        margin=card.envelope.margin * memory.raised,
        idle_w=card.idle_w,
        watts=watts,
        activity=activity,
        busy=busy,
        busy_mean=memory.busy_mean,
        weights=_weights(now_s - memory.since_s),
        now_mhz=now_mhz,
        least_mhz=float(floor_clock_mhz(gpu, kind)),
        most_mhz=most_mhz,
        ratio=1.0 if waits else memory.ratio,
        is_free=is_free,
    )


@lru_cache(maxsize=256)
def _weights_of(tenths: int) -> tuple[float, ...]:
    lasts_s = max(LASTS_LEAST_S, tenths / 10)
    return tuple(lasts_s / h * (1 - math.exp(-h / lasts_s)) for h in HORIZONS_S)


def _weights(since_s: float) -> tuple[float, ...]:
    """What has gone on for so long is expected to go on for as long again; after that the card does as on the mean."""
    return _weights_of(int(10 * min(since_s, 2 * WINDOW_S)))


def _amps(loads: list[_Load], steps: Sequence[int], draw: Draw) -> tuple[float, float, float, list[float]]:
    """Amps at these steps: now, after a jump of everything, the grants' watts, and the mean until each horizon."""
    now_w = mean_w = jump_w = grants_w = 0.0
    sums_w = [0.0] * len(HORIZONS_S)
    for load in loads:
        mhz = load.clock_mhz(steps)
        full_w = load.watts_by_step[int(mhz) // CLOCK_STEP_MHZ]
        above_w = full_w - load.idle_w
        grants_w += full_w * load.margin
        active_w = load.activity * above_w
        rest_w = load.idle_w - load.watts
        card_now_w, card_mean_w = active_w * load.busy, active_w * load.busy_mean
        now_w += card_now_w + rest_w
        mean_w += card_mean_w + rest_w
        jump_w += (above_w if load.activity < 1 else active_w) + rest_w
        apart_w = card_now_w - card_mean_w
        if apart_w > 1 or apart_w < -1:
            sums_w = [total + apart_w * weight for total, weight in zip(sums_w, load.weights, strict=True)]
    per_w, amps = draw.per_w, draw.amps
    means = [amps + (mean_w + apart_w) * per_w for apart_w in sums_w]
    return amps + now_w * per_w, amps + jump_w * per_w + draw.cpu_jump_a, grants_w, means


def _fits(loads: list[_Load], steps: Sequence[int], draw: Draw, limits: _Limits, box: Box) -> bool:
    """Whether every promise is kept at these clocks, with what a jump would cost kept back in every window."""
    now_a, jump_a, grants_w, means_a = _amps(loads, steps, draw)
    if now_a > limits.now_a or (grants_w + draw.rest_worst_w) / box.psu.efficiency_min > limits.grants_w:
        return False
    jump_s, later_a = limits.jump_s, min(now_a, limits.payback_a)
    kept_as = max(0.0, jump_a - now_a) * jump_s
    for mean_a, horizon_s, left_as in zip(means_a, HORIZONS_S, limits.left_as, strict=True):
        if mean_a * horizon_s + kept_as > left_as:
            return False
        # If this goes on after all, what was overspent is paid back without starving anybody.
        if later_a * horizon_s + (now_a - later_a) * min(horizon_s, HOLD_S) + kept_as > left_as:
            return False
    return True
