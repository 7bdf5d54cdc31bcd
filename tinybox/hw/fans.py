"""How each maker's controller lets the chassis fans be driven: one class a family (docs/protocol/bmc.md).

No standard has a command for it. Every family is probed by reading alone; whatever is written is read back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tinybox.core.errors import HardwareError

Raw = Callable[[bytes], bytes]
ASROCK, SUPERMICRO = 49622, 10876  # enterprise numbers, as `mc info` has them
SLOTS = 16  # of ASRock Rack's commands, however few fans a board has
LEAST_PCT = 20.0  # boards refuse less (rsp 0xcc), and a fan that stalls is worse than one that is heard
TOLERANCE_PCT = 2.0  # a controller counts in steps of its own
FULL, OPTIMAL = 1, 2  # fan modes of Supermicro


class FanFamily(Protocol):
    """The fan commands of one family of controllers. Asking and telling raise HardwareError."""

    name: str

    def probe(self) -> bool:
        """Whether this controller knows them; nothing is written."""

    def duties(self) -> tuple[float, ...]:
        """What each slot is told now, percent."""

    def is_manual(self) -> bool | None:
        """Whether the controller lets somebody else decide; None where it does not tell."""

    def set_duty(self, pct: float) -> None:
        """Take all fans and give them one duty. Where it raises they may be taken and undutied: give them back."""

    def release_requests(self) -> tuple[bytes, ...]:
        """What gives all fans back to the controller, for whoever has to send it."""

    def slot_of(self, fan: str) -> int | None:
        """Which of the duties is the one of the fan with this number or letter."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The same sixteen slots under other numbers. `manual` is that mode's code."""

    name: str
    manual: int
    set_modes: bytes
    set_duties: bytes
    get_modes: bytes
    get_duties: bytes


AST2500 = Dialect("asrock-ast2500", 1, b"\x3a\xd8", b"\x3a\xd6", b"\x3a\xd9", b"\x3a\xda")
AST2600 = Dialect("asrock-ast2600", 2, b"\x3a\xd0\x11", b"\x3a\xd0\x0e", b"\x3a\xd0\x12", b"\x3a\xd0\x0f")


class AsrockFans:
    """ASRock Rack: a mode and a duty for each of sixteen slots, FAN1 first."""

    def __init__(self, raw: Raw, dialect: Dialect) -> None:
        self.name = dialect.name
        self._raw = raw
        self._dialect = dialect

    def probe(self) -> bool:
        """Sixteen percentages come back."""
        try:
            return bool(self.duties())
        except HardwareError:
            return False

    def duties(self) -> tuple[float, ...]:
        """What each slot is told now."""
        said = self._raw(self._dialect.get_duties)
        if len(said) != SLOTS or max(said) > 100:
            raise HardwareError(f"{self.name}: {said.hex(' ') or 'nothing'} is not sixteen duties")
        return tuple(float(byte) for byte in said)

    def is_manual(self) -> bool | None:
        """Some firmware of the older family has no command for it, or answers it with something else."""
        try:
            said = self._raw(self._dialect.get_modes)
        except HardwareError:
            return None
        if len(said) != SLOTS or max(said) > 2:
            return None
        return self._dialect.manual in said

    def set_duty(self, pct: float) -> None:
        """Duties count only with all slots manual and none of them zero: else 0xcc, after some took effect."""
        duty = round(min(100.0, max(LEAST_PCT, pct)))
        self._raw(self._dialect.set_modes + bytes([self._dialect.manual] * SLOTS))
        self._raw(self._dialect.set_duties + bytes([duty] * SLOTS))
        _compare(self.name, duty, tuple(said for said in self.duties() if said > 0))  # an empty slot may read zero

    def release_requests(self) -> tuple[bytes, ...]:
        """All slots automatic."""
        return (self._dialect.set_modes + bytes(SLOTS),)

    def slot_of(self, fan: str) -> int | None:
        """FAN3 is the third slot."""
        return int(fan) - 1 if fan.isdecimal() and 0 < int(fan) <= SLOTS else None


class SupermicroFans:
    """Supermicro: one mode, in which duties count (full), and a duty for each of two zones: FAN1…, FANA…."""

    name = "supermicro"
    ZONES = (0, 1)

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._mode_before = OPTIMAL

    def probe(self) -> bool:
        """A known mode, and a first zone in percent: older boards count to 255, and are left alone."""
        try:
            return self._mode() in (0, 1, 2, 4) and bool(self.duties())
        except HardwareError:
            return False

    def duties(self) -> tuple[float, ...]:
        """Of each zone; a board with one fan zone has one."""
        found = []
        for zone in self.ZONES:
            try:
                said = self._raw(bytes((0x30, 0x70, 0x66, 0x00, zone)))
            except HardwareError:
                if zone == 0:
                    raise
                break
            if len(said) != 1 or said[0] > 100:
                raise HardwareError(f"{self.name}: zone {zone} tells {said.hex(' ') or 'nothing'}, not a percentage")
            found.append(float(said[0]))
        return tuple(found)

    def is_manual(self) -> bool | None:
        """In every other mode the controller goes by its own curve."""
        return self._mode() == FULL

    def set_duty(self, pct: float) -> None:
        """Full mode first, then each zone."""
        duty = round(min(100.0, max(LEAST_PCT, pct)))
        mode = self._mode()
        if mode != FULL:
            self._mode_before = mode
        self._raw(bytes((0x30, 0x45, 0x01, FULL)))
        for zone in range(len(self.duties())):
            self._raw(bytes((0x30, 0x70, 0x66, 0x01, zone, duty)))
        _compare(self.name, duty, self.duties())

    def release_requests(self) -> tuple[bytes, ...]:
        """The mode that it had before."""
        return (bytes((0x30, 0x45, 0x01, self._mode_before)),)

    def slot_of(self, fan: str) -> int | None:
        """Numbers are the first zone, letters the second."""
        return 0 if fan.isdecimal() else 1

    def _mode(self) -> int:
        said = self._raw(b"\x30\x45\x00")
        if len(said) != 1:
            raise HardwareError(f"{self.name}: {said.hex(' ') or 'nothing'} is not a fan mode")
        return said[0]


def find_family(maker: int | None, raw: Raw) -> FanFamily | None:
    """The family that a controller of this maker answers to; None where nobody knows how its fans are driven."""
    families: tuple[FanFamily, ...] = ()
    if maker == ASROCK:
        families = (AsrockFans(raw, AST2500), AsrockFans(raw, AST2600))
    elif maker == SUPERMICRO:
        families = (SupermicroFans(raw),)
    return next((family for family in families if family.probe()), None)


def _compare(name: str, duty: int, said: tuple[float, ...]) -> None:
    if not said or max(abs(one - duty) for one in said) > TOLERANCE_PCT:
        held = ", ".join(f"{one:.0f}" for one in said) or "nothing"
        raise HardwareError(f"{name}: the fans hold {held} % after {duty} % was written")
