"""Faults of what sheds the heat, and of cards that do what nobody asked of them: all of them in the physics."""

from tinybox.core.box import Box
from tinybox.twin.faults.kinds import FaultKind

DUSTY, DRIED = 2.6, 3.5  # times the resistance of fins to air, of die to edge
PADS_K = 40.0  # memory above what it should be
STUCK_W = 50.0  # of a card whose clocks never go down
LEAKED_BYTES = 6 * 10**9
HUNTING_S, HUNTING_HIGH = 24.0, 0.7  # a whole swing of a fan that cannot make up its mind, and its upper end
COOLER = 2.6  # times the resistance of the processor's cooler

WARM = ("gpu.thermal.residual", "gpu.temp.outlier")
# What shows depends on what a vendor's driver tells: the fan's true speed, the junction, the memory.
STALLED = {
    "amd": ("gpu.fan", "gpu.temp.outlier", "gpu.temp.core", "gpu.temp.junction", "gpu.temp.mem"),
    "nvidia": ("gpu.fan", "gpu.temp.outlier", "gpu.temp.core"),
    "intel": ("gpu.fan", "gpu.temp.outlier", "gpu.temp.core"),
}
PASTE = {"amd": ("gpu.temp.delta", "gpu.temp.outlier"), "intel": WARM}
PADS = {"amd": ("gpu.temp.mem", "gpu.temp.outlier")}
LEAK = {"amd": ("gpu.vram_leak",), "nvidia": ("gpu.vram_leak",)}


def heat_faults(box: Box) -> tuple[FaultKind, ...]:
    """All kinds that this box can have."""
    found: list[FaultKind] = []
    for vendor in dict.fromkeys(kind.vendor for kind in box.gpus):
        cards = tuple(f"gpu/{i}" for i, kind in enumerate(box.kinds) if kind.vendor == vendor)
        found += _card_faults(vendor, cards)
    checks = ("cpu.temp", "bmc.sensors")
    found.append(FaultKind("cooler", ("cpu",), "the processor's cooler sits loose", checks, 100, 180.0))
    return tuple(found)


def _card_faults(vendor: str, cards: tuple[str, ...]) -> list[FaultKind]:
    stalled, leak = STALLED.get(vendor, WARM), LEAK.get(vendor, ())
    paste, pads = PASTE.get(vendor, ()), PADS.get(vendor, ())
    return [
        FaultKind("dust", cards, "dust in the fins", WARM, 100, 300.0),
        FaultKind("fan-stalled", cards, "the fan cannot turn", stalled, 100, 300.0),
        FaultKind("paste", cards, "the paste has dried", paste, 100, 120.0),
        FaultKind("pads", cards, "the memory's pads do not touch", pads, 100, 120.0),
        FaultKind("fan-hunting", cards, "its fan speeds up and slows down for ever", ("noise.hunting",), 0.0, 200.0),
        FaultKind("idle-stuck", cards, "its clocks stay up without work", ("gpu.power.idle",)),
        FaultKind("vram-leak", cards, "memory that nobody holds stays in use", leak, 0.0, 330.0),
        FaultKind("cap-changed", cards, "another tool has set its power limit", ("gpu.power.cap",)),
    ]
