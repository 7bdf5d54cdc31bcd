"""What a policy may ask of the machine, and what it answers with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SetCap:
    """Write a card's power cap, in the watts of the card's own sensor."""

    gpu: str
    cap_w: float


@dataclass(frozen=True, slots=True)
class SetClockLimit:
    """Write the highest core clock a card may run at."""

    gpu: str
    clock_mhz: int


Action = SetCap | SetClockLimit


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a person should know; `id` is the device it belongs to."""

    id: str
    severity: str
    reason: str
