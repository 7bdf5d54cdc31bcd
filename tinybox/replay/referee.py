"""Whether the promises were kept, by the plant's own truth and the fastest breaker that may be behind the outlet."""

import math
from collections import deque
from dataclasses import dataclass, field

from tinybox.core.circuit import BREAKER_SHARE, Circuit
from tinybox.twin.plant import Plant

WINDOW_S = 10.0
INSTANT_S = 0.1
SAMPLE_S = 0.1


def preload(circuit: Circuit) -> float:
    """θ of a breaker that has carried all that is promised on its circuit for long."""
    return (circuit.carried_a / circuit.rating_a) ** 2


@dataclass(slots=True)
class Mean:
    """A sliding mean over a window of steps of equal length."""

    steps: int
    values: deque[float] = field(default_factory=deque)
    total: float = 0.0

    def add(self, value: float) -> float:
        """The mean with one more."""
        self.values.append(value)
        self.total += value
        if len(self.values) > self.steps:
            self.total -= self.values.popleft()
        return self.total / self.steps


@dataclass(slots=True)
class Referee:
    """Watches one plant, sub-step by sub-step. `promise_broken_s` counts every promise of the guarantee."""

    circuit: Circuit
    is_strict: bool
    dt_s: float
    start_a: float
    heat: float
    heat_max: float = 0.0  # of the fastest breaker's trip
    continuous_broken_s: float = 0.0
    breaker_broken_s: float = 0.0
    instant_broken_s: float = 0.0
    promise_broken_s: float = 0.0
    mean_a_max: float = 0.0
    tripped_s: float = 0.0
    wall_w: list[float] = field(default_factory=list)
    amp_s: float = 0.0
    _ten: Mean = field(init=False)
    _instant: Mean = field(init=False)
    _sample_j: float = 0.0
    _sampled: int = 0

    def __post_init__(self) -> None:
        self._ten = Mean(round(WINDOW_S / self.dt_s))
        self._instant = Mean(round(INSTANT_S / self.dt_s))
        for mean in (self._ten, self._instant):
            for _ in range(mean.steps):
                mean.add(self.start_a)

    def step(self, plant: Plant) -> None:
        """After each step of the plant."""
        own_a, all_a, dt_s = plant.line_a, plant.line_a + plant.other_a, self.dt_s
        ratio = all_a / self.circuit.rating_a
        self.heat = ratio * ratio + (self.heat - ratio * ratio) * math.exp(-dt_s / self.circuit.tau_s)
        share = self.heat / self.circuit.trip_heat
        self.heat_max = max(self.heat_max, share)
        mean_a = self._ten.add(own_a)
        self.mean_a_max = max(self.mean_a_max, mean_a)
        instant_a = self._instant.add(own_a)
        continuous, breaker = mean_a > self.circuit.promised_a + 1e-6, share > BREAKER_SHARE
        instant = self.is_strict and instant_a > self.circuit.rating_a
        self.continuous_broken_s += dt_s * continuous
        self.breaker_broken_s += dt_s * breaker
        self.instant_broken_s += dt_s * instant
        self.promise_broken_s += dt_s * (continuous or breaker or instant)
        self.tripped_s += dt_s * plant.breaker.is_tripped
        self.amp_s += own_a * dt_s
        self._sample_j += plant.wall_w * dt_s
        self._sampled += 1
        if self._sampled * dt_s >= SAMPLE_S - 1e-9:
            self.wall_w.append(self._sample_j / (self._sampled * dt_s))
            self._sample_j, self._sampled = 0.0, 0
