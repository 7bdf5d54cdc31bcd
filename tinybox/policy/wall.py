"""Wall power from whoever can say it: the supplies, else the BMC, else a worst-leaning estimate."""

from dataclasses import dataclass

from tinybox.core.box import Box
from tinybox.core.circuit import Circuit
from tinybox.core.decision import Alert, WallSource
from tinybox.core.snapshot import GpuState, Severity, Snapshot

MEAN_OVER_S = 1.0
METERS_DIFFER = 0.03  # of the line: two supplies on one cord see the same volts
LINE_TOLERANCE = 0.2  # a line further than this from nominal is a broken sensor or a wrong circuit
DISAGREE_FRACTION = 0.1
DISAGREE_W = 40.0  # two 8-bit PSU sensors of a BMC are ±8 W; its reading is up to seconds old


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of the wall."""

    time_s: float
    wall_w: float


@dataclass(frozen=True, slots=True)
class WallReading:
    """Wall power now (`now_w`), its mean over the last second, line volts, and what is wrong with them."""

    now_w: float | None
    mean_w: float | None
    source: WallSource
    line_v: float | None
    samples: tuple[Sample, ...]
    alerts: tuple[Alert, ...]


def read_wall(snapshot: Snapshot, box: Box, circuit: Circuit, samples: tuple[Sample, ...]) -> WallReading:
    """The wall as this snapshot shows it; `samples` are those of the readings before."""
    alerts: list[Alert] = []
    psu_w = _psu_sum_w(snapshot, box)
    bmc_w = snapshot.bmc.wall_w
    if psu_w is not None:
        now_w, source = psu_w, WallSource.PSU
    elif bmc_w is not None:
        now_w, source = bmc_w, WallSource.BMC
    else:
        now_w, source = estimate_w(snapshot, box), WallSource.ESTIMATE
        alerts.append(Alert("power", Severity.WARNING, "no supply and no BMC tells the wall power: it is estimated"))
    if psu_w is not None and bmc_w is not None and len(samples) > 1:
        mean_w = _mean(samples)
        if abs(mean_w - bmc_w) > DISAGREE_W + DISAGREE_FRACTION * max(mean_w, bmc_w):
            reason = f"supplies say {mean_w:.0f} W at the wall, the BMC says {bmc_w:.0f} W"
            alerts.append(Alert("power", Severity.WARNING, reason))
    line_v = _line_v(snapshot, circuit, alerts)
    kept = (*(s for s in samples if snapshot.time_s - s.time_s < MEAN_OVER_S), Sample(snapshot.time_s, now_w))
    return WallReading(now_w, _mean(kept), source, line_v, kept, tuple(alerts))


def estimate_w(snapshot: Snapshot, box: Box) -> float:
    """What the parts add up to at the wall; a part that says nothing counts with its worst."""
    dc_w = box.rest.power_max_w
    dc_w += snapshot.cpu.power_w if snapshot.cpu.power_w is not None else box.cpu.power_max_w
    for gpu in snapshot.gpus:
        if gpu.state is not GpuState.AWAKE:
            dc_w += box.gpu.board_power_idle_w
        elif gpu.power_w is None:
            dc_w += box.gpu.board_power_max_w
        else:
            dc_w += max(gpu.power_w / box.gpu.socket_to_board_min, box.gpu.board_power_idle_w)
    return dc_w / box.psu.efficiency_min


def _psu_sum_w(snapshot: Snapshot, box: Box) -> float | None:
    watts = [psu.in_w for psu in snapshot.psus if psu.in_w is not None]
    return sum(watts) if len(watts) >= box.psu.count else None


def _line_v(snapshot: Snapshot, circuit: Circuit, alerts: list[Alert]) -> float | None:
    """The lowest voltmeter that can be true: one that lies upwards must not buy watts."""
    volts = [psu.in_v for psu in snapshot.psus if psu.in_v is not None]
    likely = [volt for volt in volts if abs(volt - circuit.volts) <= LINE_TOLERANCE * circuit.volts]
    line_v = min(likely or volts) if volts else snapshot.bmc.line_v
    if volts and max(volts) - min(volts) > METERS_DIFFER * circuit.volts:
        reason = f"the supplies disagree on the line: {min(volts):.0f} V and {max(volts):.0f} V; the lower one counts"
        alerts.append(Alert("power", Severity.WARNING, reason))
    if line_v is None:
        reason = f"line voltage unreadable: the budget takes {circuit.volts * (1 - LINE_SAG):.0f} V"
        alerts.append(Alert("power", Severity.WARNING, reason))
        return None
    if abs(line_v - circuit.volts) > LINE_TOLERANCE * circuit.volts:
        reason = f"the line has {line_v:.0f} V, the circuit says {circuit.volts:.0f} V: check circuit.volts"
        alerts.append(Alert("power", Severity.CRITICAL, reason))
    return line_v


LINE_SAG = 0.05  # ANSI C84.1 range A: 114 V on a 120 V line; what the budget assumes unmeasured


def _mean(samples: tuple[Sample, ...]) -> float:
    return sum(s.wall_w for s in samples) / len(samples)
