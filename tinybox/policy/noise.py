"""How loud the box is at the listener: fans by speed, summed as energies."""

import math
from collections.abc import Iterable

from tinybox.core.box import Box, NoiseKind
from tinybox.core.snapshot import GpuState, Snapshot


def fan_dba(rpm: float, *, ref_dba: float, ref_rpm: float, slope_db: float) -> float:
    """Level of one fan: `slope_db` per decade of speed from a reference point. A standing fan is silent (-inf)."""
    return ref_dba + slope_db * math.log10(rpm / ref_rpm) if rpm > 0 else -math.inf


def sum_dba(levels: Iterable[float]) -> float:
    """Levels of independent sources together: energies add."""
    energy = sum(10 ** (level / 10) for level in levels)
    return 10 * math.log10(energy) if energy > 0 else -math.inf


def noise_dba(snapshot: Snapshot, box: Box) -> float | None:
    """The room's floor and every fan together; None while any fan's speed is unknown."""
    kind: NoiseKind = box.noise
    levels = [kind.floor_dba]
    for gpu in snapshot.gpus:
        if gpu.state is not GpuState.AWAKE:
            continue  # a card asleep or gone turns no fan
        if gpu.fan_rpm is None:
            return None
        levels.append(fan_dba(gpu.fan_rpm, ref_dba=kind.gpu_ref_dba, ref_rpm=kind.gpu_ref_rpm, slope_db=kind.slope_db))
    if not snapshot.fans:
        return None
    for fan in snapshot.fans:
        if fan.rpm is None:
            return None
        levels.append(
            fan_dba(fan.rpm, ref_dba=kind.chassis_ref_dba, ref_rpm=kind.chassis_ref_rpm, slope_db=kind.slope_db)
        )
    return sum_dba(levels)
