"""The breaker as far as we can know it: one thermal state, that of the fastest that may be behind the outlet.

dθ/dt = (i² − θ)/τ with i in multiples of the rating; it trips at `Circuit.trip_heat`. A fit to UL 489's points
(research: power.md, 1): from 80 % of its rating it trips at 150 % in 18 s.
"""

import math

from tinybox.core.circuit import Circuit
from tinybox.policy.lag import toward

MOST = 1e6  # times the rating: no finite figure may overflow


def heat_after(heat: float, amps: float, seconds: float, circuit: Circuit) -> float:
    """θ after carrying `amps` for so long."""
    target = min(amps / circuit.rating_a, MOST) ** 2
    return toward(heat, target, seconds, circuit.tau_s)


def share_of_trip(heat: float, circuit: Circuit) -> float:
    """θ as a share of what trips: 1 is open."""
    return heat / circuit.trip_heat


def amps_allowed(heat: float, seconds: float, share: float, circuit: Circuit) -> float:
    """The amps that bring a breaker from `heat` to `share` of its trip in exactly so long; 0 when it is there."""
    stay = math.exp(-seconds / circuit.tau_s)
    square = (share * circuit.trip_heat - heat * stay) / (1 - stay)
    return circuit.rating_a * math.sqrt(max(0.0, square))
