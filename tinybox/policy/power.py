"""Equal shares of the outlet, safe when dead: what the cards may draw under the limits in force never sums above it.

A *grant* is the most a card can draw (board watts) under limits that were read back and have settled. Limits are
lowered at once and raised only when the grants, with the raise, still fit: so the sum holds between any two writes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tinybox.core.actions import Action, SetCap, SetClockLimit
from tinybox.core.box import Box, GpuKind
from tinybox.core.circuit import Circuit
from tinybox.core.decision import Alert, Grant
from tinybox.core.snapshot import Gpu, GpuState, Severity, Snapshot
from tinybox.policy.envelope import Limits, board_max_w, floor_limits, limits_for
from tinybox.policy.wall import LINE_SAG, WallReading

SETTLE_S = 1.0  # from reading a lower limit back until the card obeys it (RDNA3: 95 % within a second)
REFUSED_S = 3.0  # a card above its target for so long does not take the limit
RAISE_CAP_W = 5.0  # smaller raises are not worth a write
RAISE_CLOCK_MHZ = 30
LINE_DROP = 0.03  # of the line, at the promised amps: what the NEC recommends a branch circuit not to exceed
LINE_RISE_V_PER_S = 0.02  # the budget follows a falling line at once, a rising one slowly
TRIM_LEAST = 0.5
TRIM_DOWN_PER_S = 0.1
TRIM_UP_PER_S = 0.005
TRIM_RELEASE = 0.97  # of the budget: below it a trim is given back


@dataclass(frozen=True, slots=True)
class Card:
    """What is remembered of a card: its grant, and since when its limits have said less than that."""

    gpu: str
    grant_w: float
    lower_w: float | None = None
    lower_since_s: float = 0.0
    above_since_s: float | None = None  # since when the grant exceeds the share it was told to keep


@dataclass(frozen=True, slots=True)
class PowerMemory:
    """Carried from tick to tick. `trim` scales the shares down where the wall says that the table lied."""

    cards: tuple[Card, ...] = ()
    line_v: float | None = None
    time_s: float | None = None
    trim: float = 1.0
    share_w: float | None = None  # what every card was last told to keep


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """One tick of sharing: `budget_w` is at the wall, `pool_w` and `share_w` are board watts."""

    actions: tuple[Action, ...]
    alerts: tuple[Alert, ...]
    reason: str | None
    budget_w: float
    pool_w: float
    share_w: float
    grants: tuple[Grant, ...]


def share_power(
    snapshot: Snapshot, box: Box, circuit: Circuit, wall: WallReading, memory: PowerMemory
) -> tuple[PowerPlan, PowerMemory]:
    """Divide the outlet among the cards and say which limits to write."""
    elapsed_s = max(0.0, snapshot.time_s - memory.time_s) if memory.time_s is not None else 0.0
    line_v = _held_line_v(_loaded_line_v(wall, circuit), memory.line_v, elapsed_s)
    budget_w = circuit.budget_w(line_v)
    pool_w = gpu_pool_w(budget_w, box)
    trim = _trim(wall.mean_w, budget_w, memory.trim, elapsed_s)
    cards = tuple(_remember(gpu, box.gpu, memory, snapshot.time_s) for gpu in snapshot.gpus)
    share_w = _share(snapshot.gpus, cards, box.gpu, pool_w * trim, snapshot.time_s)
    cards = tuple(_watch_obedience(gpu, card, share_w, snapshot.time_s) for gpu, card in _pairs(snapshot.gpus, cards))
    actions = _actions(snapshot.gpus, cards, box.gpu, share_w, pool_w)
    plan = PowerPlan(
        actions=actions,
        alerts=tuple(_alerts(snapshot, cards, pool_w, trim, wall.mean_w, budget_w)),
        reason=_reason(actions, share_w, budget_w),
        budget_w=budget_w,
        pool_w=pool_w,
        share_w=share_w,
        grants=tuple(Grant(card.gpu, card.grant_w) for card in cards),
    )
    return plan, PowerMemory(cards, line_v, snapshot.time_s, trim, share_w)


def gpu_pool_w(budget_w: float, box: Box) -> float:
    """Board watts left for all cards once everything else draws its worst and the supplies are at their worst."""
    return max(0.0, budget_w * box.psu.efficiency_min - box.cpu.power_max_w - box.rest.power_max_w)


def failsafe_actions(gpus: Iterable[Gpu], kind: GpuKind) -> tuple[Action, ...]:
    """The lowest limits every awake card accepts, clock first: it reaches lower."""
    actions: list[Action] = []
    for gpu in gpus:
        if gpu.state is GpuState.AWAKE:
            limits = floor_limits(gpu, kind)
            if limits.clock_mhz is not None:
                actions.append(SetClockLimit(gpu.id, limits.clock_mhz))
            actions.append(SetCap(gpu.id, limits.cap_w))
    return tuple(actions)


def _pairs(gpus: tuple[Gpu, ...], cards: tuple[Card, ...]) -> tuple[tuple[Gpu, Card], ...]:
    return tuple(zip(gpus, cards, strict=True))


def _loaded_line_v(wall: WallReading, circuit: Circuit) -> float:
    """Line volts as they will be once the whole promise is drawn: the wiring takes its share of them.

    Unmeasured, the lowest that a utility may deliver. Never above nominal +5 %: a lying voltmeter buys no watts.
    """
    if wall.line_v is None or wall.now_w is None or wall.line_v <= 0:
        return circuit.volts * (1 - LINE_SAG)
    amps_now = wall.now_w / (wall.line_v * circuit.power_factor)
    drop_v = LINE_DROP * circuit.volts * max(0.0, 1 - amps_now / circuit.promised_a)
    return min(wall.line_v - drop_v, circuit.volts * (1 + LINE_SAG))


def _held_line_v(loaded_v: float, held_v: float | None, elapsed_s: float) -> float:
    """Line volts the budget counts on: falling at once, rising slowly, so that it does not follow every load."""
    return loaded_v if held_v is None else min(loaded_v, held_v + LINE_RISE_V_PER_S * elapsed_s)


def _trim(wall_w: float | None, budget_w: float, trim: float, elapsed_s: float) -> float:
    """Shares shrink while the wall is over budget whatever the table says, and come back slowly."""
    if wall_w is None:
        return trim
    if wall_w > budget_w:
        return max(TRIM_LEAST, trim - TRIM_DOWN_PER_S * elapsed_s)
    return min(1.0, trim + TRIM_UP_PER_S * elapsed_s) if wall_w < TRIM_RELEASE * budget_w else trim


def _remember(gpu: Gpu, kind: GpuKind, memory: PowerMemory, now_s: float) -> Card:
    """The card's grant: higher limits count at once, lower ones when they were read back and have settled."""
    known = next((card for card in memory.cards if card.gpu == gpu.id), None)
    if gpu.state is GpuState.GONE:
        # It draws nothing. Its share stays reserved: once back it is limited in the turn that sees it.
        return known or Card(gpu.id, 0.0)
    if gpu.state is GpuState.ASLEEP:
        return known or Card(gpu.id, board_max_w(gpu, kind))  # limits survive sleep; unknown ones count as none
    bound_w = board_max_w(gpu, kind)
    if known is None or bound_w >= known.grant_w:
        # A card first seen is already bound by what it read back, if those limits were there before us.
        return Card(gpu.id, bound_w, above_since_s=known.above_since_s if known else None)
    return _settle(known, bound_w, now_s)


def _settle(known: Card, bound_w: float, now_s: float) -> Card:
    """A card whose limits say less than its grant: believed once they have been in force for the settling time."""
    if known.lower_w is None or bound_w > known.lower_w:
        return replace(known, lower_w=bound_w, lower_since_s=now_s)
    if now_s - known.lower_since_s < SETTLE_S:
        return known
    if bound_w < known.lower_w:  # the wait is over for what it began with; the rest waits in its turn
        return replace(known, grant_w=known.lower_w, lower_w=bound_w, lower_since_s=now_s)
    return Card(known.gpu, bound_w, above_since_s=known.above_since_s)


def _is_stuck(gpu: Gpu, card: Card, now_s: float) -> bool:
    """Whether the card's grant cannot be lowered: it sleeps, is gone, or refuses."""
    refuses = card.above_since_s is not None and now_s - card.above_since_s > REFUSED_S
    return gpu.state is not GpuState.AWAKE or refuses


def _share(gpus: tuple[Gpu, ...], cards: tuple[Card, ...], kind: GpuKind, pool_w: float, now_s: float) -> float:
    """Equal board watts for every card; what a stuck card holds above its share comes off the others'."""
    open_cards = list(_pairs(gpus, cards))
    left_w, share_w = pool_w, 0.0
    while open_cards:
        share_w = min(left_w / len(open_cards), kind.board_power_max_w)
        over = [pair for pair in open_cards if pair[1].grant_w > share_w and _is_stuck(*pair, now_s)]
        if not over:
            break
        left_w = max(0.0, left_w - sum(card.grant_w for _, card in over))
        open_cards = [pair for pair in open_cards if pair not in over]
    return share_w


def _watch_obedience(gpu: Gpu, card: Card, share_w: float, now_s: float) -> Card:
    """Keep the time since when an awake card has been above the share it was told."""
    if gpu.state is not GpuState.AWAKE or card.grant_w <= share_w + RAISE_CAP_W:
        return replace(card, above_since_s=None)
    return card if card.above_since_s is not None else replace(card, above_since_s=now_s)


def _actions(
    gpus: tuple[Gpu, ...], cards: tuple[Card, ...], kind: GpuKind, share_w: float, pool_w: float
) -> tuple[Action, ...]:
    """Every lowering at once; one raise more only as far as the grants, with it, still fit the pool."""
    lower: list[Action] = []
    raised: list[Action] = []
    room_w = pool_w - sum(card.grant_w for card in cards)
    for gpu, card in _pairs(gpus, cards):
        if gpu.state is not GpuState.AWAKE:
            continue
        limits = limits_for(share_w, gpu, kind)
        lower += _lowering(gpu, limits)
        higher = _raising(gpu, limits)
        if not higher or _lowering(gpu, limits):
            continue
        after = replace(gpu, cap_w=limits.cap_w, clock_limit_mhz=limits.clock_mhz)
        growth_w = max(0.0, board_max_w(after, kind) - card.grant_w)
        if growth_w <= room_w:
            raised += higher
            room_w -= growth_w
    return (*lower, *raised)


def _lowering(gpu: Gpu, limits: Limits) -> list[Action]:
    """Writes that bring a limit down. A limit that cannot be read is written: better twice than never."""
    actions: list[Action] = []
    if limits.clock_mhz is not None and (gpu.clock_limit_mhz is None or gpu.clock_limit_mhz > limits.clock_mhz):
        actions.append(SetClockLimit(gpu.id, limits.clock_mhz))
    if gpu.cap_w is None or gpu.cap_w > limits.cap_w:
        actions.append(SetCap(gpu.id, limits.cap_w))
    return actions


def _raising(gpu: Gpu, limits: Limits) -> list[Action]:
    """Writes that let a card have more, where it is enough to be worth a write."""
    actions: list[Action] = []
    if gpu.cap_w is not None and limits.cap_w >= gpu.cap_w + RAISE_CAP_W:
        actions.append(SetCap(gpu.id, limits.cap_w))
    clock = gpu.clock_limit_mhz
    if limits.clock_mhz is not None and clock is not None and limits.clock_mhz >= clock + RAISE_CLOCK_MHZ:
        actions.append(SetClockLimit(gpu.id, limits.clock_mhz))
    return actions


def _alerts(
    snapshot: Snapshot, cards: tuple[Card, ...], pool_w: float, trim: float, wall_w: float | None, budget_w: float
) -> Iterable[Alert]:
    if wall_w is not None and wall_w > budget_w:
        yield Alert("power", Severity.CRITICAL, f"{wall_w:.0f} W at the wall, {budget_w:.0f} W promised: shares shrink")
    elif trim < 1.0:
        yield Alert("power", Severity.WARNING, f"shares held at {trim:.0%}: the wall was over its budget")
    granted_w = sum(card.grant_w for card in cards)
    if granted_w > pool_w:
        reason = f"limits in force allow the cards {granted_w:.0f} W, the circuit leaves them {pool_w:.0f} W"
        yield Alert("power", Severity.CRITICAL, reason)
    for gpu, card in _pairs(snapshot.gpus, cards):
        if gpu.state is GpuState.AWAKE and _is_stuck(gpu, card, snapshot.time_s):
            yield Alert(gpu.id, Severity.CRITICAL, _refusal(gpu, card))


def _refusal(gpu: Gpu, card: Card) -> str:
    words = f"its limits still allow {card.grant_w:.0f} W: the other cards give way"
    if gpu.has_clock_lever:
        return words
    return f"{words}; it has no clock lever (boot with amdgpu.ppfeaturemask=0xffffffff)"


def _reason(actions: tuple[Action, ...], share_w: float, budget_w: float) -> str | None:
    """One sentence for what this tick changes; None when it changes nothing."""
    if not actions:
        return None
    touched = sorted({action.gpu for action in actions})
    who = touched[0] if len(touched) == 1 else f"{len(touched)} cards"
    first = actions[0]
    what = f"clock {first.clock_mhz} MHz" if isinstance(first, SetClockLimit) else f"cap {first.cap_w:.0f} W"
    return (
        f"{who} set to {what}: {share_w:.0f} W of board each, of the {budget_w:,.0f} W the outlet has under full load"
    )
