"""The room as a limit: 1.4 kW heats it. Air at the inlet above what the owner allows lowers what the box may draw.

The room takes hours and the case minutes to follow, so this moves slowly: a share of the promise, never more than all
of it, lower while the air is too warm and back once it is clearly cooler. Unknown, the share stays where it is.
"""

from tinybox.core.decision import Alert
from tinybox.core.snapshot import Severity

# Case and room answer within minutes (four for the case): faster than this the two would swing.
LOWER_PER_K_S, RAISE_PER_K_S = 2e-4, 1e-4
CALM_K = 0.5  # below the limit: nothing is raised nearer to it
STEP_MOST_S = 10.0
LEAST = 0.3


def room_share(inlet_c: float | None, room_max_c: float | None, share: float, elapsed_s: float) -> float:
    """The share of the promise (LEAST to 1) after `elapsed_s` more seconds at this air."""
    if room_max_c is None:
        return 1.0
    if inlet_c is None:
        return share
    over_k, seconds = inlet_c - room_max_c, min(max(0.0, elapsed_s), STEP_MOST_S)
    if over_k > 0:
        share -= LOWER_PER_K_S * over_k * seconds
    elif over_k < -CALM_K:
        share += RAISE_PER_K_S * -over_k * seconds
    return min(1.0, max(LEAST, share))


def room_alerts(inlet_c: float | None, room_max_c: float | None, share: float) -> list[Alert]:
    """What a person should know of it."""
    if room_max_c is None:
        return []
    if inlet_c is None:
        return [Alert("room", Severity.INFO, f"the air at the inlet is not told: {room_max_c:g} °C cannot be kept")]
    if share < 1.0:
        words = f"air at the inlet {inlet_c:.1f} °C, {room_max_c:g} °C allowed: the budget is lowered to {share:.0%}"
        return [Alert("room", Severity.WARNING, words)]
    return []
