"""The plant's constants, from `[plant]` of the box's TOML; shared with no policy."""

import tomllib
from dataclasses import dataclass

from tinybox.core.box import BOXES, Box
from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table


@dataclass(frozen=True, slots=True)
class GpuPlant:
    """One card's physics."""

    idle_w: float
    static_w: float
    dynamic_w: float
    voltage_least: float
    voltage_exponent: float
    socket_to_board: float
    cap_tau_s: float
    clock_tau_s: float
    sensor_tau_s: float
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
    vram_idle_bytes: int


@dataclass(frozen=True, slots=True)
class CpuPlant:
    """The processor's physics; `energy_range_uj` is where RAPL's counter wraps."""

    idle_w: float
    busy_w: float
    k_per_w: float
    tau_s: float
    energy_range_uj: int


@dataclass(frozen=True, slots=True)
class RestPlant:
    """Everything else inside, and the air in the case."""

    board_w: float
    fan_full_w: float
    case_k_per_w: float
    case_tau_s: float


@dataclass(frozen=True, slots=True)
class PlantKind:
    """The whole plant."""

    ambient_c: float
    line_v: float
    line_ohm: float
    psu_load_tau_s: float
    breaker_rating_a: float
    breaker_trip_heat: float
    breaker_tau_s: float
    gpu: GpuPlant
    cpu: CpuPlant
    rest: RestPlant


def load_plant(box: Box) -> PlantKind:
    """Read the box's `[plant]`. Raises TinyboxError where the box has none: it cannot be twinned."""
    path = BOXES / f"{box.name}.toml"
    table = tomllib.loads(path.read_text()).get("plant")
    if not isinstance(table, dict):
        raise TinyboxError(f"box '{box.name}' has no plant", hint=f"add a [plant] to {path}")
    return read_table(PlantKind, table, where=str(path), path="plant.")
