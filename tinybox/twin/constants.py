"""The plant's constants, from `[plant]` of the box's TOML; shared with no policy.

Each is a band: the value taken without a seed, the least and most it may truly be, where that comes from, and how sure
it is (H, M, L). With a seed a plant draws its true parameters from the bands, card by card.
"""

import random
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from tinybox.core.box import Box, card_tables, load_table
from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table

T = TypeVar("T")
Draw = Callable[["Band"], float]
KINDS = ("train", "prefill", "decode", "mixed")


@dataclass(frozen=True, slots=True)
class Band:
    """One constant: nominal value, the band of the truth, its source and how sure it is."""

    value: float
    low: float
    high: float
    source: str
    confidence: str


@dataclass(frozen=True, slots=True)
class WorkPlant:
    """One kind of work on one card: speed as an S-shaped function of board power.

    `core_share` of the core's dynamic watts are drawn; with c = watts over the card's watts at its default cap, speed
    is (c / knee)^exponent below the knee, 1 above it, and steeper by `cliff_exponent` below `cliff`.
    """

    core_share: float
    knee: float
    exponent: float
    cliff: float
    cliff_exponent: float


@dataclass(frozen=True, slots=True)
class GpuPlant:
    """One card's physics. Watts are of the board; `excursion` is the peak of milliseconds over the mean."""

    idle_w: float
    static_w: float
    dynamic_w: float
    silicon: float
    voltage_least: float
    voltage_exponent: float
    socket_to_board: float
    sensor_gain: float
    excursion: float
    cap_tau_s: float
    clock_tau_s: float
    clock_idle_tau_s: float
    sensor_tau_s: float
    busy_tau_s: float
    clock_idle_mhz: float
    edge_k_per_w: float
    junction_k_per_w: float
    memory_k: float
    die_tau_s: float
    sink_tau_s: float
    fan_start_c: float
    fan_least_rpm: float
    fan_full_c: float
    fan_tau_s: float
    vram_idle_bytes: float
    train: WorkPlant
    prefill: WorkPlant
    decode: WorkPlant
    mixed: WorkPlant


@dataclass(frozen=True, slots=True)
class CpuPlant:
    """The processor's physics; `energy_range_uj` is where RAPL's counter wraps."""

    idle_w: float
    busy_w: float
    k_per_w: float
    tau_s: float
    energy_range_uj: float


@dataclass(frozen=True, slots=True)
class RestPlant:
    """Everything else inside, and the air in the case."""

    board_w: float
    fan_full_w: float
    case_k_per_w: float
    case_tau_s: float


@dataclass(frozen=True, slots=True)
class PsuPlant:
    """The supplies and their meters. `efficiency_gain` scales the curve, `share` is the first supply's."""

    efficiency_gain: float
    share: float
    load_tau_s: float
    meter_gain: float
    meter_tau_s: float
    volt_gain: float
    bmc_gain: float


@dataclass(frozen=True, slots=True)
class LinePlant:
    """The wall: volts without load, ohms of the wiring, and the room."""

    volts: float
    ohm: float
    ambient_c: float


@dataclass(frozen=True, slots=True)
class BreakerPlant:
    """dθ/dt = (i² − θ)/τ with i = amps over rating; trips at `trip_heat`, or at once above `magnetic` × rating."""

    trip_heat: float
    tau_s: float
    magnetic: float
    derate_per_k: float
    calibrated_c: float


@dataclass(frozen=True, slots=True)
class NoisePlant:
    """The room, and one fan of each group at the box's reference speeds, at the listener; decibels per decade."""

    floor_dba: float
    chassis_ref_dba: float
    chassis_slope_db: float
    gpu_ref_dba: float
    gpu_slope_db: float


@dataclass(frozen=True, slots=True)
class AirPlant:
    """Air: what chassis fans move, what neighbours warm, what the room becomes; and what the fans themselves do."""

    flow_exponent: float
    neighbour_k_per_w: float
    room_k_per_w: float
    room_tau_s: float
    stall_share: float
    dead_share: float
    fan_dead_rpm: float
    dust: float


@dataclass(frozen=True, slots=True)
class PlantKind:
    """The whole plant, drawn: one GpuPlant for each slot."""

    gpus: tuple[GpuPlant, ...]
    cpu: CpuPlant
    rest: RestPlant
    psu: PsuPlant
    line: LinePlant
    breaker: BreakerPlant
    noise: NoisePlant
    air: AirPlant

    @property
    def gpu(self) -> GpuPlant:
        """The first card's: every card's, without a seed."""
        return self.gpus[0]


def load_plant(box: Box, seed: int | None = None, own: Path | None = None) -> PlantKind:
    """Read the box's `[plant]` and draw its truth. Raises TinyboxError where the box has none: it cannot be twinned."""
    path, table = load_table(box.name, own)
    plant = table.get("plant")
    if not isinstance(plant, dict):
        raise TinyboxError(f"box '{box.name}' has no plant", hint=f"add a [plant] to {path}")
    source = random.Random(seed)

    def draw(band: Band) -> float:
        return band.value if seed is None else source.uniform(band.low, band.high)

    try:
        tables = card_tables(table, "plant", where=str(path), own=own) or [plant["gpu"]]
        gpus = tuple(
            _drawn(GpuPlant, one, draw, f"{path}: plant.gpu")
            for kind, one in zip(box.gpus, tables, strict=True)
            for _ in kind.slots
        )
        cpu = _drawn(CpuPlant, plant["cpu"], draw, f"{path}: plant.cpu")
        rest = _drawn(RestPlant, plant["rest"], draw, f"{path}: plant.rest")
        psu = _drawn(PsuPlant, plant["psu"], draw, f"{path}: plant.psu")
        line = _drawn(LinePlant, plant["line"], draw, f"{path}: plant.line")
        breaker = _breaker(plant["breaker"], source if seed is not None else None, f"{path}: plant.breaker")
        noise = _drawn(NoisePlant, plant["noise"], draw, f"{path}: plant.noise")
        air = _drawn(AirPlant, plant["air"], draw, f"{path}: plant.air")  # last: older seeds draw as they did
    except KeyError as error:
        raise TinyboxError(f"{path}: table 'plant.{error.args[0]}' is missing", hint="compare with red.toml") from None
    return PlantKind(gpus, cpu, rest, psu, line, breaker, noise, air)


def bands_of(box: Box, own: Path | None = None) -> dict[str, Band]:
    """Every constant of the box's plant by its dotted name, as written."""
    found: dict[str, Band] = {}
    path, table = load_table(box.name, own)

    def walk(part: dict[str, Any], name: str) -> None:
        for key, value in part.items():
            if isinstance(value, dict) and "value" in value:
                found[f"{name}{key}"] = _band(value, f"{path}: plant.{name}{key}")
            elif isinstance(value, dict):
                walk(value, f"{name}{key}.")

    walk(table.get("plant", {}), "")
    return found


def _drawn(kind: type[T], table: dict[str, Any], draw: Draw, where: str) -> T:
    """One frozen record with every band drawn. Raises TinyboxError naming what is missing or unknown."""
    hints = typing.get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - known):
        raise TinyboxError(f"{where}: unknown key '{unknown[0]}'", hint=f"known keys: {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(kind)):  # type: ignore[arg-type]
        if name not in table:
            raise TinyboxError(f"{where}: key '{name}' is missing", hint="add it")
        if hints[name] is float:
            values[name] = draw(_band(table[name], f"{where}.{name}"))
        else:
            values[name] = _drawn(hints[name], table[name], draw, f"{where}.{name}")
    return kind(**values)


def _band(table: Any, where: str) -> Band:
    if not isinstance(table, dict):
        raise TinyboxError(f"{where}: not a band", hint="write { value, low, high, source, confidence }")
    band = read_table(Band, table, where=where)
    if not band.low <= band.value <= band.high or band.confidence not in ("H", "M", "L"):
        raise TinyboxError(f"{where}: low ≤ value ≤ high and a confidence of H, M or L are wanted", hint="mend it")
    return band


def _breaker(table: dict[str, Any], source: random.Random | None, where: str) -> BreakerPlant:
    """Trip heat and time constant go together: a breaker is somewhere between the fast and the slow one."""
    if source is None:
        return _drawn(BreakerPlant, table, lambda band: band.value, where)
    quickness = source.random()
    return _drawn(BreakerPlant, table, lambda band: band.low + quickness * (band.high - band.low), where)
