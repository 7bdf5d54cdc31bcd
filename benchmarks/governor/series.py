"""One run watched over time, for the plots; and how soon a step of load is answered."""

import math
import time
from dataclasses import dataclass, field

from benchmarks.governor.matrix import Setting, percentile, policy_named, setting
from benchmarks.governor.shapes import GPUS, steps
from benchmarks.governor.workloads import ALL, workload
from tinybox.core.actions import Action
from tinybox.core.snapshot import Snapshot
from tinybox.replay.policies import Governor, Policy
from tinybox.replay.referee import INSTANT_S, WINDOW_S, Mean, preload
from tinybox.replay.run import Event, Scenario, run
from tinybox.replay.trace import Row, Trace
from tinybox.twin.plant import SUBSTEP_S, Plant

SAMPLE_S = 0.1
STEP_SEEN_PCT = 1.0
STEP_AT_S = 12.0
PHASES = 10


@dataclass(frozen=True, slots=True)
class Watch:
    """A run to be watched."""

    box: str
    workload: str
    policy: str
    seed: int
    highest_mhz: int


@dataclass(frozen=True, slots=True)
class Series:
    """A run every SAMPLE_S. `heat` is of the fastest breaker's trip; grants only where a governor gave any."""

    watch: Watch
    promised_a: float
    rating_a: float
    amps: tuple[float, ...]
    circuit_a: tuple[float, ...]  # with what else is on it
    mean_a: tuple[float, ...]
    heat: tuple[float, ...]
    clocks_mhz: tuple[tuple[float, ...], ...]
    grants_w: tuple[tuple[float, ...], ...]
    first_broken_s: float | None


@dataclass(slots=True)
class Recorder:
    """Reads a plant sub-step by sub-step."""

    place: Setting
    policy: Policy
    ten: Mean = field(default_factory=lambda: Mean(round(WINDOW_S / SUBSTEP_S)))
    short: Mean = field(default_factory=lambda: Mean(round(INSTANT_S / SUBSTEP_S)))
    theta: float = 0.0
    count: int = 0
    first_broken_s: float | None = None
    amps: list[float] = field(default_factory=list)
    circuit_a: list[float] = field(default_factory=list)
    mean_a: list[float] = field(default_factory=list)
    heat: list[float] = field(default_factory=list)
    clocks_mhz: list[tuple[float, ...]] = field(default_factory=list)
    grants_w: list[tuple[float, ...]] = field(default_factory=list)

    def add(self, plant: Plant) -> None:
        """One sub-step."""
        circuit = self.place.circuit
        if self.count == 0:
            self.theta = preload(circuit)
            for mean in (self.ten, self.short):
                for _ in range(mean.steps):
                    mean.add(plant.line_a)
        ratio = (plant.line_a + plant.other_a) / circuit.rating_a
        self.theta = ratio**2 + (self.theta - ratio**2) * math.exp(-SUBSTEP_S / circuit.tau_s)
        mean_a, short_a = self.ten.add(plant.line_a), self.short.add(plant.line_a)
        if self.first_broken_s is None and mean_a > circuit.promised_a + 1e-6:
            self.first_broken_s = plant.time_s
        if self.count % round(SAMPLE_S / SUBSTEP_S) == 0:
            self.amps.append(short_a)
            self.circuit_a.append(short_a + plant.other_a)
            self.mean_a.append(mean_a)
            self.heat.append(self.theta / circuit.trip_heat)
            self.clocks_mhz.append(tuple(gpu.clock_limit_mhz for gpu in plant.gpus))
            if isinstance(self.policy, Governor) and self.policy.decision is not None:
                if not self.grants_w:  # the first look comes after the first sample
                    self.grants_w = [tuple(grant.board_w for grant in self.policy.decision.power.grants)]
                self.grants_w.append(tuple(grant.board_w for grant in self.policy.decision.power.grants))
        self.count += 1


def series_of(watch: Watch) -> Series:
    """Run it."""
    place, work = setting(watch.box, watch.seed), workload(watch.workload)
    trace = work.trace(watch.seed)
    policy = policy_named(watch.policy, place, watch.highest_mhz)
    recorder = Recorder(place, policy)
    events = tuple(Event(i * SUBSTEP_S, recorder.add) for i in range(round(trace.end_s / SUBSTEP_S)))
    run(work.scenario(trace, events), place.box, place.kind, place.config, policy, is_strict=watch.policy == "strict")
    return Series(
        watch,
        place.circuit.promised_a,
        place.circuit.rating_a,
        tuple(recorder.amps),
        tuple(recorder.circuit_a),
        tuple(recorder.mean_a),
        tuple(recorder.heat),
        tuple(zip(*recorder.clocks_mhz, strict=True)),
        tuple(zip(*recorder.grants_w, strict=True)),
        recorder.first_broken_s,
    )


@dataclass(frozen=True, slots=True)
class Reaction:
    """How many control periods from the first sample that shows six cards at work to the first lower limit."""

    box: str
    from_load: str
    periods: tuple[float | None, ...]  # None: nothing was written within the two seconds after

    @property
    def worst(self) -> float | None:
        """The slowest; None where some step was answered by no write."""
        seen = [one for one in self.periods if one is not None]
        return max(seen) if len(seen) == len(self.periods) else None


@dataclass(slots=True)
class Stopwatch:
    """Sees what the policy sees, and the clock limits a sub-step later."""

    seen_s: float | None = None
    wrote_s: float | None = None
    limits: tuple[float, ...] = ()

    def look(self, snapshot: Snapshot) -> Snapshot:
        """The first sample in which every card is busy."""
        shows = all((gpu.busy_pct or 0.0) >= STEP_SEEN_PCT for gpu in snapshot.gpus)
        if self.seen_s is None and snapshot.time_s >= STEP_AT_S and shows:
            self.seen_s = snapshot.time_s
        return snapshot

    def add(self, plant: Plant) -> None:
        """One sub-step."""
        limits = tuple(gpu.clock_limit_mhz for gpu in plant.gpus)
        is_lower = any(now < before for now, before in zip(limits, self.limits, strict=False))
        if self.seen_s is not None and self.wrote_s is None and is_lower:
            self.wrote_s = plant.time_s - SUBSTEP_S
        self.limits = limits


def reaction_of(box_name: str) -> tuple[Reaction, ...]:
    """Six cards at once, while none or one works, at ten phases of the control period; on the nominal plant."""
    cases = {"idle": [], "one card": steps((0,), STEP_AT_S / 2, to_s=STEP_AT_S)}
    return tuple(Reaction(box_name, name, _periods(box_name, rows)) for name, rows in cases.items())


def _periods(box_name: str, before: list[Row]) -> tuple[float | None, ...]:
    place = setting(box_name, None)
    period_s = place.config.daemon.period_s
    found: list[float | None] = []
    for phase in range(PHASES):
        at_s = STEP_AT_S + phase * period_s / PHASES
        trace = Trace.of([*before, *steps(ALL[:GPUS], 2.0, from_s=round(at_s, 3), to_s=round(at_s, 3) + 2.0)])
        watch = Stopwatch()
        events = tuple(Event(i * SUBSTEP_S, watch.add) for i in range(round(trace.end_s / SUBSTEP_S)))
        policy = policy_named("bounded", place, 0)
        run(Scenario(trace, events, watch.look), place.box, place.kind, place.config, policy)
        answered = watch.seen_s is not None and watch.wrote_s is not None
        found.append((watch.wrote_s - watch.seen_s) / period_s if answered else None)  # type: ignore[operator]
    return tuple(found)


@dataclass(slots=True)
class Clocked(Governor):
    """Counts the processor's time: a machine that is shared would count as a slow policy otherwise."""

    spent_s: list[float] = field(default_factory=list)

    def turn(self, snapshot: Snapshot) -> tuple[tuple[Action, ...], float]:
        """One turn, clocked."""
        began_s = time.thread_time()
        result = Governor.turn(self, snapshot)
        self.spent_s.append(time.thread_time() - began_s)
        return result


def decision_us(box_name: str) -> tuple[float, float]:
    """p50 and p99 of one decision for six cards under a moving load: processor time, the best of three replays."""
    place, work = setting(box_name, None), workload("random-slow")
    found: list[tuple[float, float]] = []
    plain = policy_named("bounded", place, 0)
    if not isinstance(plain, Governor):
        raise TypeError("bounded is no governor")
    for seed in range(3):
        policy = Clocked(plain.box, plain.config, plain.memory)
        run(work.scenario(work.trace(seed)), place.box, place.kind, place.config, policy)
        took_us = [seconds * 1e6 for seconds in policy.spent_s]
        found.append((percentile(took_us, 0.5), percentile(took_us, 0.99)))
    return min(found, key=lambda one: one[1])
