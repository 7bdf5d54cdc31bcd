"""Faults of drives and of the array."""

from tinybox.core.box import Box
from tinybox.twin.faults.kinds import FaultKind


def storage_faults(box: Box) -> tuple[FaultKind, ...]:
    """All kinds that this box's drives can have."""
    if box.storage.data_drives == 0:
        return ()
    drives = tuple(f"drive/nvme{i + 1}" for i in range(box.storage.data_drives))
    smart = ("nvme.smart",)
    return (
        FaultKind("media-errors", drives, "data cannot be read back", ("nvme.media",)),
        FaultKind("worn", drives, "its endurance is nearly used up", ("nvme.wear",)),
        FaultKind("spare-low", drives, "its spare blocks are used up", ("nvme.wear", *smart)),
        FaultKind("hot", drives, "it is beyond its own limit of temperature", ("nvme.temp", *smart)),
        FaultKind("read-only", drives, "it has made itself read-only", smart),
        FaultKind("link-slow", drives, "its link came up at half its speed", ("nvme.count_link",)),
        FaultKind("aer-correctable", drives, "packets on its PCIe link arrive damaged", ("pcie.aer.cor",)),
        FaultKind("aer-fatal", drives, "a fatal error on its PCIe link", ("pcie.aer.unc",)),
        FaultKind(
            *("resets", drives, "it stops answering and is reset", ("nvme.media",)),
            kernel_lines=(
                "nvme {name}: I/O 512 (Read) QID 3 timeout, reset controller",
                "nvme {name}: 8/0/0 default/read/poll queues",
            ),
        ),
        FaultKind("unmounted", ("raid",), "the array is not where programs look for it", ("raid.mount",)),
    )
