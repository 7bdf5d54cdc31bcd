"""The policy against the twin's plant, in one process: drawn plants, drawn loads, lying sensors, deaths."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tinybox.core.actions import Action, SetCap, SetClockLimit
from tinybox.core.box import Box, load_box
from tinybox.core.circuit import circuit_of
from tinybox.core.commission import Commission
from tinybox.core.config import Config
from tinybox.core.decision import Decision
from tinybox.core.snapshot import GpuState, Psu, Snapshot
from tinybox.policy.decide import fresh_memory
from tinybox.policy.envelope import board_max_w, known_of
from tinybox.replay.commission import commission
from tinybox.replay.policies import Governor
from tinybox.replay.run import Event, Outcome, Scenario, run
from tinybox.replay.trace import Row, Trace
from tinybox.twin.constants import PlantKind, load_plant
from tinybox.twin.plant import Plant

BOXES = ("red", "green", "green-3090", "blue")
FAILSAFE_S = 1.1  # from a daemon's last sign of life until the failsafe has written
Distort = Callable[[Snapshot], Snapshot]


@lru_cache(maxsize=64)
def plant(name: str, seed: int | None) -> tuple[Box, PlantKind, Commission]:
    """A kind of box, one drawn plant of it, and what its owner's sweep would find."""
    box = load_box(name)
    kind = load_plant(box, seed)
    return box, kind, commission(box, kind)


@dataclass(slots=True)
class Watched(Governor):
    """The governor with everything that it did kept, and the strict guarantee checked between any two writes."""

    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    written: dict[str, list[float]] = field(default_factory=dict)
    dies_s: float = math.inf
    broken: list[str] = field(default_factory=list)
    checks_s: float = math.inf  # since when the sum has to fit
    restarts_s: float = math.inf

    def turn(self, snapshot: Snapshot) -> tuple[tuple[Action, ...], float]:
        """What to write, as long as it lives."""
        if snapshot.time_s >= self.dies_s - 1e-9:
            return (), 3600.0
        if snapshot.time_s >= self.restarts_s:
            self.memory, self.restarts_s = fresh_memory(self.config, self.memory.commission), math.inf
        actions, period_s = Governor.turn(self, snapshot)
        assert self.decision is not None
        self.decisions.append((snapshot.time_s, self.decision))
        for action in actions:
            self.written.setdefault(action.device, []).append(snapshot.time_s)
        self._check(snapshot, actions)
        return actions, period_s

    def _check(self, snapshot: Snapshot, actions: tuple[Action, ...]) -> None:
        """One action at a time: none may raise the sum above the pool, and what is in force fits it."""
        assert self.decision is not None
        known = known_of(self.box, self.memory.commission)
        gpus = {gpu.id: gpu for gpu in snapshot.gpus}
        pool_w = self.decision.power.gpu_pool_w + 1e-6

        def sum_w() -> float:
            here = [gpu for gpu in gpus.values() if gpu.state is not GpuState.GONE]
            return sum(board_max_w(gpu, self.box.gpu, known[gpu.id].envelope) for gpu in here)

        before_w = sum_w()
        for action in actions:
            if isinstance(action, SetCap):
                gpus[action.device] = replace(gpus[action.device], cap_w=action.cap_w)
            elif isinstance(action, SetClockLimit):
                gpus[action.device] = replace(gpus[action.device], clock_limit_mhz=action.clock_mhz)
            now_w = sum_w()
            if now_w > before_w + 1e-6 and now_w > pool_w:
                self.broken.append(f"{snapshot.time_s:.2f} s: {action} raises the sum to {now_w:.0f} of {pool_w:.0f} W")
            before_w = now_w
        if snapshot.time_s >= self.checks_s and before_w > pool_w:
            self.broken.append(f"{snapshot.time_s:.2f} s: {before_w:.0f} W in force of {pool_w:.0f} W")

    def most_writes_a_minute(self) -> int:
        """Of any card, in any minute."""
        return max(
            (
                sum(1 for one in times[i:] if one < start_s + 60.0)
                for device, times in self.written.items()
                if device.startswith("gpu/")
                for i, start_s in enumerate(times)
            ),
            default=0,
        )


@dataclass(slots=True)
class Case:
    """One run."""

    name: str
    seed: int | None
    trace: Trace
    config: Config = field(default_factory=Config)
    guarantee: str = "bounded"
    events: tuple[Event, ...] = ()
    distort: Distort | None = None
    refuses: frozenset[str] = frozenset()
    dies_s: float = math.inf
    checks_s: float = math.inf
    restarts_s: float = math.inf
    is_measured: bool = True

    def run(self) -> tuple[Outcome, Watched]:
        """Through the plant; other loads that the owner told of are there from the start."""
        box, kind, measured = plant(self.name, self.seed)
        config = replace(self.config, box=self.name, power=replace(self.config.power, guarantee=self.guarantee))
        governor = Watched.of(box, config, measured if self.is_measured else None)
        governor.dies_s, governor.checks_s = self.dies_s, self.checks_s
        governor.restarts_s = self.restarts_s
        other_a = config.circuit.other_load_a
        events = (Event(0.0, lambda one: setattr(one, "other_a", other_a)), *self.events)
        scenario = Scenario(self.trace, events, self.distort, self.refuses)
        outcome = run(scenario, box, kind, config, governor, is_strict=self.guarantee == "strict")
        return outcome, governor


def failsafe(at_s: float) -> Event:
    """The independent program: every card at the lowest it takes."""

    def act(one: Plant) -> None:
        for gpu in one.gpus:
            if gpu.is_present:
                gpu.clock_limit_mhz = one.box.gpu.clock_min_mhz
                gpu.cap_w = max(one.box.gpu.cap_min_w, 100.0)

    return Event(at_s, act)


def leaves(index: int, at_s: float) -> Event:
    """A card falls off its bus."""
    return Event(at_s, lambda one: setattr(one.gpus[index], "is_present", False))


def returns(index: int, at_s: float) -> Event:
    """And is back, at its factory's limits."""

    def act(one: Plant) -> None:
        one.gpus[index].is_present = True
        one.gpus[index].factory_limits()

    return Event(at_s, act)


def everything(start_s: float, seconds: float, *, kind: str = "prefill") -> list[Row]:
    """Every card at full load."""
    return [Row(start_s, index, kind, 1.0, seconds) for index in range(6)]


def promised_a(name: str, config: Config) -> float:
    """What the box may draw on the mean."""
    return circuit_of(load_box(name), config).promised_a


def work_fits(name: str, config: Config) -> bool:
    """Whether six cards at work can be held under the promise at all, by their nominal floors and a busy processor."""
    box = load_box(name)
    circuit = circuit_of(box, config)
    floors_w = len(box.gpu.slots) * box.gpu.clock_table[0].board_power_max_w
    dc_w = floors_w + box.cpu.power_idle_w + box.rest.power_max_w
    return dc_w / box.psu.efficiency_min <= 0.95 * circuit.promised_a * 0.95 * circuit.volts * circuit.power_factor


def floors_fit(name: str, config: Config) -> bool:
    """Whether the strict guarantee can be given at all: every card at its floor, everything else at its worst."""
    box = load_box(name)
    circuit = circuit_of(box, config)
    known = known_of(box, None)
    floors_w = len(box.gpu.slots) * known["gpu/0"].envelope.most_w(box.gpu.clock_min_mhz)
    worst_w = (floors_w + box.cpu.power_max_w + box.rest.power_max_w) / box.psu.efficiency_min
    return worst_w <= 0.93 * circuit.promised_a * circuit.volts * circuit.power_factor


@dataclass(slots=True)
class Lie:
    """One sensor that goes wrong at a time and stays so. `what` is one of LIES; `index` says which card or supply."""

    what: str
    from_s: float
    index: int = 0
    until_s: float = math.inf
    _held: dict[str, float | None] = field(default_factory=dict)

    def __call__(self, snapshot: Snapshot) -> Snapshot:  # noqa: PLR0911
        """The snapshot with the lie in it."""
        if not self.from_s <= snapshot.time_s < self.until_s:
            return snapshot
        part, _, how = self.what.partition(" ")
        match part:
            case "gpu":
                gpus = list(snapshot.gpus)
                gpus[self.index] = replace(gpus[self.index], power_w=self._bent("gpu", gpus[self.index].power_w, how))
                return replace(snapshot, gpus=tuple(gpus))
            case "busy":
                return replace(snapshot, gpus=tuple(replace(gpu, busy_pct=None) for gpu in snapshot.gpus))
            case "cpu":
                cpu_w = self._bent("cpu", snapshot.cpu.power_w, how)
                return replace(snapshot, cpu=replace(snapshot.cpu, power_w=cpu_w))
            case "bmc":
                wall_w = self._bent("bmc", snapshot.bmc.wall_w, how)
                return replace(snapshot, bmc=replace(snapshot.bmc, wall_w=wall_w))
            case "fans":
                return replace(snapshot, fans=tuple(replace(fan, rpm=None) for fan in snapshot.fans))
            case _:
                psus = tuple(self._psu(i, psu, part, how) for i, psu in enumerate(snapshot.psus))
                return replace(snapshot, psus=psus)

    def _psu(self, index: int, psu: Psu, part: str, how: str) -> Psu:
        if part == "volts":
            return replace(psu, in_v=self._bent(f"v{index}", psu.in_v, how))
        if part == "psu" and index != self.index % 2:
            return psu
        return replace(psu, in_w=self._bent(f"w{index}", psu.in_w, how))

    def _bent(self, name: str, value: float | None, how: str) -> float | None:
        if how == "silent" or value is None:
            return None
        if how == "frozen":
            return self._held.setdefault(name, value)
        return value * float(how)


LIES = (
    *(f"gpu {how}" for how in ("silent", "frozen", "10", "-1", "0.5", "1.5", "0")),
    *(f"psu {how}" for how in ("silent", "frozen", "10", "0.5", "-1", "0", "1.5")),  # one supply
    *(f"psus {how}" for how in ("silent", "frozen", "10", "0.5", "-1", "0", "1.5")),  # both: one controller reads them
    *(f"bmc {how}" for how in ("silent", "frozen", "10", "0.5", "0.1", "1.5", "0")),
    *(f"volts {how}" for how in ("silent", "frozen", "1.1", "0.9", "1.9", "0")),
    *(f"cpu {how}" for how in ("silent", "frozen", "10", "-1")),
    "busy silent",
    "fans silent",
)
