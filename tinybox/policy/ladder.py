"""The last resorts, by the breaker's modelled heat: freeze the work, end it, switch off. Climbed down again.

Each step has the owner's switch and is taken only when every limit is at its floor already: heat that high means that
limits did not help, or that somebody else heats the breaker.
"""

from dataclasses import dataclass
from enum import IntEnum

from tinybox.core.actions import Action, EndWork, FreezeWork, PowerOff
from tinybox.core.config import PowerConfig
from tinybox.core.decision import Alert
from tinybox.core.snapshot import Severity, Snapshot

FREEZE_AT, END_AT, OFF_AT = 0.60, 0.70, 0.78  # of the fastest breaker's trip
THAW_BELOW = 0.57
REPEAT_S = 1.0  # new processes join the frozen ones
END_REPEAT_S = 10.0


class Step(IntEnum):
    """How far up."""

    NONE = 0
    FROZEN = 1
    ENDED = 2
    OFF = 3


@dataclass(frozen=True, slots=True)
class Heat:
    """Of the fastest breaker's trip: with a neighbour's amps as the line shows them, and with what is sure of them."""

    share: float
    sure_share: float


@dataclass(frozen=True, slots=True)
class Hopes:
    """What could still help: whether work at the lowest clocks keeps the promise, whether it runs there already and
    the breaker does not cool for all that, and whether any of it draws."""

    floors_fit: bool
    floor_is_too_hot: bool
    still_draws: bool


@dataclass(frozen=True, slots=True)
class LadderMemory:
    """The step taken, and when its action was last repeated."""

    step: Step = Step.NONE
    acted_s: float = -1e9


def climb(
    snapshot: Snapshot, heat: Heat, hopes: Hopes, config: PowerConfig, memory: LadderMemory
) -> tuple[tuple[Action, ...], list[Alert], str | None, LadderMemory]:
    """Actions, alerts and reason."""
    now_s = snapshot.time_s
    step = _wanted(heat, hopes, config, step=memory.step, was_frozen=snapshot.is_work_frozen)
    words = f"the breaker is modelled at {heat.share:.0%} of its trip"
    if step is Step.NONE:
        if memory.step is Step.NONE and not snapshot.is_work_frozen:
            return (), _forbidden(heat.share, config), None, memory
        return (FreezeWork(is_frozen=False),), [], f"work goes on: {words}", LadderMemory()
    names = {Step.FROZEN: "work is frozen", Step.ENDED: "work was asked to end", Step.OFF: "the box switches off"}
    alerts = [Alert("power", Severity.CRITICAL, f"{names[step]}: {words}"), *_forbidden(heat.share, config)]
    repeat_s = REPEAT_S if step is Step.FROZEN else END_REPEAT_S
    if step == memory.step and now_s - memory.acted_s < repeat_s:
        return (), alerts, None, memory
    actions: dict[Step, Action] = {
        Step.FROZEN: FreezeWork(is_frozen=True),
        Step.ENDED: EndWork(),
        Step.OFF: PowerOff(),
    }
    reason = f"{names[step]}: {words}" if step != memory.step else None
    return (actions[step],), alerts, reason, LadderMemory(step, now_s)


def _wanted(heat: Heat, hopes: Hopes, config: PowerConfig, *, step: Step, was_frozen: bool) -> Step:
    if heat.sure_share >= OFF_AT and config.may_power_off:
        return Step.OFF
    if step is Step.OFF and heat.share >= THAW_BELOW:
        return Step.OFF
    if heat.sure_share >= END_AT and config.may_end and (hopes.still_draws or not config.may_freeze):
        return Step.ENDED
    if heat.share >= FREEZE_AT and config.may_freeze and (hopes.floor_is_too_hot or not hopes.floors_fit):
        return max(step, Step.FROZEN)
    if (step is not Step.NONE or was_frozen) and (heat.share >= THAW_BELOW or not hopes.floors_fit):
        return Step.FROZEN if config.may_freeze else Step.NONE
    return Step.NONE


def _forbidden(share: float, config: PowerConfig) -> list[Alert]:
    """What would have been done, where the owner's switch forbids it."""
    steps = (
        (FREEZE_AT, config.may_freeze, "freezing the work", "may_freeze"),
        (END_AT, config.may_end, "ending the work", "may_end"),
        (OFF_AT, config.may_power_off, "switching off", "may_power_off"),
    )
    return [
        Alert("power", Severity.CRITICAL, f"breaker heat at {share:.0%}: {what} is forbidden by power.{switch}")
        for least, allowed, what, switch in steps
        if share >= least and not allowed
    ]
