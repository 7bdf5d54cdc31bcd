"""What a policy answers: what to do, why, and the figures every face shows."""

from dataclasses import dataclass
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class PowerView:
    """Wall power against the budget. `wall_w` is the mean over the last second."""

    wall_w: float | None
    wall_source: WallSource
    budget_w: float
    budget_a: float
    line_v: float | None
    gpu_pool_w: float  # board watts the cards may draw together, worst case of all else deducted
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """One tick's answer. `reason` is that of the last change, so that a quiet box can still explain itself."""

    actions: tuple[Action, ...]
    alerts: tuple[Alert, ...]
    reason: str
    power: PowerView
    noise_dba: float | None
    period_s: float
