"""A kind of box: one TOML under `tinybox/boxes/`, as frozen data. A fact about hardware is written there, once."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table

BOXES = Path(__file__).parent.parent / "boxes"


@dataclass(frozen=True, slots=True)
class ClockPoint:
    """With the core clock limited to `clock_mhz`, a board draws at most `board_power_max_w`."""

    clock_mhz: int
    board_power_max_w: float


@dataclass(frozen=True, slots=True)
class GpuKind:
    """The cards of a box and where they sit (PCI addresses in slot order: slot i is `gpu/i`)."""

    name: str
    vendor: str
    pci_id: str
    slots: tuple[str, ...]
    link_width: int
    link_gts: float
    vram_bytes: int
    board_power_max_w: float
    board_power_idle_w: float
    socket_to_board: float
    socket_to_board_min: float
    cap_default_w: float
    cap_min_w: float
    cap_max_w: float
    clock_min_mhz: int
    clock_max_mhz: int
    overdrive: bool
    edge_crit_c: float
    junction_crit_c: float
    memory_crit_c: float
    fan_max_rpm: float
    clock_table_margin: float
    clock_table: tuple[ClockPoint, ...]


@dataclass(frozen=True, slots=True)
class CpuKind:
    """The processor; `power_max_w` is its worst case with boost."""

    name: str
    cores: int
    power_max_w: float
    power_idle_w: float
    temp_crit_c: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class RestKind:
    """All that is neither GPU nor CPU (board, memory, drives, fans): DC watts, idle and worst."""

    power_idle_w: float
    power_max_w: float


@dataclass(frozen=True, slots=True)
class PsuKind:
    """The supplies. `efficiency_min` is the worst between 20 % and full load; `power_factor` under load.

    `meter_tolerance` and `volt_tolerance` are the shares by which their own meters of watts and volts may be off.
    """

    count: int
    rated_w: float
    efficiency_min: float
    efficiency_nominal: float
    meter_tolerance: float
    volt_tolerance: float
    power_factor: float


@dataclass(frozen=True, slots=True)
class StorageKind:
    """The data drives and what they become."""

    data_drives: int
    level: str
    filesystem: str
    mount: str
    chunk_kib: int
    link_width: int
    link_gts: float


@dataclass(frozen=True, slots=True)
class FanKind:
    """The chassis fans, as the BMC names them."""

    count: int
    max_rpm: float
    min_rpm: float


@dataclass(frozen=True, slots=True)
class NoiseKind:
    """Level of one fan of each group at a reference speed, at the listener; `slope_db` per decade of speed."""

    slope_db: float
    floor_dba: float
    chassis_ref_dba: float
    chassis_ref_rpm: float
    gpu_ref_dba: float
    gpu_ref_rpm: float


@dataclass(frozen=True, slots=True)
class CircuitKind:
    """The outlet the box is sold for, and the fastest breaker that may be behind it (see policy/breaker.py)."""

    volts: float
    amps: float
    continuous_fraction: float
    breaker_trip_heat: float
    breaker_tau_s: float
    breaker_calibrated_c: float
    breaker_derate_per_k: float


@dataclass(frozen=True, slots=True)
class Box:
    """One kind of box, whole."""

    name: str
    title: str
    circuit: CircuitKind
    gpu: GpuKind
    cpu: CpuKind
    rest: RestKind
    psu: PsuKind
    fans: FanKind
    storage: StorageKind
    noise: NoiseKind


def known_boxes(own: Path | None = None) -> tuple[str, ...]:
    """Names of the kinds of box: the suite's, and those in the owner's folder `own`."""
    return tuple(sorted({path.stem for folder in (BOXES, own) if folder for path in folder.glob("*.toml")}))


def load_table(name: str, own: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """The file of a kind of box and its whole table, laid over that of the box it `extends`.

    Raises TinyboxError for an unknown name or bad TOML.
    """
    path = next((p for folder in (own, BOXES) if folder and (p := folder / f"{name}.toml").exists()), None)
    if path is None:
        raise TinyboxError(f"no box is called '{name}'", hint=f"known boxes: {', '.join(known_boxes(own))}")
    try:
        return path, _parsed(path.read_text(), name, where=str(path))
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}", hint="mend its permissions") from None
    except UnicodeDecodeError as error:
        raise TinyboxError(f"{path}: not valid TOML: {error}", hint="mend the file at that line") from None


def _parsed(text: str, name: str, *, where: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TinyboxError(f"{where}: not valid TOML: {error}", hint="mend the file at that line") from None
    base = table.pop("extends", None)
    if base is None:
        return table
    if base == name or not isinstance(base, str):
        raise TinyboxError(f"{where}: 'extends' is {base!r}", hint="name another box")
    return _laid_over(load_table(base)[1], table)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` wins key by key, table by table."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        both[key] = _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return both


def load_box(name: str, own: Path | None = None) -> Box:
    """Read `<name>.toml`: the owner's in the folder `own`, else the suite's.

    Raises TinyboxError for an unknown name, bad TOML, a missing or unknown key.
    """
    path, table = load_table(name, own)
    return _box_of(name, table, where=str(path))


def parse_box(name: str, text: str, *, where: str) -> Box:
    """The kind of box that a file of this name and text would be. Raises TinyboxError as `load_box`."""
    return _box_of(name, _parsed(text, name, where=where), where=where)


def _box_of(name: str, table: dict[str, Any], *, where: str) -> Box:
    table.pop("plant", None)  # the twin's own constants: no policy may know them
    box = read_table(Box, {"name": name, **table}, where=where)
    if (wrong := _senseless(box)) is not None:
        raise TinyboxError(f"{where}: {wrong}", hint="compare it with a box of the suite")
    return box


def _senseless(box: Box) -> str | None:
    """What cannot be meant, where every key is of the right type."""
    points = [(point.clock_mhz, point.board_power_max_w) for point in box.gpu.clock_table]
    if len(points) < 2 or points != sorted(points) or len({clock for clock, _ in points}) < len(points):
        return "'gpu.clock_table' wants at least two points, clocks and watts both rising"
    if not (0 < box.gpu.socket_to_board_min <= 1 and 0 < box.psu.efficiency_min <= 1 and 0 < box.psu.power_factor <= 1):
        return "'socket_to_board_min', 'efficiency_min' and 'power_factor' are shares above 0 and at most 1"
    if box.gpu.clock_table_margin < 1 or not 0 < box.gpu.cap_min_w <= box.gpu.cap_max_w:
        return "'clock_table_margin' is at least 1, 'cap_min_w' above 0 and at most 'cap_max_w'"
    if not box.gpu.slots or len(set(box.gpu.slots)) < len(box.gpu.slots):
        return "'gpu.slots' names no slot, or one of them twice"
    return None
