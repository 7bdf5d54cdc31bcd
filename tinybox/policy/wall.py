"""Amps at the outlet, from parts that answer at once and meters that answer late.

The parts (cards, processor) are read every turn and miss nothing, but their gain is only roughly known; the supplies'
meters are right but a quarter of a second late. So the meters give the level and the parts what changed since:
`amps = meter + (parts − parts as late as the meter)`. A meter that sticks, lies or vanishes is outvoted by the BMC and
the parts, and said so.
"""

import math
from dataclasses import dataclass, replace

from tinybox.core.box import Box
from tinybox.core.circuit import Circuit
from tinybox.core.decision import Alert, WallSource
from tinybox.core.snapshot import Psu, Severity, Snapshot
from tinybox.policy.lag import toward

MEAN_OVER_S = 1.0
METER_LAG_S = 0.25
LONG_S = 2 * METER_LAG_S
BMC_LAG_S = 1.5  # a mean of a second, told every other second
METER_TRUST_S, BMC_TRUST_S = 3.0, 15.0  # over which sources are compared: none is judged by one reading
MOVED = 0.1  # of the parts: a step, not noise
APART = 3.0  # times what its neighbour says: one of two meters lies
STUCK_S = 1.0  # a meter that says the same to the digit for so long while the parts moved
STUCK_MOVE = 0.06
STUCK_MOVE_W = 40.0
HIGHER_S, DIFFER_S = 8.0, 30.0  # supplies and BMC contradict each other for so long: the higher counts; it is said
DISAGREE_FRACTION = 0.10
DISAGREE_W = 40.0  # two 8-bit PSU sensors of a BMC are ±8 W
PARTS_FRACTION = 0.15  # the sum of the parts is that good without a meter
HIGHEST_TAU_S = 600.0  # how long the highest ratio of meters to parts is remembered: it differs with the load
METERS_DIFFER = 0.03  # of the line: two supplies on one cord see the same volts
LINE_TOLERANCE = 0.2  # a line further than this from nominal is a broken sensor or a wrong circuit
LINE_DROP = 0.03  # and the house's wiring takes so much more under load, at most (NEC's recommendation)
LINE_LEAST = 0.4  # of nominal: with less no supply runs (a 120 V line on a circuit said to have 240 V still does)
FORGOTTEN = 0.985
LINE_SAG = 0.05  # ANSI C84.1 range A: 114 V on a 120 V line; what is assumed unmeasured


@dataclass(frozen=True, slots=True)
class Parts:
    """What cards, processor and the rest add up to behind the supplies; `is_known`: none of them is a guess."""

    dc_w: float
    is_known: bool


@dataclass(frozen=True, slots=True)
class Meter:
    """One supply's meter: its last reading, and since when it has been the same while the parts said `parts_w`."""

    id: str
    watts: float
    since_s: float
    parts_w: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A source and the parts beside it, both as means over the same time: lags between them hardly count so."""

    said_w: float
    parts_w: float
    for_s: float = 0.0

    @property
    def ratio(self) -> float:
        """Of the source over the parts."""
        return self.said_w / self.parts_w if self.parts_w > 0 else 1.0


@dataclass(frozen=True, slots=True)
class WallMemory:
    """Carried from turn to turn."""

    time_s: float | None = None
    parts_w: float = 0.0
    parts_late_w: float = 0.0  # as late as the meters
    parts_slow_w: float = 0.0  # as late as the BMC
    meter: Comparison | None = None
    bmc: Comparison | None = None
    meters: tuple[Meter, ...] = ()
    mean_w: float | None = None
    line_v: float | None = None
    differ_s: float | None = None  # since when supplies and BMC contradict each other
    highest: float | None = None  # ratio of the meters over the parts: what counts once the meters are lost


@dataclass(frozen=True, slots=True)
class WallReading:
    """Watts and amps now, watts as a mean over a second (`mean_w`), line volts, and what is wrong with them."""

    now_w: float
    mean_w: float
    amps: float
    source: WallSource
    excess: float  # of the supplies' meters over the parts, as a share, slowly
    line_v: float | None
    alerts: tuple[Alert, ...]


def read_wall(
    snapshot: Snapshot, box: Box, circuit: Circuit, parts: Parts, memory: WallMemory
) -> tuple[WallReading, WallMemory]:
    """The wall as this snapshot shows it."""
    alerts: list[Alert] = []
    elapsed_s = max(0.0, snapshot.time_s - memory.time_s) if memory.time_s is not None else math.inf
    parts_w = parts.dc_w / box.psu.efficiency_nominal
    late_w = toward(memory.parts_late_w, parts_w, elapsed_s, METER_LAG_S)
    slow_w = toward(memory.parts_slow_w, parts_w, elapsed_s, BMC_LAG_S)
    meters = tuple(_watch(psu, memory.meters, late_w, snapshot.time_s) for psu in snapshot.psus)
    psu_w, bmc_w = _psu_sum_w(snapshot, meters, late_w, box, alerts), _plausible(snapshot.bmc.wall_w, box)
    meter, bmc = memory.meter, memory.bmc
    is_between = elapsed_s > LONG_S and abs(parts_w - memory.parts_w) > MOVED * parts_w
    if parts.is_known and not is_between:
        meter = _compared(meter, psu_w, late_w, elapsed_s, METER_TRUST_S)
        # Beside parts that are not as late a BMC would look low for a while after each step, and vouch for a liar.
        bmc = _compared(bmc, bmc_w, slow_w, elapsed_s, BMC_TRUST_S)
    trust = (meter.ratio if meter else 1.0, bmc.ratio if bmc else 1.0)
    highest = memory.highest
    if psu_w is not None and abs(trust[0] - 1) <= PARTS_FRACTION:
        highest = _highest(highest, trust[0], elapsed_s)
    if is_between and psu_w is not None and memory.meter is not None:
        # A step since the last look was somewhere in between: the meters themselves show how late they are.
        low_w, high_w = sorted((memory.parts_late_w, parts_w))
        late_w = min(max(psu_w / memory.meter.ratio, low_w), high_w)
    differ_s = None
    if psu_w is not None and bmc_w is not None and _differ(trust, late_w):
        differ_s = memory.differ_s if memory.differ_s is not None else snapshot.time_s
    differ_for_s = snapshot.time_s - differ_s if differ_s is not None else 0.0
    if differ_for_s >= DIFFER_S:  # a controller answers seconds late: that alone is no contradiction
        words = f"supplies say {trust[0] * late_w:.0f} W at the wall, the BMC says {trust[1] * late_w:.0f} W"
        alerts.append(Alert("power", Severity.WARNING, words))
    vouches = bmc is not None and bmc.for_s >= BMC_TRUST_S and not _differ(trust, late_w)
    level_w, source = _vote((psu_w, bmc_w), late_w, trust, highest, alerts, vouches=vouches)
    if bmc is not None and differ_for_s >= HIGHER_S:
        # Within what the parts may be off nobody can say which of the two is right.
        level_w = max(level_w, late_w * min(bmc.ratio, 1 + PARTS_FRACTION))
    now_w = max(0.0, level_w + (parts_w - late_w))
    mean_w = now_w if memory.mean_w is None else toward(memory.mean_w, now_w, elapsed_s, MEAN_OVER_S / 2)
    line_v = _line_v(snapshot, circuit, alerts)
    amps = now_w / (_amps_volts(line_v, memory, circuit) * circuit.power_factor)
    kept = WallMemory(
        time_s=snapshot.time_s,
        parts_w=parts_w,
        parts_late_w=late_w,
        parts_slow_w=slow_w,
        meter=meter,
        bmc=bmc,
        meters=tuple(one for one in meters if one),
        mean_w=mean_w,
        line_v=line_v or memory.line_v,
        differ_s=differ_s,
        highest=highest,
    )
    return WallReading(now_w, mean_w, amps, source, trust[0] - 1, line_v, tuple(alerts)), kept


def _highest(known: float | None, ratio: float, elapsed_s: float) -> float:
    """The highest ratio of meters to parts of late."""
    return ratio if known is None else max(ratio, toward(known, ratio, elapsed_s, HIGHEST_TAU_S))


def _amps_volts(line_v: float | None, memory: WallMemory, circuit: Circuit) -> float:
    """Line volts for the amps: a voltmeter that lies upwards must not make them look few.

    Unmeasured, somewhat less than they were, else the least a house may have under load.
    """
    if line_v is None:
        least_v = circuit.volts * (1 - LINE_SAG - LINE_DROP)
        line_v = least_v if memory.line_v is None else max(least_v, FORGOTTEN * memory.line_v)
    return min(line_v, circuit.volts * (1 + LINE_SAG))


def _compared(
    known: Comparison | None, said_w: float | None, parts_w: float, elapsed_s: float, over_s: float
) -> Comparison | None:
    """The comparison with one more reading of the source."""
    if said_w is None or parts_w <= 0:
        return known
    if known is None:
        return Comparison(said_w, parts_w)
    said_mean_w = toward(known.said_w, said_w, elapsed_s, over_s)
    return Comparison(said_mean_w, toward(known.parts_w, parts_w, elapsed_s, over_s), known.for_s + elapsed_s)


def _plausible(watts: float | None, box: Box) -> float | None:
    """A reading that can be true: no box draws nothing, nor twice what its supplies give."""
    most_w = 2 * box.psu.rated_w * box.psu.count
    return watts if watts is not None and 0 < watts <= most_w else None


def _watch(psu: Psu, known: tuple[Meter, ...], parts_w: float, now_s: float) -> Meter | None:
    """Keep since when a meter has said the same."""
    if psu.in_w is None:
        return None
    before = next((meter for meter in known if meter.id == psu.id), None)
    if before is not None and before.watts == psu.in_w:
        # A meter quicker than METER_LAG_S may have told a step before the parts, made late, had it all.
        return replace(before, parts_w=parts_w) if now_s - before.since_s <= LONG_S else before
    return Meter(psu.id, psu.in_w, now_s, parts_w)


def _is_stuck(meter: Meter, parts_w: float, now_s: float) -> bool:
    moved_w = abs(parts_w - meter.parts_w)
    return now_s - meter.since_s >= STUCK_S and moved_w > max(STUCK_MOVE_W, STUCK_MOVE * meter.parts_w)


def _psu_sum_w(
    snapshot: Snapshot, meters: tuple[Meter | None, ...], parts_w: float, box: Box, alerts: list[Alert]
) -> float | None:
    """All supplies together; one that is stuck or silent counts as its neighbours do."""
    good: list[float] = []
    for psu, meter in zip(snapshot.psus, meters, strict=True):
        if meter is None:
            continue
        if _is_stuck(meter, parts_w, snapshot.time_s):
            reason = f"its meter has said {meter.watts:.0f} W while the load moved: it does not count"
            alerts.append(Alert(psu.id, Severity.WARNING, reason))
        elif (watts := _plausible(meter.watts, box)) is not None:
            good.append(watts)
        else:
            alerts.append(Alert(psu.id, Severity.WARNING, f"{meter.watts:.0f} W cannot be true: it does not count"))
    if len(good) > 1 and max(good) > APART * min(good):
        share_w = parts_w / len(good)
        liar = max(good, key=lambda watts: max(watts / share_w, share_w / watts))
        alerts.append(Alert("power", Severity.WARNING, f"a supply that says {liar:.0f} W is far from the others"))
        return None
    return sum(good) if len(good) >= box.psu.count else None


def _differ(trust: tuple[float, float], parts_w: float) -> bool:
    """Whether supplies and BMC contradict each other by more than both may be off."""
    return abs(trust[0] - trust[1]) * parts_w > DISAGREE_W + DISAGREE_FRACTION * parts_w


def _vote(
    said: tuple[float | None, float | None],
    parts_w: float,
    trust: tuple[float, float],
    highest: float | None,
    alerts: list[Alert],
    *,
    vouches: bool,
) -> tuple[float, WallSource]:
    """Watts as late as the meters, and who says so: the supplies unless the two others contradict them.

    `said` and `trust` are of supplies and BMC; the BMC `vouches` for supplies that contradict the parts.
    """
    (psu_w, bmc_w), (by_meter, by_bmc) = said, trust
    wary = 1 + PARTS_FRACTION / 2 if highest is None else highest
    bmc_fits = bmc_w is not None and abs(by_bmc - 1) <= PARTS_FRACTION
    if psu_w is not None:
        psu_fits = abs(by_meter - 1) <= PARTS_FRACTION
        if psu_fits or (vouches and bmc_w is not None):
            return psu_w, WallSource.PSU
        if bmc_w is None:
            reason = f"supplies say {psu_w:.0f} W at the wall, the parts add up to {parts_w:.0f} W: the higher counts"
            alerts.append(Alert("power", Severity.WARNING, reason))
            return max(psu_w, parts_w * wary), WallSource.ESTIMATE
    if bmc_fits:
        return parts_w * max(by_bmc, highest or 0.0), WallSource.BMC  # the BMC is slow: the load may have moved
    if bmc_w is not None and psu_w is None:
        said_w = parts_w * by_bmc
        reason = f"the BMC says {said_w:.0f} W at the wall, the parts add up to {parts_w:.0f} W: the higher counts"
        alerts.append(Alert("power", Severity.WARNING, reason))
        return max(said_w, parts_w * wary), WallSource.ESTIMATE
    words = (
        "no supply and no BMC tells the wall power" if psu_w is None else "supplies and BMC both contradict the parts"
    )
    alerts.append(Alert("power", Severity.WARNING, f"{words}: it is estimated"))
    worst_w = max(psu_w or 0.0, (bmc_w or 0.0))
    both_w = 0.0 if psu_w is None or bmc_w is None else min(psu_w, bmc_w)  # two that say more than the parts
    return max(parts_w * wary, min(worst_w, parts_w * 1.5), both_w), WallSource.ESTIMATE


def _line_v(snapshot: Snapshot, circuit: Circuit, alerts: list[Alert]) -> float | None:
    """The lowest voltmeter that can be true: one that lies upwards must not buy watts."""
    volts = [psu.in_v for psu in snapshot.psus if psu.in_v is not None]
    likely = [volt for volt in volts if abs(volt - circuit.volts) <= LINE_TOLERANCE * circuit.volts]
    line_v = min(likely or volts) if volts else snapshot.bmc.line_v
    if volts and max(volts) - min(volts) > METERS_DIFFER * circuit.volts:
        reason = f"the supplies disagree on the line: {min(volts):.0f} V and {max(volts):.0f} V; the lower one counts"
        alerts.append(Alert("power", Severity.WARNING, reason))
    if line_v is None or line_v < LINE_LEAST * circuit.volts:
        reason = f"line voltage unreadable: the budget takes {circuit.volts * (1 - LINE_SAG):.0f} V"
        alerts.append(Alert("power", Severity.WARNING, reason))
        return None
    if abs(line_v - circuit.volts) > LINE_TOLERANCE * circuit.volts:
        reason = f"the line has {line_v:.0f} V, the circuit says {circuit.volts:.0f} V: check circuit.volts"
        alerts.append(Alert("power", Severity.CRITICAL, reason))
    return line_v
