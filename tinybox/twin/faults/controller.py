"""Faults that the baseboard controller tells of, and its own."""

from tinybox.core.box import Box
from tinybox.twin.faults.kinds import FaultKind


def controller_faults(box: Box) -> tuple[FaultKind, ...]:
    """All kinds that this box's controller, fans, cords and room can have."""
    fans = tuple(f"fan/chassis{i + 1}" for i in range(box.fans.count))
    supplies = tuple(f"psu/{i}" for i in range(box.psu.count))
    bmc = ("bmc",)
    found = [
        FaultKind("dead", bmc, "the baseboard controller does not answer", ("bmc.reach",)),
        FaultKind(
            "stale",
            bmc,
            "the controller's readings stand still: seen once the load moves, or after three minutes",
            ("bmc.sensors",),
            shows_within_s=240.0,
        ),
        FaultKind("sel-full", bmc, "the controller's event log is all but full", ("bmc.sel",)),
        FaultKind("fans-taken", bmc, "another program has told the controller its own fan duty", ("fan.authority",)),
        FaultKind("hot", ("room",), "the room is 18 degrees warmer", ("room.inlet",)),
    ]
    if fans:
        found.append(FaultKind("stalled", fans, "something is in the fan's blades", ("case.fan", "bmc.sensors")))
        found.append(FaultKind("slow", fans, "worn bearings: half the speed it should have", ("case.fan",)))
    if len(supplies) > 1:
        words = "the supply's cord came out: the other carries everything"
        found.append(FaultKind("lost", supplies, words, ("psu.redundancy", "bmc.sel")))
    return tuple(found)
