"""How loud the box may be: the owner's choice, and what the settings say for day and night."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.durable import remove_durably, write_durably
from tinybox.core.errors import TinyboxError
from tinybox.core.table import load_object

FILE_NAME = "quiet.json"
OFF = "off"
PROFILES: dict[str, float | None] = {"silent": 40.0, "balanced": 45.0, "full": None}
LEVELS = (20.0, 80.0)  # dBA that somebody may mean
CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
HINT = "'silent' (40 dBA), 'balanced' (45), 'full' (as cool as it gets), 'off' (the firmware decides), or a level: 38"


@dataclass(frozen=True, slots=True)
class NoiseConfig:
    """How loud the box may be (docs/noise.md): a profile's name or a level in dBA, another one by night if set."""

    profile: str = "balanced"
    night_profile: str = ""
    night_from: str = "22:00"
    night_to: str = "07:00"


@dataclass(frozen=True, slots=True)
class Quiet:
    """A wish: dBA at the listener that heat alone may break; None is no limit. `name` as it was said."""

    name: str
    dba: float | None


def parse_quiet(text: str, *, where: str = "") -> Quiet | None:
    """A profile's name or a level, with comma or point; None for "off". Raises TinyboxError for anything else."""
    said = text.strip().lower()
    if said == OFF:
        return None
    if said in PROFILES:
        return Quiet(said, PROFILES[said])
    match = re.fullmatch(r"(\d{1,3}(?:[.,]\d{1,2})?)\s*(?:dba?)?", said)
    dba = float(match[1].replace(",", ".")) if match else 0.0
    if not LEVELS[0] <= dba <= LEVELS[1]:
        raise TinyboxError(f"{where}'{text.strip()}' is no profile, and no level from 20 to 80 dBA", hint=HINT)
    return Quiet(f"{dba:g} dBA", dba)


def minutes_of(text: str) -> int | None:
    """Minutes since midnight of "22:00"; None for what is no time of day."""
    match = CLOCK.fullmatch(text)
    return int(match[1]) * 60 + int(match[2]) if match else None


def is_night(config: NoiseConfig, minutes: int) -> bool:
    """Whether it is night by the settings, at so many minutes since the local midnight."""
    begin, end = minutes_of(config.night_from), minutes_of(config.night_to)
    if not config.night_profile or begin is None or end is None or begin == end:
        return False
    return begin <= minutes < end if begin < end else minutes >= begin or minutes < end


def wish_of(choice: str | None, config: NoiseConfig, minutes: int) -> Quiet | None:
    """What holds now: what the owner chose last, else the night's profile, else the day's."""
    if choice is not None:
        return parse_quiet(choice)
    return parse_quiet(config.night_profile if is_night(config, minutes) else config.profile)


def load_choice(state: Path) -> str | None:
    """What the owner chose with `tinybox quiet`; None: nothing. Raises TinyboxError for a file that cannot be meant."""
    path = state / FILE_NAME
    hint = "'tinybox quiet auto' begins anew"
    if (loaded := load_object(path, hint=hint)) is None:
        return None
    choice = loaded.get("profile")
    if not isinstance(choice, str):
        raise TinyboxError(f"{path}: no 'profile' in it", hint=hint)
    parse_quiet(choice, where=f"{path}: ")
    return choice


def save_choice(state: Path, choice: str | None) -> None:
    """Keep it, or forget it. Raises TinyboxError."""
    path = state / FILE_NAME
    try:
        if choice is not None:
            write_durably({path: json.dumps({"profile": choice}) + "\n"})
        elif path.exists():
            remove_durably(path)
    except OSError as error:
        hint = "only root sets it: 'sudo tinybox quiet …'"
        raise TinyboxError(f"cannot write {path}: {error.strerror}", hint=hint) from None
