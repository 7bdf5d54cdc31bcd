"""Faults of Intel cards as i915 and xe tell them."""

from tinybox.core.box import Box
from tinybox.twin.faults.kinds import FaultKind

AT_WORK_PCT = 60.0
HANG, THROTTLE = ("gpu.intel.hang",), ("gpu.throttle.intel",)


def intel_faults(box: Box) -> tuple[FaultKind, ...]:
    """All kinds that this box's Intel cards can have."""
    cards = tuple(f"gpu/{i}" for i, kind in enumerate(box.kinds) if kind.vendor == "intel")
    if not cards:
        return ()
    hung = "i915 {pci}: [drm] GPU HANG: ecode 12:1:85dffffb, in python3 [4711]"
    return (
        FaultKind("throttle-thermal", cards, "it slows down for its own heat", THROTTLE, AT_WORK_PCT, 90.0),
        FaultKind(
            "throttle-prochot",
            cards,
            "something else on the board says that it is too hot",
            THROTTLE,
            AT_WORK_PCT,
            90.0,
        ),
        FaultKind(
            *("hang", cards, "a job hangs; the driver resets the engine and goes on", HANG),
            kernel_lines=(hung, "i915 {pci}: [drm] Resetting chip for stopped heartbeat on rcs0"),
        ),
        FaultKind(
            *("engine-reset-failed", cards, "the card does not come back from a reset", HANG),
            kernel_lines=(
                hung,
                "i915 {pci}: [drm] *ERROR* rcs0 reset request timed out: {{request: 00000001, RESET_CTL: 00000001}}",
            ),
        ),
    )
