"""What can be broken in a twin: ids are `DEVICE:KIND`, and each says what it does."""

from dataclasses import dataclass

from tinybox.core.box import Box
from tinybox.core.errors import TinyboxError

GPU_SENSORS = ("power", "junction", "edge", "memory", "fan", "busy")


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One thing that can be broken."""

    id: str
    words: str


def known_faults(box: Box) -> tuple[FaultKind, ...]:
    """Everything that can be broken in this box."""
    found = []
    for i in range(len(box.gpu.slots)):
        found.append(FaultKind(f"gpu/{i}:gone", "the card falls off the bus"))
        found.append(FaultKind(f"gpu/{i}:asleep", "the card is runtime-suspended; touching it is counted"))
        found.append(FaultKind(f"gpu/{i}:refuses", "writes of limits fail"))
        for sensor in GPU_SENSORS:
            found.append(FaultKind(f"gpu/{i}:{sensor}-stuck", f"the {sensor} sensor keeps its last value"))
            found.append(FaultKind(f"gpu/{i}:{sensor}-unreadable", f"reading the {sensor} sensor fails"))
    for i in range(box.psu.count):
        found.append(FaultKind(f"psu/{i}:power-stuck", "the supply's input power keeps its last value"))
        found.append(FaultKind(f"psu/{i}:unreadable", "every sensor of the supply fails"))
    found.append(FaultKind("bmc:dead", "the baseboard controller does not answer"))
    found.append(FaultKind("breaker:tripped", "the breaker is open; clearing it resets the breaker"))
    return tuple(found)


def check_fault(fault_id: str, box: Box) -> str:
    """The id itself. Raises TinyboxError when nothing of this name can be broken."""
    known = {kind.id for kind in known_faults(box)}
    if fault_id not in known:
        raise TinyboxError(f"no fault is called '{fault_id}'", hint="'tinybox twin fault list' names them all")
    return fault_id
