"""What was measured of this very box: watts by clock, card by card. Until then its kind's table counts, widened."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.box import Box, ClockPoint
from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table

FILE_NAME = "commission.toml"


@dataclass(frozen=True, slots=True)
class CardCommission:
    """One card: at most so many board watts were seen at each clock limit under the worst load known.

    `sensor_to_board` is its own sensor's watts over the board's, fitted against the wall.
    """

    gpu: str
    pci: str
    sensor_to_board: float
    clock_table: tuple[ClockPoint, ...]


@dataclass(frozen=True, slots=True)
class Commission:
    """A measured box. `margin` widens every table: what no sweep sees."""

    box: str
    cards: tuple[CardCommission, ...]
    margin: float = 1.05


def load_commission(state: Path, box: Box) -> Commission | None:
    """What was measured, None where nothing was. Raises TinyboxError for a file that is not about this box."""
    path = state / FILE_NAME
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise TinyboxError(f"cannot read {path}: {error}", hint="commission the box again") from None
    try:
        found = read_table(Commission, tomllib.loads(text), where=str(path))
    except tomllib.TOMLDecodeError as error:
        raise TinyboxError(f"{path}: not valid TOML: {error}", hint="commission the box again") from None
    if (wrong := _senseless(found, box)) is not None:
        raise TinyboxError(f"{path}: {wrong}", hint="commission the box again")
    return found


def commission_text(commission: Commission) -> str:
    """The file."""
    lines = [f"box = {json.dumps(commission.box)}", f"margin = {commission.margin:g}"]
    for card in commission.cards:
        lines += ["", "[[cards]]", f"gpu = {json.dumps(card.gpu)}", f"pci = {json.dumps(card.pci)}"]
        lines += [f"sensor_to_board = {card.sensor_to_board:.4f}", "clock_table = ["]
        lines += [
            f"    {{ clock_mhz = {point.clock_mhz}, board_power_max_w = {point.board_power_max_w:.1f} }},"
            for point in card.clock_table
        ]
        lines.append("]")
    return "\n".join(lines) + "\n"


def _senseless(found: Commission, box: Box) -> str | None:
    if found.box != box.name:
        return f"it is of a '{found.box}' box, this is a '{box.name}'"
    if found.margin < 1.0:
        return f"margin is {found.margin:g}, below 1"
    for card in found.cards:
        clocks = [point.clock_mhz for point in card.clock_table]
        watts = [point.board_power_max_w for point in card.clock_table]
        if len(clocks) < 2 or clocks != sorted(set(clocks)) or watts != sorted(watts) or watts[0] <= 0:
            return f"{card.gpu}: clocks and watts must both rise, over at least two points"
        if not 0.3 <= card.sensor_to_board <= 1.5:
            return f"{card.gpu}: sensor_to_board is {card.sensor_to_board:g}"
    return None
