"""A card against the physics: an estimator of our own says how warm its heat sink should be for its watts and fan.

One heat sink of first order: it warms by watts × resistance over the inlet, and the resistance falls with the fan's
speed. The kind's figures are the prior; each card's own resistance is fitted while it is new, and kept.
"""

from collections.abc import Iterator
from dataclasses import replace

from tinybox.core.box import Box, GpuKind
from tinybox.core.snapshot import Gpu, GpuState, Severity, Snapshot
from tinybox.policy.checks.check import Answer, Check, Look, crit, good, warn
from tinybox.policy.checks.past import CardPast, board_w
from tinybox.policy.lag import toward

WARN_K, CRIT_K = 8.0, 15.0
WARM_K = 15.0  # the least rise of the heat sink to fit by
FIT_S = 1800.0  # under load, until a card's own resistance is known
FIT_TAU_S = 300.0
FIT_RANGE = (0.7, 1.2)  # a card further off than that is not fitted: it is reported
NAMES = {"edge_c": "edge", "junction_c": "junction", "memory_c": "memory"}


def estimate(gpu: Gpu, past: CardPast, kind: GpuKind, inlet_c: float | None, dt_s: float) -> CardPast:
    """The heat sink a moment later, and the card's own resistance a little better known."""
    watts, rpm = board_w(gpu, kind), _rpm(gpu, kind)
    if watts is None or rpm is None or inlet_c is None or gpu.edge_c is None:
        return replace(past, sink_k=None)
    prior = kind.thermal
    rise_k = gpu.edge_c - inlet_c - watts * prior.die_k_per_w
    if past.sink_k is None:  # it starts where the card is: what went before is not known
        return replace(past, sink_k=rise_k / past.fitted)
    sink_k = toward(past.sink_k, watts * prior.k_per_w(rpm), dt_s, prior.sink_tau_s)
    if sink_k < WARM_K or past.fitted_s >= FIT_S or not FIT_RANGE[0] <= rise_k / sink_k <= FIT_RANGE[1]:
        return replace(past, sink_k=sink_k)
    fitted = toward(past.fitted, rise_k / sink_k, dt_s, FIT_TAU_S)
    return replace(past, sink_k=sink_k, fitted=fitted, fitted_s=past.fitted_s + dt_s)


def air_at(gpu: Gpu, now: Snapshot, box: Box) -> float | None:
    """Air before the card: the controller's sensor, and what the cards beside it add."""
    if now.bmc.inlet_c is None:
        return None
    index = int(gpu.id.partition("/")[2])
    beside = [one for one in now.gpus if abs(int(one.id.partition("/")[2]) - index) == 1]
    watts = sum(board_w(one, box.kind_of(one.id)) or 0.0 for one in beside if one.state is GpuState.AWAKE)
    rpm = chassis_rpm(now)
    stuffiness = 1.0 if rpm is None else box.fans.stuffiness(rpm)
    return now.bmc.inlet_c + watts * box.fans.neighbour_k_per_w * stuffiness


def chassis_rpm(now: Snapshot) -> float | None:
    """The chassis fans' mean speed, of those that are told."""
    told = [fan.rpm for fan in now.fans if fan.rpm is not None]
    return sum(told) / len(told) if told else None


def _rpm(gpu: Gpu, kind: GpuKind) -> float | None:
    if gpu.fan_rpm is not None:
        return gpu.fan_rpm
    return None if gpu.fan_pct is None else gpu.fan_pct / 100 * kind.fan_max_rpm


def residual(look: Look) -> Iterator[Answer]:
    """The edge above what the estimator expects of it."""
    for gpu in look.awake():
        inlet_c = air_at(gpu, look.now, look.box)
        sink_k = look.cards[gpu.id].sink_k
        if sink_k is None or gpu.edge_c is None or inlet_c is None:
            yield look.absent(gpu.id)
            continue
        kind = look.box.kind_of(gpu.id)
        die_k = (board_w(gpu, kind) or 0.0) * kind.thermal.die_k_per_w
        expected_c = inlet_c + sink_k * look.cards[gpu.id].fitted + die_k
        over_k = gpu.edge_c - expected_c
        said = f"edge at {gpu.edge_c:.0f} °C, {expected_c:.0f} °C expected of its watts and fan"
        judge = crit if over_k > CRIT_K else warn if over_k > WARN_K else None
        yield good(gpu.id, said) if judge is None else judge(gpu.id, said)


def frozen(look: Look) -> Iterator[Answer]:
    """A temperature that stands still while the watts swing."""
    for gpu in look.awake():
        told = False
        stuck = []
        for name, still in look.cards[gpu.id].stills:
            told = told or still.value == still.value
            if still.is_stuck:
                stuck.append(f"{NAMES[name]} stands at {still.value:.0f} °C while watts moved by "
                             f"{still.most_w - still.least_w:.0f}")  # fmt: skip
        if stuck:
            yield warn(gpu.id, stuck[0])
        else:
            yield good(gpu.id, "they move") if told else look.absent(gpu.id)


CHECKS = (
    Check("gpu.thermal.residual", "edge against the temperature that its watts, fan and inlet account for",
          "8 K / 15 K for half a minute", "an estimator fitted to this card, priors of the box",
          "dust, a stalled fan or dried paste: clean it, see that the fan turns", residual, Severity.CRITICAL,
          after_s=30.0),
    Check("gpu.temp.frozen", "a temperature while the card's smoothed watts swing",
          "not the least change for 45 s after they moved by 50 W", "the card itself",
          "do not trust it: restart the driver or reboot, run its fan high until then", frozen, after_s=45.0),
)  # fmt: skip
