"""What outlives the daemon of health, in its state folder: what it knows, what came and went, what was acknowledged."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinybox.core.durable import write_durably
from tinybox.core.errors import TinyboxError
from tinybox.core.health import Ack, HealthEvent
from tinybox.core.table import read_table

KNOWN, ACKS, HISTORY = "health.json", "health-acks.json", "health-history.jsonl"
MOST_EVENTS = 2000
KEPT_EVENTS = 1500


@dataclass(frozen=True, slots=True)
class SavedTrouble:
    """A check raised by a device when the daemon last wrote; `key` is `CHECK DEVICE`."""

    key: str
    status: str
    since_unix_s: float
    times_unix_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedFigure:
    """A figure of the very first look."""

    key: str
    value: float


@dataclass(frozen=True, slots=True)
class SavedHealth:
    """What the daemon knew of this box."""

    box: str
    baseline: tuple[SavedFigure, ...] = ()
    raised: tuple[SavedTrouble, ...] = ()


@dataclass(frozen=True, slots=True)
class _Acks:
    acks: tuple[Ack, ...] = field(default_factory=tuple)


def load_health(state: Path, box: str) -> SavedHealth:
    """What was known of this kind of box; nothing where nothing is, or where the file cannot be meant."""
    table = _json(state / KNOWN)
    try:
        saved = read_table(SavedHealth, table, where=str(state / KNOWN)) if table else SavedHealth(box)
    except TinyboxError:
        return SavedHealth(box)
    return saved if saved.box == box else SavedHealth(box)


def health_text(saved: SavedHealth) -> str:
    """The file."""
    return json.dumps(dataclasses.asdict(saved), indent=1) + "\n"


def load_acks(state: Path) -> tuple[Ack, ...]:
    """What the owner has acknowledged. A file that cannot be meant acknowledges nothing."""
    table = _json(state / ACKS)
    try:
        return read_table(_Acks, table, where=str(state / ACKS)).acks if table else ()
    except TinyboxError:
        return ()


def save_acks(state: Path, acks: tuple[Ack, ...]) -> None:
    """Keep them. Raises TinyboxError where that folder cannot be written."""
    text = json.dumps(dataclasses.asdict(_Acks(acks)), indent=1, ensure_ascii=False) + "\n"
    try:
        write_durably({state / ACKS: text})
        (state / ACKS).chmod(0o644)
    except OSError as error:
        raise TinyboxError(f"cannot write {state / ACKS}: {error.strerror}", hint="run it as root") from None


def load_history(state: Path) -> tuple[HealthEvent, ...]:
    """What came and went, oldest first; torn lines are left out. Raises TinyboxError without access."""
    try:
        lines = (state / HISTORY).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise TinyboxError(f"cannot read {state / HISTORY}: {error.strerror}", hint="run it as root") from None
    found = []
    for line in lines:
        try:
            found.append(read_table(HealthEvent, json.loads(line), where=HISTORY))
        except (ValueError, TypeError, AttributeError, TinyboxError):
            continue
    return tuple(found)


def add_history(state: Path, events: tuple[HealthEvent, ...]) -> None:
    """Add to it; the oldest are given up beyond MOST_EVENTS. Raises OSError."""
    path = state / HISTORY
    state.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(dataclasses.asdict(event), ensure_ascii=False) + "\n" for event in events)
    lines = path.read_text(errors="replace").splitlines()
    if len(lines) > MOST_EVENTS:
        write_durably({path: "\n".join(lines[-KEPT_EVENTS:]) + "\n"})


def _json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
