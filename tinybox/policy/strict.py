"""The strict guarantee's sharing: what the cards may draw under the limits in force never sums above what is there.

Cards without work wait at their floor, so that those with work have the rest; with no work at all everybody holds the
same. A limit is lowered at once, and raised only when the grants, with the raise, still fit: so the sum holds between
any two writes, and a daemon that dies at any moment leaves a safe box.
"""

from collections.abc import Sequence
from dataclasses import replace

from tinybox.core.actions import Action, SetClockLimit
from tinybox.core.snapshot import GpuState
from tinybox.policy.cards import Card
from tinybox.policy.envelope import board_max_w, cap_range_w, floor_clock_mhz, limits_for
from tinybox.policy.writes import lowering, raising

LINGER_S, LINGER_LONG_S = 0.4, 4.0  # a card whose work pauses for less keeps its watts: moving them takes longer
WRITES_FEW = 5.0  # of a card that works and pauses by turns: its watts stay where they are, for the longer time
REFUSED_S = 3.0  # a card above its target for so long does not take the limit
ABOVE_W = 5.0


def share_strict(
    cards: Sequence[Card], *, pool_w: float, trim: float, budget_w: float, now_s: float
) -> tuple[tuple[Action, ...], tuple[Card, ...], str | None]:
    """Grants that fit: every lowering at once, a raise only as far as the grants, with it, still fit the pool.

    `pool_w` board watts are for all cards, their shares are cut from `trim` of it. Returns the writes, the cards with
    what to remember of them, and a reason where something is written.
    """
    shares = shares_w(cards, pool_w * trim, now_s)
    cards = tuple(_watch_obedience(card, shares[card.gpu.id], now_s) for card in cards)
    lower: list[Action] = []
    raised: list[Action] = []
    room_w = pool_w - sum(card.grant_w for card in cards)
    kept = []
    for card in cards:
        writes: list[Action] = []
        if card.is_awake:
            limits = limits_for(shares[card.gpu.id], card.gpu, card.kind, card.envelope)
            writes = lowering(card, limits)
            if not writes and (higher := raising(card, limits)):
                after = replace(card.gpu, cap_w=limits.cap_w, clock_limit_mhz=limits.clock_mhz)
                growth_w = max(0.0, board_max_w(after, card.kind, card.envelope) * card.memory.raised - card.grant_w)
                if growth_w <= room_w:
                    raised += higher
                    room_w -= growth_w
                    writes = higher
            else:
                lower += writes
        spent = replace(card.memory, budget=card.memory.budget - len(writes)) if writes else card.memory
        kept.append(card if spent is card.memory else replace(card, memory=spent))
    actions = (*lower, *raised)
    return actions, tuple(kept), _strict_reason(actions, shares, budget_w)


def is_stuck(card: Card, now_s: float) -> bool:
    """Whether the card's grant cannot be lowered: it sleeps, is gone, or refuses."""
    since_s = card.memory.above_since_s
    return card.gpu.state is not GpuState.AWAKE or (since_s is not None and now_s - since_s > REFUSED_S)


def floor_w(card: Card) -> float:
    """The least that the card can be held to, by clock or by cap."""
    by_cap_w = cap_range_w(card.gpu, card.kind)[0] / card.kind.socket_to_board_min
    if not card.gpu.has_clock_lever:
        return by_cap_w * card.memory.raised
    by_clock_w = card.envelope.most_w(floor_clock_mhz(card.gpu, card.kind))
    return min(by_clock_w, by_cap_w) * card.memory.raised


def shares_w(cards: Sequence[Card], pool_w: float, now_s: float) -> dict[str, float]:
    """Board watts that each card is to be held to. What a stuck card holds above its share comes off the others'."""
    left_w = pool_w
    open_cards = list(cards)
    while open_cards:
        shares = _divided(open_cards, left_w, now_s)
        over = [card for card in open_cards if is_stuck(card, now_s) and card.grant_w > shares[card.gpu.id]]
        if not over:
            return {card.gpu.id: 0.0 for card in cards} | shares
        left_w = max(0.0, left_w - sum(card.grant_w for card in over))
        open_cards = [card for card in open_cards if card not in over]
    return {card.gpu.id: 0.0 for card in cards}


def _divided(cards: Sequence[Card], pool_w: float, now_s: float) -> dict[str, float]:
    """Floors first, then the highest priority's working cards to all they can use, and so on; the rest to who waits."""
    least = {card.gpu.id: min(floor_w(card), pool_w / len(cards)) for card in cards}
    shares = dict(least)
    left_w = pool_w - sum(least.values())
    working = [card for card in cards if has_work(card, now_s)]
    ranks = sorted({card.priority for card in working}, reverse=True)
    groups = [[card for card in working if card.priority == rank] for rank in ranks]
    groups.append([card for card in cards if card not in working])
    for group in groups:
        left_w = _fill(group, shares, left_w)
    return shares


def has_work(card: Card, now_s: float) -> bool:
    """Whether it works, or did a moment ago."""
    linger_s = LINGER_S if card.memory.budget >= WRITES_FEW else LINGER_LONG_S
    return card.is_awake and now_s - card.memory.busy_s <= linger_s


def _fill(group: list[Card], shares: dict[str, float], left_w: float) -> float:
    """Raise a group to one common level as far as the watts reach, each to what it may have; what is left."""
    open_cards = [card for card in group if shares[card.gpu.id] < _most_w(card)]
    while open_cards and left_w > 1e-6:
        level = min(shares[card.gpu.id] for card in open_cards)
        lowest = [card for card in open_cards if shares[card.gpu.id] <= level + 1e-9]
        above = [shares[card.gpu.id] for card in open_cards if shares[card.gpu.id] > level + 1e-9]
        target = min([*above, *(_most_w(card) for card in lowest), level + left_w / len(lowest)])
        for card in lowest:
            shares[card.gpu.id] = target
        left_w -= (target - level) * len(lowest)
        open_cards = [card for card in open_cards if shares[card.gpu.id] < _most_w(card) - 1e-9]
    return left_w


def _most_w(card: Card) -> float:
    """The most this card may have: its own limit, or all it can draw."""
    return min(card.kind.board_power_max_w, card.limit_w if card.limit_w is not None else card.kind.board_power_max_w)


def _watch_obedience(card: Card, share_w: float, now_s: float) -> Card:
    """Keep the time since when an awake card has been above the share it was told."""
    memory = card.memory
    if not card.is_awake or card.grant_w <= share_w + ABOVE_W:
        return card if memory.above_since_s is None else replace(card, memory=replace(memory, above_since_s=None))
    if memory.above_since_s is not None:
        return card
    return replace(card, memory=replace(memory, above_since_s=now_s))


def _strict_reason(actions: Sequence[Action], shares: dict[str, float], budget_w: float) -> str | None:
    """One sentence for what this tick changes; None when it changes nothing."""
    touched = sorted({action.device for action in actions})
    if not touched:
        return None
    who = touched[0] if len(touched) == 1 else f"{len(touched)} cards"
    first = actions[0]
    what = f"clock {first.clock_mhz} MHz" if isinstance(first, SetClockLimit) else f"cap {first.cap_w:.0f} W"  # type: ignore[union-attr]
    watts = f"{shares[first.device]:.0f} W of board{' each' if len(touched) > 1 else ''}"
    return f"{who} set to {what}: {watts}, of the {budget_w:,.0f} W the outlet has under full load"
