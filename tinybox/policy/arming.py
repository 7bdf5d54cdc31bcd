"""A box that nobody armed: everything is read and judged, nothing is written; and how limits are given back."""

from collections.abc import Iterable
from dataclasses import replace

from tinybox.core.actions import Action, SetCap, SetClockLimit
from tinybox.core.arming import Arming, Original
from tinybox.core.box import GpuKind
from tinybox.core.config import Config
from tinybox.core.decision import Alert, Decision, Guarantee
from tinybox.core.snapshot import Gpu, GpuState, Severity
from tinybox.policy.cards import CardMemory
from tinybox.policy.decide import Memory
from tinybox.policy.envelope import cap_range_w
from tinybox.policy.ladder import FREEZE_AT, LadderMemory

OBSERVING = "only observing: 'tinybox arm' lets it govern"


def observing(config: Config) -> Config:
    """The settings of a box that may not be touched: no last resort either."""
    return replace(config, power=replace(config.power, may_freeze=False, may_end=False, may_power_off=False))


def observed(decision: Decision, before: Memory, after: Memory) -> tuple[Decision, Memory]:
    """The decision with nothing done, and a memory in which nothing was written either."""
    cards = {
        name: _unwritten(card, before.power.cards.cards.get(name)) for name, card in after.power.cards.cards.items()
    }
    power = replace(after.power, cards=replace(after.power.cards, cards=cards), ladder=LadderMemory(), trim=1.0)
    alerts = tuple(alert for alert in decision.alerts if "is forbidden by power." not in alert.reason)
    if decision.power.breaker_heat >= FREEZE_AT:
        reason = f"breaker heat at {decision.power.breaker_heat:.0%}: nothing is done about it, the box is not armed"
        alerts = (*alerts, Alert("power", Severity.CRITICAL, reason))
    view = replace(decision.power, guarantee=Guarantee.NONE)
    seen = replace(decision, actions=(), alerts=alerts, reason=OBSERVING, power=view, is_armed=False)
    return seen, replace(after, power=power, reason=before.reason)


def _unwritten(card: CardMemory, before: CardMemory | None) -> CardMemory:
    """What was learned of the card, without the writes that it never got."""
    fresh = before if before is not None else CardMemory(card.grant_w)
    return replace(
        card,
        above_since_s=None,
        budget=fresh.budget,
        told_w=fresh.told_w,
        told_s=fresh.told_s,
        told_expected_w=fresh.told_expected_w,
        wrote_s=fresh.wrote_s,
        asked_mhz=fresh.asked_mhz,
        asked_s=fresh.asked_s,
    )


def originals_of(gpus: Iterable[Gpu], kind: GpuKind) -> tuple[Original, ...]:
    """The limits that awake cards have now, to be given back one day. Limits at our own floor are nobody's choice."""
    return tuple(
        Original(gpu.pci, gpu.cap_w, gpu.clock_limit_mhz)
        for gpu in gpus
        if gpu.state is GpuState.AWAKE and gpu.pci is not None and gpu.cap_w is not None and not _at_floor(gpu, kind)
    )


def _at_floor(gpu: Gpu, kind: GpuKind) -> bool:
    least_w = cap_range_w(gpu, kind)[0]
    floor_mhz = gpu.clock_limit_min_mhz if gpu.clock_limit_min_mhz is not None else kind.clock_min_mhz
    is_low = gpu.clock_limit_mhz is None or gpu.clock_limit_mhz <= max(floor_mhz, kind.clock_min_mhz)
    return is_low and gpu.cap_w is not None and gpu.cap_w <= least_w + 1


def restoring_actions(gpu: Gpu, kind: GpuKind, arming: Arming) -> tuple[Action, ...]:
    """What gives one awake card back the limits it had, or the factory's where nobody knows them."""
    original = arming.original(gpu.pci or "")
    stock_w = gpu.cap_default_w if gpu.cap_default_w is not None else kind.cap_default_w
    cap_w = original.cap_w if original is not None and original.cap_w is not None else stock_w
    actions: list[Action] = [SetCap(gpu.id, cap_w)]
    if gpu.has_clock_lever:
        mhz = original.clock_limit_mhz if original is not None else None
        actions.append(SetClockLimit(gpu.id, mhz if mhz is not None else kind.clock_max_mhz))
    return tuple(actions)
