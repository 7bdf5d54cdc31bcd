"""Each card as the policies see it: its grant, what it draws and would draw at other clocks, what may be written to it.

Nothing here knows what a card works on. A card's *activity* is how its watts compare with the table's at the same clock
and busy share, learned from what it shows: bandwidth-bound work draws less, and so gets its clock for less.
"""

import math
from dataclasses import dataclass, field, replace

from tinybox.core.box import Box, GpuKind
from tinybox.core.config import Config, GpuConfig
from tinybox.core.decision import Alert
from tinybox.core.snapshot import Gpu, GpuState, Severity, Snapshot
from tinybox.policy.envelope import Envelope, Known, board_max_w, userspace_max_w
from tinybox.policy.lag import toward

SETTLE_S = 1.0  # from reading a lower limit back until the card obeys it (RDNA3: 95 % within a second)
SENSOR_LAG_S = 0.1
RISE_S, FALL_S = 0.1, 0.5  # of the learned activity: quick to believe in more, slow to believe in less
BUSY_MEAN_S = 4.0
WAITING_MEAN = 0.02
CHANGE = 0.3  # of the busy share: another load than before
BUSY_LEAST = 0.02
LEARN_LEAST_W = 15.0
LOST_PERIODS, LOST_PERIODS_SLOW = 10, 3
FAST_PERIOD_S = 0.15
IMPOSSIBLE = 1.5  # of a board's maximum: a lying sensor, not a card
ABOVE = 1.02  # of the envelope: beyond it the card is above, not the sensor imprecise
# Busy shares: all the time, as good as that, waiting for a mate, doing something else.
FULL, EVEN_FULL, EVEN_WAITS, EVEN_LEAST = 0.99, 0.985, 0.965, 0.7
EVEN_EVERY_S = 4.0
RATIO_LEAST, RATIO_BACK = 0.75, 0.98
WRITES_BURST, WRITES_PER_S = 9.0, 0.78  # a card's limits are written 60 times a minute at most
PROOF_S, PROOF_SHARE = 2.0, 0.34  # a lever has lowered a third of what it should within so long, or it is none
PROOF_LEAST_W, PROOF_STEADY_S = 40.0, 0.5
CAP_HOLDS_S = 1.0  # from the start of a load until a cap has taken hold of it
READ_BACK_S = 0.15  # a limit is read back in the next look at it
ROUNDED = 1.05


@dataclass(frozen=True, slots=True)
class CardMemory:
    """What is remembered of a card. Watts are of the board."""

    grant_w: float
    lower_w: float | None = None  # its limits say less than the grant, since:
    lower_since_s: float = 0.0
    above_since_s: float | None = None  # since when the grant exceeds what it was told to keep
    raised: float = 1.0  # the envelope's factor, for a card once seen above it
    over_s: float | None = None  # since when it has been above its cap
    activity: float = 1.0
    table_w: float = 0.0  # what the table says it draws above idle at this clock and busy share, as late as its sensor
    watts: float = 0.0  # last believed
    watts_s: float | None = None  # when
    busy_mean: float = 0.0
    busy_s: float = -math.inf  # last seen busy
    level: float = 0.0  # the busy share that it has held,
    since_s: float = -math.inf  # since when
    ratio: float = 1.0  # of the common clock: less for a card that waits for a slower one
    ratio_s: float = -math.inf  # when that was last looked at
    budget: float = WRITES_BURST  # writes it may still get
    told_w: float | None = None  # since the last lowering: what it drew before,
    told_s: float = 0.0
    told_expected_w: float = 0.0
    is_deaf: bool = False  # a clock limit lowers nothing on it
    wrote_s: float = -math.inf  # when its clock limit was last written
    asked_mhz: int | None = None  # a clock limit that was written and not read back yet,
    asked_s: float = 0.0  # since when


@dataclass(frozen=True, slots=True)
class Card:
    """One card in this turn."""

    gpu: Gpu
    kind: GpuKind
    memory: CardMemory
    envelope: Envelope
    watts: float  # of the board now, as its sensor says it; worst case where it says nothing
    busy: float
    priority: int
    limit_w: float | None
    is_known: bool  # its watts were told, recently enough

    @property
    def idle_w(self) -> float:
        """What its board draws without work."""
        return self.kind.board_power_idle_w

    @property
    def is_awake(self) -> bool:
        """Whether it can be written to."""
        return self.gpu.state is GpuState.AWAKE

    @property
    def grant_w(self) -> float:
        """The most it can draw under the limits in force."""
        return self.memory.grant_w


@dataclass(frozen=True, slots=True)
class CardsMemory:
    """All cards, by id."""

    cards: dict[str, CardMemory] = field(default_factory=dict)
    time_s: float | None = None


def observe(
    snapshot: Snapshot, box: Box, config: Config, known: dict[str, Known], memory: CardsMemory
) -> tuple[tuple[Card, ...], list[Alert]]:
    """Every card of the snapshot, with what is remembered of it brought up to now."""
    elapsed_s = max(0.0, snapshot.time_s - memory.time_s) if memory.time_s is not None else 0.0
    alerts: list[Alert] = []
    own = {gpu.id: gpu for gpu in config.gpus}
    cards = tuple(
        _observe(
            gpu,
            box.kind_of(gpu.id),
            own.get(gpu.id),
            known[gpu.id],
            memory.cards.get(gpu.id),
            snapshot.time_s,
            elapsed_s,
            alerts,
        )
        for gpu in snapshot.gpus
    )
    return _evened(cards, snapshot.time_s), alerts


def _evened(cards: tuple[Card, ...], now_s: float) -> tuple[Card, ...]:
    """Cards that began together and wait for the slowest of them run slower by what they wait: it costs nothing.

    Only beside a card that is busy all the time: without one nobody knows who waits for whom.
    """
    return tuple(
        replace(card, memory=replace(card.memory, ratio=ratio, ratio_s=now_s))
        if now_s - max(card.memory.ratio_s, card.memory.since_s) >= EVEN_EVERY_S
        and (ratio := _ratio(card, cards)) != card.memory.ratio
        else card
        for card in cards
    )


def _ratio(card: Card, cards: tuple[Card, ...]) -> float:
    """The card's part of the common clock: where it would be busy nearly all the time."""
    memory = card.memory
    mates = [one for one in cards if one is not card and one.memory.since_s == memory.since_s]
    if EVEN_LEAST <= memory.level < EVEN_WAITS and any(one.memory.level >= FULL for one in mates):
        return max(RATIO_LEAST, memory.ratio * memory.level / EVEN_FULL)
    if memory.ratio < 1.0 and (memory.level >= FULL or not mates):
        return min(1.0, memory.ratio / RATIO_BACK)
    return memory.ratio


def _observe(  # noqa: PLR0913, PLR0917 - one place where everything about a card meets
    gpu: Gpu,
    kind: GpuKind,
    own: GpuConfig | None,
    about: Known,
    known: CardMemory | None,
    now_s: float,
    elapsed_s: float,
    alerts: list[Alert],
) -> Card:
    envelope = about.envelope
    priority, limit_w = (own.priority, own.limit_w) if own is not None else (0, None)
    if gpu.state is GpuState.USERSPACE:
        # Nobody but its program can hold it, and nothing tells its watts: it may do its worst at any moment.
        worst_w = userspace_max_w(gpu, kind)
        memory = replace(known or CardMemory(worst_w), grant_w=worst_w, lower_w=None, asked_mhz=None)
        return Card(gpu, kind, memory, envelope, worst_w, 0.0, priority, limit_w, is_known=False)
    if gpu.state is not GpuState.AWAKE:
        # Gone it draws nothing; its grant stays reserved, for once back it is limited in the turn that sees it.
        worst_w = 0.0 if gpu.state is GpuState.GONE else board_max_w(gpu, kind, envelope)
        memory = known or CardMemory(worst_w)
        asleep_w = kind.board_power_idle_w if gpu.state is GpuState.ASLEEP else 0.0
        return Card(gpu, kind, memory, envelope, asleep_w, 0.0, priority, limit_w, is_known=True)
    gpu = _without_nonsense(gpu)
    bound_w = board_max_w(gpu, kind, envelope)
    if known is not None:
        bound_w = min(bound_w * known.raised, kind.board_power_max_w)
    memory = _granted(gpu, known, bound_w, kind, now_s)
    watts, told_s, is_known = _watts(gpu, memory, kind, about.sensor_to_board, now_s, elapsed_s, alerts)
    if is_known:
        memory = _above(gpu, memory, watts, kind, envelope, now_s, alerts)
    busy = 1.0 if gpu.busy_pct is None else min(max(gpu.busy_pct / 100, 0.0), 1.0)
    memory = _learned(gpu, memory, watts, busy, kind, envelope, now_s, elapsed_s, is_known, told_s)
    if memory.asked_mhz is not None and gpu.clock_limit_mhz is not None and not _is_above(gpu, memory.asked_mhz):
        memory = replace(memory, asked_mhz=None)
    if memory.told_w is not None:
        memory = _proved(gpu, memory, watts, busy, now_s, alerts)
    return Card(gpu, kind, memory, envelope, watts, busy, priority, limit_w, is_known)


def _without_nonsense(gpu: Gpu) -> Gpu:
    """A limit of nothing, or of less, holds nothing: to amdgpu a cap of 0 is "keep the one you have"."""
    if gpu.clock_limit_mhz is not None and gpu.clock_limit_mhz <= 0:
        gpu = replace(gpu, clock_limit_mhz=None)
    return replace(gpu, cap_w=None) if gpu.cap_w is not None and gpu.cap_w <= 0 else gpu


def _granted(gpu: Gpu, known: CardMemory | None, bound_w: float, kind: GpuKind, now_s: float) -> CardMemory:
    """Higher limits count at once; lower ones once they were read back and have settled, or the card shows it."""
    if known is None:
        return CardMemory(bound_w)
    if bound_w >= known.grant_w:
        is_same = known.grant_w == bound_w and known.lower_w is None
        return known if is_same else replace(known, grant_w=bound_w, lower_w=None)
    if known.lower_w is None or bound_w > known.lower_w:
        return replace(known, lower_w=bound_w, lower_since_s=now_s)
    waited_s = now_s - known.lower_since_s
    if waited_s < SETTLE_S and not (waited_s > 0 and _shows(gpu, known.lower_w, kind)):
        return known
    if bound_w < known.lower_w:  # the wait is over for what it began with; the rest waits in its turn
        return replace(known, grant_w=known.lower_w, lower_w=bound_w, lower_since_s=now_s)
    return replace(known, grant_w=bound_w, lower_w=None)


def _shows(gpu: Gpu, lower_w: float, kind: GpuKind) -> bool:
    """Whether a reading shows the card below its new limits: its clock and its watts both."""
    if gpu.power_w is None or gpu.clock_mhz is None or gpu.clock_limit_mhz is None:
        return False
    return gpu.clock_mhz <= gpu.clock_limit_mhz and gpu.power_w / kind.socket_to_board_min <= lower_w


def _watts(  # noqa: PLR0913, PLR0917
    gpu: Gpu, memory: CardMemory, kind: GpuKind, ratio: float, now_s: float, elapsed_s: float, alerts: list[Alert]
) -> tuple[float, float | None, bool]:
    """Board watts, when they were told, and whether they are known; silent for too long a card counts as its grant."""
    reading_w = None if gpu.power_w is None else gpu.power_w / ratio
    if reading_w is not None and not 0 <= reading_w <= IMPOSSIBLE * kind.board_power_max_w:
        alerts.append(
            Alert(gpu.id, Severity.WARNING, f"{gpu.power_w:.0f} W cannot be true: the reading does not count")
        )
        reading_w = None
    if reading_w is not None:
        watts = max(reading_w, 0.5 * kind.board_power_idle_w)
        return watts, now_s, True
    periods = LOST_PERIODS if elapsed_s <= FAST_PERIOD_S else LOST_PERIODS_SLOW
    if memory.watts_s is None or now_s - memory.watts_s > periods * max(elapsed_s, 0.02):
        alerts.append(Alert(gpu.id, Severity.WARNING, f"its watts are unknown: it counts as {memory.grant_w:.0f} W"))
        return memory.grant_w, memory.watts_s, False
    return memory.watts, memory.watts_s, True


def _above(  # noqa: PLR0913, PLR0917
    gpu: Gpu, memory: CardMemory, watts: float, kind: GpuKind, envelope: Envelope, now_s: float, alerts: list[Alert]
) -> CardMemory:
    """A card seen above what its limits in force should allow raises its envelope at once.

    A cap takes hold of a mean: a card that begins to work may pass it for a moment, and that is no fault.
    """
    if watts <= memory.grant_w * ABOVE:
        return memory if memory.over_s is None else replace(memory, over_s=None)
    by_clock_w = kind.board_power_max_w if gpu.clock_limit_mhz is None else envelope.most_w(gpu.clock_limit_mhz)
    if watts <= by_clock_w * memory.raised:
        over_s = now_s if memory.over_s is None else memory.over_s
        if now_s - over_s < CAP_HOLDS_S:
            return memory if memory.over_s is not None else replace(memory, over_s=over_s)
    raised = min(memory.raised * watts / memory.grant_w, kind.board_power_max_w / envelope.watts[0])
    reason = f"draws {watts:.0f} W under limits that should hold it at {memory.grant_w:.0f} W: its envelope is raised"
    alerts.append(Alert(gpu.id, Severity.CRITICAL, reason))
    return replace(memory, raised=raised, grant_w=watts, over_s=None)


def _learned(  # noqa: PLR0913, PLR0917
    gpu: Gpu,
    memory: CardMemory,
    watts: float,
    busy: float,
    kind: GpuKind,
    envelope: Envelope,
    now_s: float,
    elapsed_s: float,
    is_known: bool,
    told_s: float | None,
) -> CardMemory:
    """Activity and busy share as they have been lately."""
    limit_mhz = gpu.clock_limit_mhz if gpu.clock_limit_mhz is not None else kind.clock_max_mhz
    full_w = envelope.nominal_w(limit_mhz)
    if gpu.cap_w is not None:
        full_w = min(full_w, gpu.cap_w / kind.socket_to_board)
    table_now_w = busy * max(0.0, full_w - kind.board_power_idle_w)
    table_w = toward(memory.table_w, table_now_w, elapsed_s, SENSOR_LAG_S)
    activity = memory.activity
    if is_known and table_w > LEARN_LEAST_W and busy > BUSY_LEAST:
        seen = min(1.6, max(0.1, (watts - kind.board_power_idle_w) / table_w))
        # While clock or load move, watts and table are not of the same moment.
        if abs(table_now_w - table_w) < 0.04 * table_w:
            activity = toward(activity, seen, elapsed_s, RISE_S if seen > activity else FALL_S)
    changed = abs(busy - memory.level) > CHANGE
    return replace(
        memory,
        watts=watts if told_s == now_s else memory.watts,
        watts_s=told_s,
        level=busy if changed else memory.level + 0.1 * (busy - memory.level),
        since_s=now_s if changed else memory.since_s,
        table_w=table_w,
        activity=activity,
        busy_mean=toward(memory.busy_mean, busy, elapsed_s, BUSY_MEAN_S),
        busy_s=now_s if busy > BUSY_LEAST else memory.busy_s,
        budget=min(WRITES_BURST, memory.budget + WRITES_PER_S * elapsed_s),
    )


def _is_above(gpu: Gpu, asked_mhz: int) -> bool:
    """Whether its clock limit is above the one asked for by more than a driver's rounding."""
    return gpu.clock_limit_mhz is not None and gpu.clock_limit_mhz > asked_mhz * ROUNDED


def is_waiting(card: Card) -> bool:
    """Whether the card has no work, and has had none for a moment."""
    return card.busy <= BUSY_LEAST and card.memory.busy_mean <= WAITING_MEAN


def refuses(card: Card, now_s: float) -> bool:
    """Whether a clock limit that was written to it is still not in force."""
    return card.memory.asked_mhz is not None and now_s - card.memory.asked_s > READ_BACK_S


def _proved(gpu: Gpu, memory: CardMemory, watts: float, busy: float, now_s: float, alerts: list[Alert]) -> CardMemory:
    """Whether the last lowering of the clock lowered watts: a lever that does not is none."""
    assert memory.told_w is not None
    if memory.told_w - watts >= PROOF_SHARE * memory.told_expected_w:
        return replace(memory, told_w=None, is_deaf=False)
    if busy < 0.9:
        return replace(memory, told_w=None)  # the load changed: it proves nothing
    if now_s - memory.told_s < PROOF_S:
        return memory
    reason = f"a lower clock limit lowered nothing ({memory.told_w:.0f} W then, {watts:.0f} W now): it counts as absent"
    alerts.append(Alert(gpu.id, Severity.CRITICAL, reason))
    return replace(memory, told_w=None, is_deaf=True)
