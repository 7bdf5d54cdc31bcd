"""Faults of AMD cards as amdgpu tells them."""

from tinybox.core.box import Box
from tinybox.twin.faults.kinds import FaultKind

HANG = ("gpu.amd.hang",)


def amd_faults(box: Box) -> tuple[FaultKind, ...]:
    """All kinds that this box's AMD cards can have."""
    cards = tuple(f"gpu/{i}" for i, kind in enumerate(box.kinds) if kind.vendor == "amd")
    if not cards:
        return ()
    begun = (
        "amdgpu {pci}: amdgpu: ring gfx_0.0.0 timeout, signaled seq=81421, emitted seq=81423",
        "amdgpu {pci}: amdgpu: Process information: process python3 pid 4711 thread python3 pid 4711",
        "amdgpu {pci}: amdgpu: GPU reset begin!. Source:  1",
    )
    return (
        FaultKind(
            *("throttle-thermal", cards, "its firmware holds it back for heat", ("gpu.throttle.amd",), 100.0, 60.0)
        ),
        FaultKind("userspace", cards, "a program drives the card itself, with a limit of its own"),
        FaultKind(
            "userspace-unlimited", cards, "a program drives the card itself, without a limit", ("gpu.userspace",)
        ),
        FaultKind(
            *("ring-timeout", cards, "a job hangs; the driver resets the card and goes on", HANG),
            kernel_lines=(*begun, "amdgpu {pci}: amdgpu: MODE1 reset", "amdgpu {pci}: amdgpu: GPU reset(2) succeeded!"),
        ),
        FaultKind(
            *("memory-lost", cards, "a reset emptied the card's memory: every job on it is dead", HANG),
            kernel_lines=(*begun, "amdgpu {pci}: amdgpu: VRAM is lost due to GPU reset!"),
        ),
        FaultKind(
            *("reset-failed", cards, "the card does not come back from a reset", HANG),
            kernel_lines=(
                *begun,
                "amdgpu {pci}: amdgpu: GPU reset(3) failed",
                "amdgpu {pci}: amdgpu: GPU reset end with ret = -62",
            ),
        ),
    )
