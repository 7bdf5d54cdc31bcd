"""How loud the box is, and what a sound meter at the listener showed of it, which is kept in the state folder."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.durable import remove_durably, write_durably
from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table

FILE_NAME = "noise.json"
ANEW = "'tinybox noise calibrate --clear' begins anew"


@dataclass(frozen=True, slots=True)
class Source:
    """One source's level at the listener: `room`, or a fan or card by its id."""

    id: str
    dba: float


@dataclass(frozen=True, slots=True)
class Level:
    """A level in dBA with the ± that holds nine times of ten, and each source's own."""

    dba: float
    plus_minus_db: float
    is_estimated: bool
    sources: tuple[Source, ...]  # a fan that stands is not among them


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading in dBA, and the speeds of that moment in rpm; a standing fan is 0."""

    unix_s: float
    dba: float
    chassis_rpm: tuple[float, ...]
    card_rpm: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Every reading that was taken of this kind of box where it stands."""

    box: str
    readings: tuple[Reading, ...] = ()


def load_calibration(state: Path, box: str) -> Calibration:
    """What was read; nothing where nothing was, or of another box. Raises TinyboxError for a file that is none."""
    path = state / FILE_NAME
    try:
        table = json.loads(path.read_text())
    except FileNotFoundError:
        return Calibration(box)
    except (OSError, ValueError) as error:
        raise TinyboxError(f"cannot read {path}: {error}", hint=ANEW) from None
    try:
        found = read_table(Calibration, table if isinstance(table, dict) else {}, where=str(path))
    except TinyboxError as error:
        raise TinyboxError(error.message, hint=ANEW) from None
    return found if found.box == box else Calibration(box)


def save_calibration(state: Path, calibration: Calibration) -> None:
    """Keep it; one without readings leaves no file. Raises TinyboxError where that folder cannot be written."""
    path = state / FILE_NAME
    try:
        if not calibration.readings:
            remove_durably(path)
            return
        write_durably({path: json.dumps(dataclasses.asdict(calibration), indent=1) + "\n"})
        path.chmod(0o644)
    except OSError as error:
        raise TinyboxError(f"cannot write {path}: {error.strerror}", hint="run it as root") from None
