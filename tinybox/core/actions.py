"""What a policy may ask of the machine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SetCap:
    """Write a card's power cap, in the watts of the card's own sensor."""

    device: str
    cap_w: float


@dataclass(frozen=True, slots=True)
class SetClockLimit:
    """Write the highest core clock a card may run at."""

    device: str
    clock_mhz: int


@dataclass(frozen=True, slots=True)
class SetCpuCap:
    """Write the processor's sustained power limit (RAPL)."""

    cap_w: float
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class FreezeWork:
    """Stop every process that holds a card from running (SIGSTOP), or let it run again; nothing of it is lost."""

    is_frozen: bool
    device: str = "work"


@dataclass(frozen=True, slots=True)
class EndWork:
    """Ask every process that holds a card to end (SIGTERM, after SIGCONT)."""

    device: str = "work"


@dataclass(frozen=True, slots=True)
class PowerOff:
    """Shut the machine down."""

    device: str = "work"


@dataclass(frozen=True, slots=True)
class SetFanDuty:
    """Take the chassis fans from the controller and run them at this duty; at least a fifth, whatever is asked."""

    duty_pct: float
    device: str = "fans"


@dataclass(frozen=True, slots=True)
class ReleaseFans:
    """Give the chassis fans back to the controller."""

    device: str = "fans"


@dataclass(frozen=True, slots=True)
class LimitGpuFan:
    """How fast a card's own fan may turn, or turns where its driver takes only that; None: as its firmware likes."""

    device: str
    rpm: float | None


Action = SetCap | SetClockLimit | SetCpuCap | FreezeWork | EndWork | PowerOff | SetFanDuty | ReleaseFans | LimitGpuFan
CardAction = SetCap | SetClockLimit | LimitGpuFan
