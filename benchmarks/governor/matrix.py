"""Every workload under every policy on every drawn plant, each in its own cell; both cores, nothing kept on disk.

Ratios are of work done. `steady`, `bound` and `strict_optimum` are those of tinybox.replay.optimum, computed from the
plant's truth; the strict one has the pool of the plant's own line volts, which a governor can measure too.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import quantiles
from typing import TypeVar

from benchmarks.governor.workloads import Mains, Tag, Workload, full_load, workload
from tinybox.core.box import Box, load_box
from tinybox.core.circuit import Circuit, circuit_of
from tinybox.core.commission import Commission
from tinybox.core.config import Config
from tinybox.policy.envelope import Envelope, known_of
from tinybox.policy.power import gpu_pool_w
from tinybox.replay.commission import commission
from tinybox.replay.optimum import Optimum, bound, steady, strict_optimum
from tinybox.replay.policies import Governor, Policy, fixed_clock, policy_of
from tinybox.replay.run import Event, Outcome, run, start_plant
from tinybox.replay.supply import Promise, Supply
from tinybox.replay.trace import Trace
from tinybox.twin.constants import GpuPlant, PlantKind, load_plant
from tinybox.twin.gpu import Silicon
from tinybox.twin.plant import SUBSTEP_S, Plant

HIGHEST = "highest"  # one clock for ever: the highest that keeps the promises on the worst plant
FIXED_150 = "fixed150"
OURS = ("bounded", "strict")
OTHERS = (FIXED_150, HIGHEST, "static", "proportional", "none")
POLICIES = (*OURS, *OTHERS)
USE_OVER_S = 30.0
CLOCK_STEP_MHZ = 10
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Job:
    """One workload on one plant under some policies."""

    box: str
    workload: str
    seed: int
    policies: tuple[str, ...]
    highest_mhz: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. `use` is of the promised amps over the last 30 s, where demand lasts.

    `ttft_p99_s` is the added time to the first token: what a prefill row is owed at its end, against `steady` and at
    the speed that `steady` gave it, max(0, served by steady − served here) / (served by steady / duration); the 99th
    percentile over the rows of an arrival trace.
    """

    box: str
    workload: str
    policy: str
    seed: int
    work_s: float
    demand_s: float
    vs_steady: float
    vs_bound: float
    vs_strict: float
    trips: int
    promise_broken_s: float
    needless: int
    interventions: int
    first_freeze_s: float | None
    writes_per_min: float
    amps_10s_max: float
    breaker_heat_max: float
    decision_us_p50: float | None
    decision_us_p99: float | None
    use: float | None
    ttft_p99_s: float | None
    vs_fixed150: float | None = None
    vs_highest: float | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """A drawn box on its outlet, as commissioned."""

    box: Box
    kind: PlantKind
    config: Config
    circuit: Circuit
    measured: Commission
    supply: Supply


@dataclass(frozen=True, slots=True)
class Best:
    """What the clairvoyants reach."""

    steady: Optimum
    bound_s: float
    strict_s: float


@dataclass(slots=True)
class Meter:
    """Amp-seconds of the box from a time of the trace on, read from the plant itself."""

    amp_s: float = 0.0
    seconds: float = 0.0

    def add(self, plant: Plant) -> None:
        """One sub-step."""
        self.amp_s += plant.line_a * SUBSTEP_S
        self.seconds += SUBSTEP_S

    def events(self, from_s: float, to_s: float) -> tuple[Event, ...]:
        """What makes a run call `add`."""
        return tuple(Event(from_s + i * SUBSTEP_S, self.add) for i in range(round((to_s - from_s) / SUBSTEP_S)))


@lru_cache(maxsize=4)
def setting(box_name: str, seed: int | None) -> Setting:
    """The plant of a seed; the nominal one without."""
    box = load_box(box_name)
    kind, config = load_plant(box, seed), Config(box=box.name)
    circuit = circuit_of(box, config)
    plant = start_plant(box, kind, circuit)
    rest_w = plant.dc_w() - plant.cpu_w - sum(gpu.board_w for gpu in plant.gpus)
    supply = Supply(box, kind, plant.cpu_w, rest_w)
    return Setting(box, kind, config, circuit, commission(box, kind), supply)


def policy_named(name: str, place: Setting, highest_mhz: int) -> Policy:
    """One of POLICIES, fresh."""
    if name == HIGHEST:
        return fixed_clock(highest_mhz)
    return policy_of(name, place.box, place.config, place.measured)


def promises(place: Setting, mains: Sequence[Mains]) -> tuple[Promise, ...]:
    """The continuous promise, less what else is on the circuit at each time."""
    outlet = place.circuit.volts / 120.0
    limit_a = place.circuit.promised_a
    return tuple(
        Promise(one.from_s, max(0.0, limit_a - one.other_a), one.line_scale * outlet, one.other_a) for one in mains
    )


def best_of(work: Workload, trace: Trace, place: Setting) -> Best:
    """All three clairvoyants."""
    promised = promises(place, work.mains)
    best = steady(trace, place.supply, promised)
    return Best(best, bound(trace, place.supply, promised), _strict_s(trace, place, promised))


def _strict_s(trace: Trace, place: Setting, promised: Sequence[Promise]) -> float:
    """The optimum under grants; where the mains change, the mean over time (such loads are even)."""
    box, line = place.box, place.kind.line
    policy = policy_named("strict", place, 0)
    known = known_of(box, policy.memory.commission if isinstance(policy, Governor) else None)
    envelopes = [grant_of(gpu, box, known[f"gpu/{i}"].envelope) for i, gpu in enumerate(place.kind.gpus)]
    ends_s = [*(one.from_s for one in promised[1:]), trace.end_s]
    total_s = 0.0
    for one, end_s in zip(promised, ends_s, strict=True):
        line_v = line.volts * one.line_scale - line.ohm * (one.amps + one.other_a)
        budget_w = one.amps * line_v * place.circuit.power_factor
        found = strict_optimum(trace, box, place.kind, envelopes=envelopes, pool_w=gpu_pool_w(budget_w, box))
        total_s += found.work_s * max(0.0, min(end_s, trace.end_s) - one.from_s) / trace.end_s
    return total_s


def grant_of(gpu: GpuPlant, box: Box, envelope: Envelope) -> Callable[[float], float]:
    """The least grant under which a card trains at a clock: by its envelope, or by a cap where one reaches so low."""
    silicon = Silicon.of(gpu, box.gpu)

    def grant_w(clock_mhz: float) -> float:
        # At its lowest clock a card can be held to its lowest cap: it pauses.
        train_w = silicon.board_w(1.0, clock_mhz) if clock_mhz >= box.gpu.clock_min_mhz + CLOCK_STEP_MHZ else 0.0
        cap_w = max(box.gpu.cap_min_w, train_w * gpu.socket_to_board)
        return min(envelope.most_w(clock_mhz), cap_w / box.gpu.socket_to_board_min)

    return grant_w


def cells_of(job: Job) -> tuple[Cell, ...]:
    """Every policy of a job, and the clairvoyants once."""
    place, work = setting(job.box, job.seed), workload(job.workload)
    trace = work.trace(job.seed)
    best = best_of(work, trace, place)
    cells = [_cell(job, name, (work, trace), place, best) for name in job.policies]
    done = {cell.policy: cell.work_s for cell in cells}
    return tuple(
        replace(
            cell,
            vs_fixed150=ratio(cell.work_s, done[FIXED_150]) if FIXED_150 in done else None,
            vs_highest=ratio(cell.work_s, done[HIGHEST]) if HIGHEST in done else None,
        )
        for cell in cells
    )


def _cell(job: Job, name: str, asked: tuple[Workload, Trace], place: Setting, best: Best) -> Cell:
    work, trace = asked
    meter = Meter()
    more = meter.events(trace.end_s - USE_OVER_S, trace.end_s) if Tag.LASTING in work.tags else ()
    policy = policy_named(name, place, job.highest_mhz)
    scenario = work.scenario(trace, more)
    outcome = run(scenario, place.box, place.kind, place.config, policy, is_strict=name == "strict")
    referee, work_s = outcome.referee, outcome.demand.work_s
    p50_us, p99_us = _decision_us(outcome)
    return Cell(
        box=job.box,
        workload=job.workload,
        policy=name,
        seed=job.seed,
        work_s=work_s,
        demand_s=trace.work_s,
        vs_steady=ratio(work_s, best.steady.work_s),
        vs_bound=ratio(work_s, best.bound_s),
        vs_strict=ratio(work_s, best.strict_s),
        trips=outcome.trips,
        promise_broken_s=round(referee.promise_broken_s, 3),
        needless=outcome.needless,
        interventions=outcome.interventions,
        first_freeze_s=outcome.first_freeze_s,
        writes_per_min=outcome.writes_per_min,
        amps_10s_max=referee.mean_a_max,
        breaker_heat_max=referee.heat_max,
        decision_us_p50=p50_us,
        decision_us_p99=p99_us,
        use=meter.amp_s / meter.seconds / place.circuit.promised_a if meter.seconds else None,
        ttft_p99_s=_ttft_p99_s(trace, outcome, best.steady) if Tag.ARRIVAL in work.tags else None,
    )


def ratio(work_s: float, other_s: float) -> float:
    """Of work; nothing over nothing is all there was."""
    return work_s / other_s if other_s > 0 else 1.0


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _decision_us(outcome: Outcome) -> tuple[float | None, float | None]:
    took_us = [seconds * 1e6 for seconds in outcome.took_s]
    if len(took_us) < 2:
        return None, None
    cuts = quantiles(took_us, n=100)
    return cuts[49], cuts[98]


def _ttft_p99_s(trace: Trace, outcome: Outcome, best: Optimum) -> float | None:
    added = []
    for row, served_s, best_s in zip(trace.rows, outcome.demand.served_s, best.served_s, strict=True):
        if row.kind == "prefill" and best_s > 0:
            added.append(max(0.0, best_s - served_s) * row.duration_s / best_s)
    return percentile(added, 0.99) if added else None


@dataclass(frozen=True, slots=True)
class Search:
    """Plants on which one fixed clock has to keep the promises."""

    box: str
    seeds: tuple[int, ...]


def highest_fixed_mhz(search: Search) -> int:
    """The highest clock whose full load keeps the promises on the worst of the plants."""
    box = load_box(search.box)
    high_mhz = box.gpu.clock_max_mhz
    for seed in search.seeds:
        kind = load_plant(box, seed)
        if keeps(box, kind, high_mhz):
            continue
        low_mhz = box.gpu.clock_min_mhz
        while high_mhz - low_mhz > CLOCK_STEP_MHZ:
            middle_mhz = (low_mhz + high_mhz) // (2 * CLOCK_STEP_MHZ) * CLOCK_STEP_MHZ
            if keeps(box, kind, middle_mhz):
                low_mhz = middle_mhz
            else:
                high_mhz = middle_mhz
        high_mhz = low_mhz
    return high_mhz


def keeps(box: Box, kind: PlantKind, clock_mhz: int) -> bool:
    """Whether a minute of everything at one clock keeps the promises."""
    work, config = full_load(), Config(box=box.name)
    outcome = run(work.scenario(work.trace(0)), box, kind, config, fixed_clock(clock_mhz))
    return outcome.referee.promise_broken_s == 0 and outcome.trips == 0


@dataclass(slots=True)
class Workers:
    """Both cores, or this process alone (`count` 1)."""

    count: int = field(default_factory=lambda: os.cpu_count() or 1)

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Results in the order of the items."""
        if self.count == 1:
            yield from map(function, items)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.count, mp_context=context) as pool:
            yield from pool.map(function, items)
