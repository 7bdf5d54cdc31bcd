"""Whether the box is governed, and the limits that its cards had before: `arming.json` in the state folder.

Nobody's limits are written on a machine that its owner has not armed. What was in force before the first write is kept
here, so that all of it can be given back.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinybox.core.errors import TinyboxError

FILE_NAME = "arming.json"


@dataclass(frozen=True, slots=True)
class Original:
    """The limits of one card before ours; None: it told none."""

    pci: str
    cap_w: float | None
    clock_limit_mhz: int | None


@dataclass(frozen=True, slots=True)
class Arming:
    """Armed or not, and what is still to be given back. `broken` says why the file was not believed."""

    is_armed: bool = False
    originals: tuple[Original, ...] = ()
    cpu_cap_w: float | None = None
    broken: str | None = None

    def original(self, pci: str) -> Original | None:
        """What is known of the card at this PCI address."""
        return next((one for one in self.originals if one.pci == pci), None)


def load_arming(state: Path) -> Arming:
    """What the owner decided. A file that cannot be read counts as armed: a governed box must not lose its governor."""
    path = state / FILE_NAME
    try:
        return _parsed(json.loads(path.read_text()))
    except FileNotFoundError:
        return Arming()
    except OSError as error:
        return Arming(is_armed=True, broken=f"cannot read {path}: {error.strerror}")
    except (ValueError, TypeError, KeyError, AttributeError):
        return Arming(is_armed=True, broken=f"{path} is no record of ours")


def save_arming(state: Path, arming: Arming) -> None:
    """Keep it, whole and on the disk before this returns. Raises TinyboxError; the old record stays then."""
    path = state / FILE_NAME
    draft = path.with_suffix(f".{os.getpid()}")
    table = {
        "is_armed": arming.is_armed,
        "cpu_cap_w": arming.cpu_cap_w,
        "originals": [asdict(one) for one in arming.originals],
    }
    try:
        state.mkdir(parents=True, exist_ok=True)
        with draft.open("w") as file:
            file.write(json.dumps(table, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        hint = (
            "run it as root" if isinstance(error, PermissionError) else "nothing was changed; make room and try again"
        )
        raise TinyboxError(f"cannot write {path}: {error.strerror}", hint=hint) from None


def with_originals(arming: Arming, found: Iterable[Original], cpu_cap_w: float | None) -> Arming:
    """The record with cards that it does not know yet; what it knows was there before our first write, and stays."""
    known = {one.pci for one in arming.originals}
    fresh = tuple(one for one in found if one.pci not in known)
    cpu_w = arming.cpu_cap_w if arming.cpu_cap_w is not None else cpu_cap_w
    return Arming(arming.is_armed, (*arming.originals, *fresh), cpu_w)


def _parsed(table: dict[str, Any]) -> Arming:
    originals = []
    for one in table["originals"]:
        clock_mhz = _figure(one["clock_limit_mhz"])
        originals.append(
            Original(str(one["pci"]), _figure(one["cap_w"]), None if clock_mhz is None else int(clock_mhz))
        )
    if not isinstance(table["is_armed"], bool):
        raise TypeError
    return Arming(table["is_armed"], tuple(originals), _figure(table["cpu_cap_w"]))


def _figure(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError
    return float(value)
