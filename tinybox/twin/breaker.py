"""A thermal-magnetic breaker: one thermal state fitted to UL 489, and an instantaneous trip."""

import math
from dataclasses import dataclass

from tinybox.twin.constants import BreakerPlant


@dataclass(slots=True)
class Breaker:
    """`heat` is θ of dθ/dt = (i² − θ)/τ, i in multiples of the rating; it trips at `trip_heat`, derated by the room."""

    rating_a: float
    trip_heat: float
    tau_s: float
    magnetic: float
    heat: float = 0.0
    is_tripped: bool = False

    @classmethod
    def of(cls, kind: BreakerPlant, rating_a: float, ambient_c: float) -> "Breaker":
        """A breaker in a room: a warm one trips earlier, a cool one later."""
        derating = 1 - kind.derate_per_k * (ambient_c - kind.calibrated_c)
        return cls(rating_a, kind.trip_heat * derating, kind.tau_s, kind.magnetic)

    @property
    def share(self) -> float:
        """Heat as a share of what trips."""
        return self.heat / self.trip_heat

    def step(self, amps: float, dt_s: float) -> None:
        """Carry `amps` (true RMS) for a while."""
        i = amps / self.rating_a
        self.heat = i * i + (self.heat - i * i) * math.exp(-dt_s / self.tau_s)
        if self.heat >= self.trip_heat or i > self.magnetic:
            self.is_tripped = True

    def reset(self) -> None:
        """Someone walked to the panel, after a while."""
        self.heat, self.is_tripped = 0.0, False
