"""Faults of NVIDIA cards as the kernel's log and the management library tell them (docs/protocol/nvml.md)."""

from tinybox.core.box import Box
from tinybox.twin.faults.kinds import FaultKind

HANG_S = 5  # seconds that a call into the library blocks
XID = "NVRM: Xid (PCI:{pci}): "


def nvidia_faults(box: Box) -> tuple[FaultKind, ...]:
    """All kinds that this box's NVIDIA cards can have."""
    cards = tuple(f"gpu/{i}" for i, kind in enumerate(box.kinds) if kind.vendor == "nvidia")
    if not cards:
        return ()
    return (
        FaultKind(
            *("xid-79", cards, "the card falls off the bus; its address stays"),
            checks=("gpu.count", "gpu.lost", "gpu.xid"),
            kernel_lines=(
                XID + "79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
                "NVRM: GPU {pci}: GPU has fallen off the bus.",
            ),
        ),
        FaultKind(
            *("xid-13", cards, "a program's kernel faults"),
            checks=("gpu.xid",),
            kernel_lines=(XID + "13, pid=4711, name=python3, Graphics Exception: Shader Program Header 18 Error",),
        ),
        FaultKind(
            *("xid-48", cards, "a double-bit error in the card's memory"),
            checks=("gpu.xid",),
            kernel_lines=(
                XID + "48, pid=4711, name=python3, An uncorrectable double bit error (DBE) has been detected",
            ),
        ),
        FaultKind(
            *("xid-63", cards, "a row of the card's memory is to be remapped"),
            checks=("gpu.xid",),
            kernel_lines=(XID + "63, pid=4711, name=python3, Row Remapper: New row marked for remapping",),
        ),
        FaultKind(
            *("xid-64", cards, "no row is left to remap to"),
            checks=("gpu.xid",),
            kernel_lines=(XID + "64, pid=4711, name=python3, Row Remapper: Failure to remap a row",),
        ),
        FaultKind(
            *("power-brake", cards, "the card's power brake is pulled: half its clock"),
            checks=("gpu.throttle.nv",),
            load_pct=100,
            shows_within_s=60,
        ),
        FaultKind(
            *("thermal-throttle", cards, "the card's firmware holds it back for heat: half its clock"),
            checks=("gpu.throttle.nv",),
            load_pct=100,
            shows_within_s=60,
        ),
        FaultKind(
            *("nvml-hangs", cards, f"every call of the library about the card blocks for {HANG_S} s"),
            checks=("gpu.driver_bound",),
        ),
        FaultKind("old-driver", cards, "the driver knows no field values, no margin and no speed of fans"),
    )
