"""Faults of cards: what fails in them, and what fails in their sensors alone."""

from tinybox.core.box import Box
from tinybox.twin.faults.kinds import FaultKind

# What only some vendors' drivers let one see: a junction beside the edge, activity that is no counter.
UNSEEN = {"nvidia": {"edge": ("gpu.temp.delta",)}, "intel": {"edge": ("gpu.temp.delta",), "busy": ("gpu.power.idle",)}}
# What a sensor that stands still at its idle value raises once there is load: checks, load, seconds.
STUCK: dict[str, tuple[tuple[str, ...], float, float]] = {
    "power": (("gpu.thermal.residual",), 100.0, 300.0),
    "junction": (("gpu.temp.frozen",), 100.0, 120.0),
    "edge": (("gpu.temp.frozen", "gpu.temp.delta"), 100.0, 120.0),
    "memory": (("gpu.temp.frozen",), 100.0, 120.0),
    "fan": (("gpu.fan",), 100.0, 300.0),
    "busy": (("gpu.power.idle",), 100.0, 60.0),
}
AT_WORK_PCT = 60.0
SENSORS = ("power", "junction", "edge", "memory", "fan", "busy")
HIDDEN = {
    "nvidia": ("junction", "memory"),
    "intel": ("junction", "memory"),
}  # sensors that cards of a vendor do not show


def card_faults(box: Box) -> tuple[FaultKind, ...]:
    """All kinds that this box's cards can have."""
    cards = tuple(f"gpu/{i}" for i in range(len(box.slots)))
    found = [
        FaultKind("gone", cards, "the card falls off the bus", ("gpu.count",)),
        FaultKind("asleep", cards, "the card is runtime-suspended; touching it is counted"),
        FaultKind("refuses", cards, "writes of limits fail", ("gpu.limits",), load_pct=100),
    ]
    found += [
        FaultKind("link-narrow", cards, "the link came up with half its lanes", ("pcie.link",), AT_WORK_PCT),
        FaultKind("link-slow", cards, "the link came up at half its speed", ("pcie.link",), AT_WORK_PCT),
        FaultKind("small-bar", cards, "the board gives the card a window of 256 MiB", ("pcie.rebar",)),
        FaultKind("aer-correctable", cards, "packets arrive damaged and are sent again", ("pcie.aer.cor",)),
        FaultKind("aer-fatal", cards, "a fatal error on the card's link", ("pcie.aer.unc",)),
    ]
    counting = tuple(f"gpu/{i}" for i, kind in enumerate(box.kinds) if kind.vendor != "intel")
    if counting:
        found.append(FaultKind("replays", counting, "packets are sent again and again", ("pcie.replay",)))
    return (*found, *(kind for vendor in dict.fromkeys(one.vendor for one in box.gpus) for kind in _blind(box, vendor)))


def _blind(box: Box, vendor: str) -> list[FaultKind]:
    """Sensors of this vendor's cards that stand still or cannot be read."""
    cards = tuple(f"gpu/{i}" for i, kind in enumerate(box.kinds) if kind.vendor == vendor)
    found = []
    for sensor in SENSORS:
        if sensor in HIDDEN.get(vendor, ()):
            continue
        checks, load_pct, shows_s = STUCK[sensor]
        checks = tuple(check for check in checks if check not in UNSEEN.get(vendor, {}).get(sensor, ()))
        words = f"the {sensor} sensor keeps its last value"
        found.append(FaultKind(f"{sensor}-stuck", cards, words, checks, load_pct, shows_s))
        blind = ("gpu.power.unreadable",) if sensor == "power" else ("gpu.read",)
        found.append(FaultKind(f"{sensor}-unreadable", cards, f"reading the {sensor} sensor fails", blind))
    return found
