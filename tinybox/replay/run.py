"""A trace through a plant under a policy: the whole loop in one process, as fast as it goes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

from tinybox.core.actions import Action, EndWork, FreezeWork, PowerOff
from tinybox.core.box import Box
from tinybox.core.circuit import Circuit, circuit_of
from tinybox.core.config import Config
from tinybox.core.snapshot import Snapshot
from tinybox.replay.demand import Demand
from tinybox.replay.instruments import Instruments
from tinybox.replay.policies import Policy
from tinybox.replay.referee import Referee, preload
from tinybox.replay.trace import Trace
from tinybox.twin.constants import PlantKind
from tinybox.twin.plant import SUBSTEP_S, Plant

FORESEEN_S = 60.0  # how far the referee looks ahead to call a last resort needless


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to the plant, or to what is read of it, at a time of the trace."""

    time_s: float
    change: Callable[[Plant], None]


@dataclass(slots=True)
class Scenario:
    """A trace with what else happens. `distort` stands between the instruments and the policy."""

    trace: Trace
    events: tuple[Event, ...] = ()
    distort: Callable[[Snapshot], Snapshot] | None = None
    refuses: frozenset[str] = frozenset()


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    referee: Referee
    demand: Demand
    seconds: float
    trips: int = 0
    interventions: int = 0
    needless: int = 0
    writes: list[int] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    first_freeze_s: float | None = None

    @property
    def writes_per_min(self) -> float:
        """Of the card that was written most."""
        return max(self.writes) / max(self.seconds, 60.0) * 60 if self.writes else 0.0


def run(  # noqa: PLR0913
    scenario: Scenario,
    box: Box,
    kind: PlantKind,
    config: Config,
    policy: Policy,
    *,
    is_strict: bool = False,
    dt_s: float = SUBSTEP_S,
) -> Outcome:
    """Replay. The breaker starts as one that has carried the promise for long."""
    circuit = circuit_of(box, config)
    plant = start_plant(box, kind, circuit)
    instruments = Instruments(plant)
    instruments.refuses = set(scenario.refuses)
    demand = Demand(scenario.trace)
    referee = Referee(circuit, is_strict, dt_s, plant.line_a, preload(circuit))
    outcome = Outcome(referee, demand, scenario.trace.end_s)
    events = sorted(scenario.events, key=lambda event: event.time_s)
    due_s, steps = 0.0, round(scenario.trace.end_s / dt_s)
    for step in range(steps):
        now_s = step * dt_s
        while events and events[0].time_s <= now_s:
            events.pop(0).change(plant)
        if now_s >= due_s - 1e-9:
            snapshot = instruments.read()
            if scenario.distort is not None:
                snapshot = scenario.distort(snapshot)
            actions, period_s = policy.turn(snapshot)
            _judge(actions, outcome, plant, demand, referee, now_s)
            instruments.apply(actions)
            due_s = max(due_s + period_s, now_s)
        demand.apply(plant, now_s, dt_s)
        plant.step(dt_s)
        referee.step(plant)
    outcome.trips = int(plant.breaker.is_tripped)
    outcome.writes, outcome.took_s = instruments.writes, policy.took_s
    return outcome


def start_plant(box: Box, kind: PlantKind, circuit: Circuit) -> Plant:
    """A box that has been idle on a breaker that was not."""
    plant = Plant.of(box, kind, rating_a=circuit.rating_a, volts=circuit.volts)
    plant.breaker.heat = preload(circuit)
    return plant


def _judge(
    actions: tuple[Action, ...], outcome: Outcome, plant: Plant, demand: Demand, referee: Referee, now_s: float
) -> None:
    """Count last resorts, and those without which every promise would have been kept."""
    for action in actions:
        if isinstance(action, FreezeWork) and not action.is_frozen:
            continue
        if not isinstance(action, FreezeWork | EndWork | PowerOff):
            continue
        if not plant.has_power or (isinstance(action, FreezeWork) and all(gpu.is_frozen for gpu in plant.gpus)):
            continue  # repeated: for processes that are new, or before the machine is down
        outcome.interventions += 1
        if outcome.first_freeze_s is None:
            outcome.first_freeze_s = now_s
        outcome.needless += _is_needless(plant, demand, referee, now_s)


def _is_needless(plant: Plant, demand: Demand, referee: Referee, now_s: float) -> bool:
    """Whether the plant, left at the limits it has, keeps its promises for the next minute."""
    plant, demand, referee = copy.deepcopy((plant, demand, referee))
    before = (referee.continuous_broken_s, referee.breaker_broken_s)
    for step in range(round(FORESEEN_S / referee.dt_s)):
        demand.apply(plant, now_s + step * referee.dt_s, referee.dt_s)
        plant.step(referee.dt_s)
        referee.step(plant)
    return (referee.continuous_broken_s, referee.breaker_broken_s) == before and not plant.breaker.is_tripped
