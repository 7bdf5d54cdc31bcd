"""A card's own fan: how fast its firmware may let it turn, or how fast it turns where the driver takes only that."""

import math
from dataclasses import dataclass, field, replace

from tinybox.core.actions import Action, LimitGpuFan
from tinybox.core.snapshot import FanLever, Gpu, GpuState, Snapshot
from tinybox.policy.air import Plan
from tinybox.policy.checks.past import CardPast

ROUND_S = 4.0
MORE, LESS, ROUND_RPM = 0.04, 0.08, 50.0  # what a change is worth a write for, and to what it is rounded
AGAIN_S, LOW_S = 20.0, 60.0  # lowered so seldom, and after less would have done for so long
COOL_C, COLD_C = 52.0, 46.0  # a card that rests may let its fan stand
READ_BACK_S = 8.0
FIGHTS, PEACE_S = 3, 1800.0


@dataclass(frozen=True, slots=True)
class CardFan:
    """One card: what its fan was told, and how its heat sink differs from its kind's."""

    past: CardPast | None = None
    has_told: bool = False  # a temperature, since we look at it
    factor: float = 1.0
    over: dict[str, float] = field(default_factory=dict)  # by sensor: kelvin over the heat sink for each watt
    low_s: float | None = None  # since when a lower limit would do
    told_rpm: float | None = None
    told_s: float = -math.inf
    hot_s: float = -math.inf  # when it last was too hot
    fights: int = 0
    left_until_s: float = -math.inf  # to whoever else tells it


def next_limits(
    now: Snapshot, plan: Plan | None, before: dict[str, CardFan]
) -> tuple[list[Action], dict[str, CardFan]]:
    """Every card's ceiling; without a plan, or too hot, its firmware decides."""
    actions: list[Action] = []
    cards = dict(before)
    for gpu in now.gpus:
        card = cards[gpu.id]
        if gpu.state is not GpuState.AWAKE or gpu.fan_lever is None:
            continue
        if now.time_s < card.left_until_s:
            continue
        is_free = plan is None or card.hot_s > -math.inf
        wanted = None if plan is None or is_free else _ceiling(gpu, plan.rpm.get(gpu.id), card)
        told, card = _told(gpu, wanted, card, now.time_s)
        if told:
            actions.append(LimitGpuFan(gpu.id, card.told_rpm))
        cards[gpu.id] = card
    return actions, cards


def _ceiling(gpu: Gpu, rpm: float | None, card: CardFan) -> float | None:
    """What its fan is to be told; a card that is cool and rests is told nothing where telling means turning."""
    if rpm is None:
        return card.told_rpm
    if gpu.fan_lever is FanLever.SPEED:
        is_cool = (gpu.edge_c or 0.0) < (COLD_C if card.told_rpm is not None else COOL_C)
        if is_cool or rpm == 0:
            return None
    elif rpm == 0:
        return card.told_rpm
    return max(ROUND_RPM * math.ceil(rpm / ROUND_RPM), gpu.fan_limit_min_rpm or 0.0)


def _told(gpu: Gpu, wanted: float | None, card: CardFan, now_s: float) -> tuple[bool, CardFan]:
    """Whether to write it, and what is remembered then."""
    was = card.told_rpm
    if wanted is None:
        return was is not None, replace(card, told_rpm=None, told_s=now_s if was is not None else card.told_s)
    if was is not None and now_s - card.told_s > READ_BACK_S and _is_overruled(gpu, was):
        if card.fights + 1 >= FIGHTS:
            return False, replace(card, told_rpm=None, fights=0, left_until_s=now_s + PEACE_S)
        return True, replace(card, told_rpm=wanted, told_s=now_s, fights=card.fights + 1)
    is_more = was is None or wanted >= was * (1 + MORE)
    is_low = was is not None and wanted <= was * (1 - LESS)
    card = replace(card, low_s=None if not is_low else now_s if card.low_s is None else card.low_s)
    is_less = card.low_s is not None and now_s - card.low_s >= LOW_S and now_s - card.told_s >= AGAIN_S
    if was is None or is_less or (is_more and now_s - card.told_s >= ROUND_S):
        return True, replace(card, told_rpm=wanted, told_s=now_s)
    return False, card


def _is_overruled(gpu: Gpu, told_rpm: float) -> bool:
    if gpu.fan_limit_rpm is None:
        return True
    return abs(gpu.fan_limit_rpm - told_rpm) > max(ROUND_RPM, 0.02 * told_rpm)
