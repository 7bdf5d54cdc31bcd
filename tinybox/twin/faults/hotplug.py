"""Faults of what comes and goes while the machine runs: drives that leave the bus, cards that the kernel gives up."""

from tinybox.core.box import Box
from tinybox.twin.faults.kinds import FaultKind

WEDGED_METHODS = ("rebind", "bus-reset")


def hotplug_faults(box: Box) -> tuple[FaultKind, ...]:
    """All kinds that this box can show."""
    cards = tuple(f"gpu/{i}" for i in range(len(box.slots)))
    drives = tuple(f"drive/nvme{i + 1}" for i in range(box.storage.data_drives))
    found = [
        FaultKind(
            "wedged",
            cards,
            "the kernel gives the card up and says how it may come back",
            ("gpu.wedged",),
            kernel_lines=("amdgpu {pci}: [drm] device wedged, needs recovery",),
        ),
    ]
    if drives:
        said = f"md/{box.storage.level}:md127: Disk failure on {{name}}n1 detected, failing array."
        found.append(
            FaultKind(
                "gone",
                drives,
                "the drive falls off the bus, and the array with it",
                ("nvme.count_link", "md.state"),
                kernel_lines=(said,),
            )
        )
    return tuple(found)
