"""Faults of the host: supplies, controller, breaker."""

from tinybox.core.box import Box
from tinybox.twin.faults.kinds import FaultKind


def board_faults(box: Box) -> tuple[FaultKind, ...]:
    """All kinds that this box's host can have."""
    supplies = tuple(f"psu/{i}" for i in range(box.psu.count))
    stuck = ("psu.read",) if len(supplies) > 1 else ()  # a single one has no other to be compared with
    dark = ("psu.redundancy", "case.fan", "bmc.sensors")
    return (
        FaultKind("power-stuck", supplies, "the supply's input power keeps its last value", stuck, load_pct=100),
        FaultKind("unreadable", supplies, "every sensor of the supply fails", ("psu.read",)),
        FaultKind("tripped", ("breaker",), "the breaker is open; clearing it resets the breaker", dark),
    )
