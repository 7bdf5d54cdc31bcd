"""What a policy may ask of the machine."""

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
