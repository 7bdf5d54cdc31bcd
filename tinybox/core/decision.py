"""What a policy answers: what to do, why, and the figures every face shows."""

from dataclasses import dataclass
from enum import StrEnum

from tinybox.core.acoustics import Level
from tinybox.core.actions import Action
from tinybox.core.snapshot import Severity


class WallSource(StrEnum):
    """Who says what the wall power is."""

    PSU = "psu"
    BMC = "bmc"
    ESTIMATE = "estimate"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a person should know; `id` is the device it belongs to."""

    id: str
    severity: Severity
    reason: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The most board watts a card can draw under the limits in force."""

    gpu: str
    board_w: float


class Guarantee(StrEnum):
    """What holds if the daemon dies now. `strict`: grants fit the outlet. `bounded`: the failsafe is quick enough."""

    STRICT = "strict"
    BOUNDED = "bounded"


@dataclass(frozen=True, slots=True)
class PowerView:
    """Wall power against the budget. `wall_w` is the mean over the last second, amps are at the outlet."""

    wall_w: float | None
    wall_source: WallSource
    budget_w: float
    budget_a: float
    line_v: float | None
    gpu_pool_w: float  # board watts the cards may draw together, worst case of all else deducted
    grants: tuple[Grant, ...] = ()
    guarantee: Guarantee = Guarantee.STRICT
    is_commissioned: bool = False
    amps: float | None = None
    mean_a: float | None = None  # over the window of the continuous promise
    other_a: float = 0.0  # of somebody else on the circuit, as far as the line shows it
    breaker_heat: float = 0.0  # of the fastest breaker's trip, now
    worst_a: float = 0.0  # every card at its grant, everything else at its worst
    worst_heat: float = 0.0  # where that would end by the time the failsafe has acted
    failsafe_s: float = 0.0  # that time


@dataclass(frozen=True, slots=True)
class QuietView:
    """How loud the box may be, and what that asks of it."""

    profile: str
    limit_dba: float | None  # None: no limit
    duty_pct: float | None  # of the chassis fans, as we told them; None: they are their controller's
    share: float  # of the circuit's promise that noise leaves
    hottest: str | None = None  # the card nearest to its limits
    hottest_c: float | None = None  # the one of its temperatures that is
    hottest_soft_c: float | None = None  # up to which it may get for the sake of quiet
    is_broken: bool = False  # heat, or a temperature that is not told, goes before quiet now
    next_db_watts_pct: float | None = None  # what one decibel less would take of the cards' watts
    next_db_work_pct: float | None = None  # and of their work, at most


@dataclass(frozen=True, slots=True)
class Decision:
    """One tick's answer. `reason` is that of the last change, so that a quiet box can still explain itself."""

    actions: tuple[Action, ...]
    alerts: tuple[Alert, ...]
    reason: str
    power: PowerView
    noise: Level | None
    period_s: float
    quiet: QuietView | None = None  # None: nobody asked for it, or nothing may be written

    @property
    def noise_dba(self) -> float | None:
        """The level at the listener; None while a fan's speed is unknown."""
        return None if self.noise is None else self.noise.dba
