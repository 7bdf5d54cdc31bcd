"""What a card can draw under its limits, and which limits hold it under a given share. Board watts throughout."""

import itertools
from dataclasses import dataclass

from tinybox.core.box import ClockPoint, GpuKind
from tinybox.core.snapshot import Gpu

CLOCK_STEP_MHZ = 10
CAP_LEAST_W = 100.0  # no card was ever seen to obey less; and to amdgpu a cap of 0 means "keep the one you have"


@dataclass(frozen=True, slots=True)
class Limits:
    """The pair of limits to write: `clock_mhz` is None where the card has no clock lever."""

    cap_w: float
    clock_mhz: int | None


def board_max_w(gpu: Gpu, kind: GpuKind) -> float:
    """The most this card can draw under the limits read back from it; a limit nobody could read does not count."""
    bounds = [kind.board_power_max_w]
    if gpu.cap_w is not None:
        bounds.append(max(gpu.cap_w, CAP_LEAST_W) / kind.socket_to_board_min)
    if gpu.clock_limit_mhz is not None:
        bounds.append(power_at_clock_w(gpu.clock_limit_mhz, kind))
    return min(bounds)


def power_at_clock_w(clock_mhz: float, kind: GpuKind) -> float:
    """The widened table between its points; below the first it stays at the first, above the last at the maximum."""
    table = kind.clock_table
    if clock_mhz <= table[0].clock_mhz:
        return table[0].board_power_max_w * kind.clock_table_margin
    for low, high in itertools.pairwise(table):
        if clock_mhz <= high.clock_mhz:
            fraction = (clock_mhz - low.clock_mhz) / (high.clock_mhz - low.clock_mhz)
            watts = low.board_power_max_w + fraction * (high.board_power_max_w - low.board_power_max_w)
            return min(watts * kind.clock_table_margin, kind.board_power_max_w)
    return kind.board_power_max_w


def clock_for_w(board_w: float, kind: GpuKind) -> int:
    """The highest clock, in whole steps, at which the card stays under `board_w`; the lever's minimum at the least."""
    table = kind.clock_table
    clock = float(table[0].clock_mhz)
    for low, high in itertools.pairwise(table):
        clock = _within(low, high, board_w / kind.clock_table_margin, otherwise=clock)
    stepped = int(clock // CLOCK_STEP_MHZ) * CLOCK_STEP_MHZ
    return min(max(stepped, kind.clock_min_mhz), kind.clock_max_mhz)


def _within(low: ClockPoint, high: ClockPoint, table_w: float, *, otherwise: float) -> float:
    """The clock between two points of the table that draws `table_w`, clipped to the upper one."""
    if table_w < low.board_power_max_w:
        return otherwise
    fraction = (table_w - low.board_power_max_w) / (high.board_power_max_w - low.board_power_max_w)
    return low.clock_mhz + min(fraction, 1.0) * (high.clock_mhz - low.clock_mhz)


def limits_for(share_w: float, gpu: Gpu, kind: GpuKind) -> Limits:
    """Limits that hold the card under `share_w`: the cap alone where it reaches so low, else the clock too.

    The cap is clamped to what the driver accepts; the result may still exceed the share where no lever reaches it.
    """
    least = max(gpu.cap_min_w if gpu.cap_min_w is not None else kind.cap_min_w, CAP_LEAST_W)
    most = gpu.cap_max_w if gpu.cap_max_w is not None else kind.cap_max_w
    wanted = float(int(share_w * kind.socket_to_board_min))
    cap_w = min(max(wanted, least), most)
    if not gpu.has_clock_lever:
        return Limits(cap_w, None)
    if cap_w <= share_w * kind.socket_to_board_min:
        return Limits(cap_w, kind.clock_max_mhz)
    floor_mhz = gpu.clock_limit_min_mhz if gpu.clock_limit_min_mhz is not None else kind.clock_min_mhz
    clock_mhz = floor_mhz if gpu.clock_lever_is_coarse else max(clock_for_w(share_w, kind), floor_mhz)
    return Limits(cap_w, clock_mhz)


def floor_limits(gpu: Gpu, kind: GpuKind) -> Limits:
    """The lowest limits the card accepts, by every lever it has."""
    return limits_for(0.0, gpu, kind)  # no cap reaches 0 W, so the clock is at its lowest too
