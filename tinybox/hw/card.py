"""A graphics card of any vendor, as `Hardware` reads and limits it."""

from typing import Protocol

from tinybox.core.actions import CardAction
from tinybox.core.armed import CardLimits
from tinybox.core.snapshot import Fault, Gpu


class Card(Protocol):
    """One slot. `read` never raises: what cannot be read is None, with a fault that says why."""

    id: str
    address: str

    def read(self, now_s: float) -> tuple[Gpu, tuple[Fault, ...]]:
        """The card now; a sleeping card is left asleep."""

    def apply(self, action: CardAction, now_s: float) -> None:
        """Write a limit and read it back. Raises HardwareError when it is not in force afterwards."""

    def writes(self, action: CardAction) -> tuple[tuple[str, str], ...]:
        """What puts a limit in force, as (path, text), found without waking the card; none without a driver."""

    def limits(self) -> CardLimits | None:
        """What is in force; None without a driver."""

    def restore(self, limits: CardLimits, now_s: float) -> None:
        """Put these limits in force again. Raises HardwareError."""

    def close(self) -> None:
        """Let go of everything held open; the card is looked at afresh when it is read again."""
