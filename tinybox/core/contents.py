"""What lay on the data array and where it was copied to: kept in the state folder, for the day the array is lost."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.durable import write_durably
from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table

FILE_NAME = "raid-contents.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder, or a file above the depth at which folders are counted whole. `path` is relative to the array."""

    path: str
    size_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Evacuation:
    """A copy of everything: where, when, and which files (relative) could not be read."""

    dest: str
    unix_s: float
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """The array as it was last looked at."""

    mount: str
    unix_s: float
    entries: tuple[Entry, ...] = ()
    evacuation: Evacuation | None = None


def load_contents(state: Path) -> Contents | None:
    """What was kept; None where nothing was. Raises TinyboxError for a file that cannot be read or meant."""
    path = state / FILE_NAME
    hint = "'tinybox raid contents' writes it anew, while the array is mounted"
    try:
        table = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise TinyboxError(f"cannot read {path}: {error}", hint=hint) from None
    if not isinstance(table, dict):
        raise TinyboxError(f"{path}: not a JSON object", hint=hint)
    return read_table(Contents, {key: value for key, value in table.items() if value is not None}, where=str(path))


def save_contents(state: Path, contents: Contents) -> None:
    """Keep it. Raises OSError."""
    write_durably({state / FILE_NAME: json.dumps(dataclasses.asdict(contents), indent=1) + "\n"})
