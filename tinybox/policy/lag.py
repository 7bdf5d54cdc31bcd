"""What follows something else with a lag of the first order: a slow meter, a mean of late, heat."""

import math


def toward(value: float, target: float, elapsed_s: float, tau_s: float) -> float:
    """`value` after following `target` for so long."""
    return target + (value - target) * math.exp(-elapsed_s / tau_s)
