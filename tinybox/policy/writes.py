"""What to write to bring a card from the limits it has to those it should have, and what that costs of its writes."""

import math
from collections.abc import Sequence
from dataclasses import replace

from tinybox.core.actions import Action, SetCap, SetClockLimit
from tinybox.core.snapshot import Snapshot
from tinybox.policy.cards import PROOF_LEAST_W, PROOF_STEADY_S, Card, is_waiting
from tinybox.policy.envelope import Limits, cap_range_w, limits_for

RAISE_CAP_W = 5.0  # smaller raises are not worth a write
RAISE_CLOCK_MHZ, RAISE_CLOCK_PLENTY_MHZ = 30, 10  # the smaller while writes are plenty
# (share of the clock by which it changes, writes that must be left for it): a raise keeps one for the lowering after it
# A card that refuses, or whose limits cannot be read, would be written every turn: nothing goes further than this.
WRITES_OWED = -2.0
REST_S, LARGE = 0.3, 0.2  # seconds after a write, and the share of the clock that is large
LOWERS = ((0.05, WRITES_OWED), (0.02, 2.0), (0.008, 4.0))

RAISES = ((0.08, 1.0), (0.04, 3.0), (0.02, 5.0), (0.004, 6.5))
WAITING_RAISES = ((0.04, 4.0), (0.02, 6.5))
WRITES_KEPT, WRITES_PLENTY = 2.0, 6.0


def bounded_writes(card: Card, clock_mhz: int, *, since_s: float, is_tight: bool) -> list[Action]:
    """What brings one card to the common clock; nothing where it is close, or where its writes are spent.

    Loads come and go card by card: a moment after a write (`since_s`) only a large change is worth another, unless the
    promise `is_tight`.
    """
    gpu = card.gpu
    limits = _bounded_limits(card, clock_mhz)
    actions: list[Action] = []
    now_mhz, wanted = gpu.clock_limit_mhz, limits.clock_mhz
    budget = card.memory.budget
    if wanted is not None and wanted != now_mhz and (is_tight or since_s >= REST_S or _is_large(wanted, now_mhz)):
        if now_mhz is None:
            if budget >= WRITES_OWED:
                actions.append(SetClockLimit(gpu.id, wanted))
        elif wanted < now_mhz:
            if budget >= _needed(1 - wanted / now_mhz, LOWERS):
                actions.append(SetClockLimit(gpu.id, wanted))
        elif budget >= _needed(wanted / now_mhz - 1, WAITING_RAISES if is_waiting(card) else RAISES):
            actions.append(SetClockLimit(gpu.id, wanted))
    lowers_cap = _caps_unread(card) if gpu.cap_w is None else limits.cap_w < gpu.cap_w - 1
    raises_cap = gpu.cap_w is not None and limits.cap_w > gpu.cap_w + RAISE_CAP_W
    if (lowers_cap and budget >= WRITES_OWED) or (raises_cap and budget >= WRITES_KEPT + len(actions)):
        actions.append(SetCap(gpu.id, limits.cap_w))
    return actions


def _caps_unread(card: Card) -> bool:
    """Whether to write a cap that cannot be read: again and again where it is the lever, else from what is left."""
    has_clock = card.gpu.has_clock_lever and not card.memory.is_deaf
    return not has_clock or card.memory.budget >= WRITES_PLENTY


def _is_large(wanted_mhz: int, now_mhz: int | None) -> bool:
    return now_mhz is None or abs(wanted_mhz - now_mhz) >= LARGE * now_mhz


def _needed(change: float, prices: tuple[tuple[float, float], ...]) -> float:
    """Writes that must be left for a change of so much: the smaller it is, the more."""
    return next((left for least, left in prices if change >= least), math.inf)


def _bounded_limits(card: Card, clock_mhz: int) -> Limits:
    """The clock by its lever, with the cap out of its way; by the cap where the card has no finer lever."""
    gpu, kind = card.gpu, card.kind
    if gpu.has_clock_lever and not gpu.clock_lever_is_coarse and not card.memory.is_deaf:
        least_w, most_w = cap_range_w(gpu, kind)
        stock_w = gpu.cap_default_w if gpu.cap_default_w is not None else kind.cap_default_w
        floor_mhz = gpu.clock_limit_min_mhz if gpu.clock_limit_min_mhz is not None else kind.clock_min_mhz
        return Limits(min(max(stock_w, least_w), most_w), min(max(clock_mhz, floor_mhz), kind.clock_max_mhz))
    if clock_mhz >= kind.clock_max_mhz:
        stock_w = gpu.cap_default_w if gpu.cap_default_w is not None else kind.cap_default_w
        return Limits(stock_w, kind.clock_max_mhz if gpu.has_clock_lever else None)
    return limits_for(card.envelope.nominal_w(clock_mhz), gpu, kind, card.envelope)


def written(card: Card, writes: Sequence[Action], now_s: float) -> Card:
    """The card with its writes counted, and a lowering that has to prove itself noted."""
    if not writes:
        return card
    memory = replace(card.memory, budget=card.memory.budget - len(writes))
    now_mhz = card.gpu.clock_limit_mhz
    for action in writes:
        if not isinstance(action, SetClockLimit) or now_mhz is None:
            continue
        asked_s = now_s if memory.asked_mhz is None else memory.asked_s
        memory = replace(memory, asked_mhz=action.clock_mhz, asked_s=asked_s, wrote_s=now_s)
        if action.clock_mhz > now_mhz:
            memory = replace(memory, told_w=None)  # watts that rise again prove nothing
            continue
        # What it draws now may be less than its clock would let it: a cap holds it.
        then_w = card.idle_w + memory.activity * (card.envelope.nominal_w(action.clock_mhz) - card.idle_w)
        if memory.told_w is not None:
            memory = replace(memory, told_expected_w=memory.told_w - then_w)
        elif _can_prove(card, now_s) and card.watts - then_w >= PROOF_LEAST_W:
            memory = replace(memory, told_w=card.watts, told_s=now_s, told_expected_w=card.watts - then_w)
    return replace(card, memory=memory)


def _can_prove(card: Card, now_s: float) -> bool:
    """Whether it is at full load for long enough that its watts are those of its clock."""
    return card.is_known and card.busy >= 0.95 and now_s - card.memory.since_s >= PROOF_STEADY_S


def is_raise(action: Action, snapshot: Snapshot) -> bool:
    gpu = next((gpu for gpu in snapshot.gpus if gpu.id == action.device), None)
    if gpu is None:
        return False
    if isinstance(action, SetClockLimit):
        return gpu.clock_limit_mhz is not None and action.clock_mhz > gpu.clock_limit_mhz
    return isinstance(action, SetCap) and gpu.cap_w is not None and action.cap_w > gpu.cap_w


def lowering(card: Card, limits: Limits) -> list[Action]:
    """Writes that bring a limit down. A limit that cannot be read is written: better twice than never."""
    gpu = card.gpu
    actions: list[Action] = []
    if card.memory.budget < WRITES_OWED:
        return actions
    if limits.clock_mhz is not None and (gpu.clock_limit_mhz is None or gpu.clock_limit_mhz > limits.clock_mhz):
        actions.append(SetClockLimit(gpu.id, limits.clock_mhz))
    if _caps_unread(card) if gpu.cap_w is None else gpu.cap_w > limits.cap_w:
        actions.append(SetCap(gpu.id, limits.cap_w))
    return actions


def raising(card: Card, limits: Limits) -> list[Action]:
    """Writes that let a card have more, where it is enough to be worth a write and writes are left."""
    gpu, clock = card.gpu, card.gpu.clock_limit_mhz
    actions: list[Action] = []
    if card.memory.budget < WRITES_KEPT + 1:
        return actions
    if gpu.cap_w is not None and limits.cap_w >= gpu.cap_w + RAISE_CAP_W:
        actions.append(SetCap(gpu.id, limits.cap_w))
    least_mhz = RAISE_CLOCK_PLENTY_MHZ if card.memory.budget >= WRITES_PLENTY else RAISE_CLOCK_MHZ
    if limits.clock_mhz is not None and clock is not None and limits.clock_mhz >= clock + least_mhz:
        actions.append(SetClockLimit(gpu.id, limits.clock_mhz))
    return actions
