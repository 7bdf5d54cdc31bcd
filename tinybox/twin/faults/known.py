"""All that can be broken in a box, and the looking up of a name."""

from tinybox.core.box import Box
from tinybox.core.errors import TinyboxError
from tinybox.twin.faults.amd import amd_faults
from tinybox.twin.faults.board import board_faults
from tinybox.twin.faults.cards import card_faults
from tinybox.twin.faults.controller import controller_faults
from tinybox.twin.faults.heat import heat_faults
from tinybox.twin.faults.host import host_faults
from tinybox.twin.faults.hotplug import hotplug_faults
from tinybox.twin.faults.intel import intel_faults
from tinybox.twin.faults.kinds import FaultKind
from tinybox.twin.faults.nvidia import nvidia_faults
from tinybox.twin.faults.storage import storage_faults
from tinybox.twin.plant import Plant
from tinybox.twin.storage import drive_address


def known_faults(box: Box) -> tuple[FaultKind, ...]:
    """Every kind of fault that this box can show."""
    parts = (
        card_faults,
        amd_faults,
        intel_faults,
        nvidia_faults,
        board_faults,
        controller_faults,
        hotplug_faults,
        host_faults,
        heat_faults,
        storage_faults,
    )
    return tuple(kind for part in parts for kind in part(box))


def find_fault(fault_id: str, box: Box) -> FaultKind:
    """The kind of the fault with this id. Raises TinyboxError when nothing of this name can be broken."""
    device, _, name = fault_id.partition(":")
    for kind in known_faults(box):
        if kind.kind == name and device in kind.devices:
            return kind
    raise TinyboxError(f"no fault is called '{fault_id}'", hint="'tinybox twin fault list' names them all")


def begin_fault(plant: Plant, fault_id: str) -> None:
    """Break something, and let the kernel say what it says of it. Raises TinyboxError for an unknown id."""
    kind = find_fault(fault_id, plant.box)
    if fault_id in plant.broken:
        return
    plant.broken.begin(fault_id, plant.time_s)
    device = fault_id.partition(":")[0]
    for line in kind.kernel_lines:
        text = line.format(name=device.partition("/")[2], pci=_pci_of(device, plant.box))
        plant.kernel.say(text, plant.time_s, fault=fault_id)


def end_fault(plant: Plant, fault_id: str) -> None:
    """Mend something; what is not broken stays so. Raises TinyboxError for an unknown id."""
    find_fault(fault_id, plant.box)
    plant.broken.end(fault_id, plant.time_s)
    plant.kernel.forget(fault_id)


def _pci_of(device: str, box: Box) -> str:
    """Where the device sits, if it is a card or a drive."""
    index = "".join(filter(str.isdigit, device.partition("/")[2]))
    if device.startswith("gpu/"):
        return box.slots[int(index)]
    return drive_address(int(index)) if device.startswith("drive/") else ""
