"""Whether the box was armed, and every card's limits from before anybody governed it (docs/arming.md)."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.config import Folders
from tinybox.core.durable import held, remove_durably, write_durably
from tinybox.core.errors import TinyboxError
from tinybox.core.table import load_object, read_table

FILE_NAME = "armed.json"
LOCK_NAME = "armed.lock"


@dataclass(frozen=True, slots=True)
class CardLimits:
    """What was in force on the card at this address; a lever whose figure is None gets the factory's back.

    A card has a clock limit or, without one, a performance level.
    """

    pci: str
    cap_w: float | None = None
    clock_limit_mhz: int | None = None
    level: str | None = None


@dataclass(frozen=True, slots=True)
class Armed:
    """The file. `is_armed` is false where a disarming could not give back the limits of the cards that are left."""

    is_armed: bool
    since_unix_s: float = 0.0
    cpu_cap_w: float | None = None
    cards: tuple[CardLimits, ...] = ()

    @property
    def addresses(self) -> frozenset[str]:
        """The cards that have a record."""
        return frozenset(card.pci for card in self.cards)


def load_armed(state: Path) -> Armed | None:
    """What the file says; None where there is none. Raises TinyboxError for one that cannot be read or meant."""
    path = state / FILE_NAME
    hint = "the box counts as armed; 'tinybox disarm' gives every card the factory's limits, 'tinybox arm' follows"
    if (table := load_object(path, hint=hint)) is None:
        return None
    try:
        return read_table(Armed, table, where=str(path))
    except TinyboxError as error:
        raise TinyboxError(error.message, hint=hint) from None


def is_armed(state: Path) -> bool:
    """Whether the daemon may govern. A file that says nothing clear was written by an arming: better too low."""
    try:
        found = load_armed(state)
    except TinyboxError:
        return True
    return found is not None and found.is_armed


def save_armed(state: Path, armed: Armed | None) -> None:
    """Make this the file, or remove it. Raises OSError; the old one is as it was then."""
    path = state / FILE_NAME
    if armed is None:
        if path.exists():
            remove_durably(path)
        return
    table = dataclasses.asdict(armed)
    table["cards"] = [_without_none(card) for card in table["cards"]]
    write_durably({path: json.dumps(_without_none(table), indent=2) + "\n"})


@contextmanager
def arming_lock(folders: Folders, *, is_shared: bool, timeout_s: float) -> Iterator[None]:
    """Shared by who writes limits, alone for who arms or disarms. Raises TimeoutError, OSError."""
    with held(folders.run / LOCK_NAME, is_shared=is_shared, timeout_s=timeout_s):
        yield


def _without_none(table: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in table.items() if value is not None}
