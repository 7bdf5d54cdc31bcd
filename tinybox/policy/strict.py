"""The strict guarantee's sharing: what the cards may draw under the limits in force never sums above what is there.

Cards without work wait at their floor, so that those with work have the rest; with no work at all everybody holds the
same. A limit is lowered at once, and raised only when the grants, with the raise, still fit: so the sum holds between
any two writes, and a daemon that dies at any moment leaves a safe box.
"""

from collections.abc import Sequence

from tinybox.core.box import GpuKind
from tinybox.core.snapshot import GpuState
from tinybox.policy.cards import Card
from tinybox.policy.envelope import cap_range_w, floor_clock_mhz

LINGER_S, LINGER_LONG_S = 0.4, 4.0  # a card whose work pauses for less keeps its watts: moving them takes longer
WRITES_FEW = 5.0  # of a card that works and pauses by turns: its watts stay where they are, for the longer time
REFUSED_S = 3.0  # a card above its target for so long does not take the limit
ABOVE_W = 5.0


def is_stuck(card: Card, now_s: float) -> bool:
    """Whether the card's grant cannot be lowered: it sleeps, is gone, or refuses."""
    since_s = card.memory.above_since_s
    return card.gpu.state is not GpuState.AWAKE or (since_s is not None and now_s - since_s > REFUSED_S)


def floor_w(card: Card, kind: GpuKind) -> float:
    """The least that the card can be held to, by clock or by cap."""
    by_cap_w = cap_range_w(card.gpu, kind)[0] / kind.socket_to_board_min
    if not card.gpu.has_clock_lever:
        return by_cap_w * card.memory.raised
    by_clock_w = card.envelope.most_w(floor_clock_mhz(card.gpu, kind))
    return min(by_clock_w, by_cap_w) * card.memory.raised


def shares_w(cards: Sequence[Card], kind: GpuKind, pool_w: float, now_s: float) -> dict[str, float]:
    """Board watts that each card is to be held to. What a stuck card holds above its share comes off the others'."""
    left_w = pool_w
    open_cards = list(cards)
    while open_cards:
        shares = _divided(open_cards, kind, left_w, now_s)
        over = [card for card in open_cards if is_stuck(card, now_s) and card.grant_w > shares[card.gpu.id]]
        if not over:
            return {card.gpu.id: 0.0 for card in cards} | shares
        left_w = max(0.0, left_w - sum(card.grant_w for card in over))
        open_cards = [card for card in open_cards if card not in over]
    return {card.gpu.id: 0.0 for card in cards}


def _divided(cards: Sequence[Card], kind: GpuKind, pool_w: float, now_s: float) -> dict[str, float]:
    """Floors first, then the highest priority's working cards to all they can use, and so on; the rest to who waits."""
    least = {card.gpu.id: min(floor_w(card, kind), pool_w / len(cards)) for card in cards}
    shares = dict(least)
    left_w = pool_w - sum(least.values())
    working = [card for card in cards if has_work(card, now_s)]
    ranks = sorted({card.priority for card in working}, reverse=True)
    groups = [[card for card in working if card.priority == rank] for rank in ranks]
    groups.append([card for card in cards if card not in working])
    for group in groups:
        left_w = _fill(group, shares, left_w, kind)
    return shares


def has_work(card: Card, now_s: float) -> bool:
    """Whether it works, or did a moment ago."""
    linger_s = LINGER_S if card.memory.budget >= WRITES_FEW else LINGER_LONG_S
    return card.is_awake and now_s - card.memory.busy_s <= linger_s


def _fill(group: list[Card], shares: dict[str, float], left_w: float, kind: GpuKind) -> float:
    """Raise a group to one common level as far as the watts reach, each to what it may have; what is left."""
    open_cards = [card for card in group if shares[card.gpu.id] < _most_w(card, kind)]
    while open_cards and left_w > 1e-6:
        level = min(shares[card.gpu.id] for card in open_cards)
        lowest = [card for card in open_cards if shares[card.gpu.id] <= level + 1e-9]
        above = [shares[card.gpu.id] for card in open_cards if shares[card.gpu.id] > level + 1e-9]
        target = min([*above, *(_most_w(card, kind) for card in lowest), level + left_w / len(lowest)])
        for card in lowest:
            shares[card.gpu.id] = target
        left_w -= (target - level) * len(lowest)
        open_cards = [card for card in open_cards if shares[card.gpu.id] < _most_w(card, kind) - 1e-9]
    return left_w


def _most_w(card: Card, kind: GpuKind) -> float:
    """The most this card may have: its own limit, or all it can draw."""
    return min(kind.board_power_max_w, card.limit_w if card.limit_w is not None else kind.board_power_max_w)
