"""A kind of box that nobody sold: its TOML, laid over the box of the suite that is most like it."""

import json
from dataclasses import dataclass

from tinybox.core.box import Box, ClockPoint
from tinybox.core.table import table_text

MARGIN = 1.3  # on watts by clock that are a guess from another card's


@dataclass(frozen=True, slots=True)
class CardFacts:
    """The cards of the new box. None: as in the box that it extends; `board_power_max_w` is set for another card."""

    name: str
    pci_id: str
    slots: tuple[str, ...]
    board_power_max_w: float | None = None
    cap_min_w: float | None = None
    cap_max_w: float | None = None
    cap_default_w: float | None = None
    vram_bytes: int | None = None
    clock_min_mhz: int | None = None
    clock_max_mhz: int | None = None
    overdrive: bool | None = None
    edge_crit_c: float | None = None
    junction_crit_c: float | None = None
    memory_crit_c: float | None = None
    fan_max_rpm: float | None = None
    link_width: int | None = None
    link_gts: float | None = None


@dataclass(frozen=True, slots=True)
class NewBox:
    """All that tells the new box from `base`."""

    name: str
    cards: CardFacts
    cpu_name: str
    cpu_cores: int
    cpu_watts: float
    memory_bytes: int
    psu_count: int
    psu_watts: float
    other_watts: float  # of cards that nobody governs, at their worst
    fan_count: int


def new_box_text(new: NewBox, base: Box) -> str:
    """The file. What is a guess says so."""
    gpu = new.cards
    values: dict[str, object] = {"name": gpu.name, "pci_id": gpu.pci_id, "slots": list(gpu.slots)}
    if gpu.board_power_max_w is not None:
        names = [name for name in CardFacts.__dataclass_fields__ if name not in values]
        values |= {name: getattr(gpu, name) for name in names if getattr(gpu, name) is not None}
        idle_w = base.gpu.board_power_idle_w * gpu.board_power_max_w / base.gpu.board_power_max_w
        values["board_power_idle_w"] = round(idle_w, 1)
        values["clock_table_margin"] = MARGIN
    lines = [
        "# Written by 'tinybox init': what it found of this machine and was told. Correct it where you know better.",
        f"extends = {json.dumps(base.name)} # whatever is not here",
        f"title = {json.dumps(f'{len(gpu.slots)} x {gpu.name}')}",
        "",
        "[gpu]",
        *table_text(values).splitlines(),
        *(_clock_table(gpu, base) if gpu.board_power_max_w is not None else ()),
        "",
        "[cpu]",
        f"name = {json.dumps(new.cpu_name)}",
        f"cores = {new.cpu_cores}",
        f"power_max_w = {new.cpu_watts:.1f}",
        f"memory_bytes = {new.memory_bytes}",
        "",
        "[rest] # all that is neither governed card nor processor",
        f"power_max_w = {base.rest.power_max_w + new.other_watts:.1f}",
        "",
        "[psu] # the worst of what is sold, until somebody measures",
        f"count = {new.psu_count}",
        f"rated_w = {new.psu_watts:.1f}",
        "efficiency_min = 0.82",
        "efficiency_nominal = 0.88",
        "meter_tolerance = 0.03",
        "volt_tolerance = 0.01",
        "power_factor = 0.95",
        "",
        "[fans]",
        f"count = {new.fan_count}",
        "",
        "[nic]",
        "count = 0 # whatever there is",
        "",
        "[storage]",
        "data_drives = 0 # the drives of this machine are its owner's",
    ]
    return "\n".join(lines) + "\n"


def _clock_table(gpu: CardFacts, base: Box) -> list[str]:
    """The base's curve stretched to this card's clocks and watts."""
    points = (
        f"    {{ clock_mhz = {p.clock_mhz}, board_power_max_w = {p.board_power_max_w} }}," for p in _curve(gpu, base)
    )
    guess = "# A guess from another card's curve, widened by the margin: nobody measured this one."
    return [guess, "clock_table = [", *points, "]"]


def _curve(gpu: CardFacts, base: Box) -> tuple[ClockPoint, ...]:
    """Points between the card's lowest clock and its highest."""
    kind = base.gpu
    scale = (gpu.board_power_max_w or kind.board_power_max_w) / kind.board_power_max_w
    low = gpu.clock_min_mhz or kind.clock_min_mhz
    high = max(gpu.clock_max_mhz or kind.clock_max_mhz, 2 * low)
    per_mhz = (high - low) / (kind.clock_max_mhz - kind.clock_min_mhz)
    return tuple(
        ClockPoint(round(low + (p.clock_mhz - kind.clock_min_mhz) * per_mhz), round(p.board_power_max_w * scale, 1))
        for p in kind.clock_table
    )
