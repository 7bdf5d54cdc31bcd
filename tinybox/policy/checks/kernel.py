"""What the kernel's log says of cards: Xids, ring time-outs, hangs, and cards it gave up."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tinybox.core.health import Status
from tinybox.core.snapshot import Gpu, Severity
from tinybox.policy.checks.check import Answer, Check, Look, Step, good

XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\).*?: (\d+)")
LOST = re.compile(r"fallen off the bus|device lost from bus|GPU is lost", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Xid:
    """What NVIDIA's catalogue says of a number."""

    words: str
    status: Status
    step: Step


W, C = Status.WARN, Status.CRIT
APP = Xid("fault of the program", W, Step.RESTART_JOB)
STOP = Xid("the card stopped", C, Step.RESET_GPU)
XIDS: dict[int, Xid] = {
    **dict.fromkeys((13, 31, 32, 43, 45, 69), APP),
    **dict.fromkeys((46, 62, 109, 110, 136, 143, 158), STOP),
    48: Xid("double-bit memory error", C, Step.RESET_GPU),
    54: Xid("auxiliary power is not connected", C, Step.POWER_CYCLE),
    63: Xid("a memory row is to be remapped", W, Step.RESET_GPU),
    64: Xid("remapping a memory row failed", C, Step.REPLACE),
    74: Xid("link between cards", C, Step.RESET_GPU),
    79: Xid("fallen off the bus", C, Step.POWER_CYCLE),
    92: Xid("many single-bit memory errors", W, Step.RESET_GPU),
    94: Xid("memory error, contained", W, Step.RESTART_JOB),
    95: Xid("memory error, not contained", C, Step.RESET_GPU),
    119: Xid("its system processor does not answer", C, Step.RESET_GPU),
    120: Xid("its system processor failed", C, Step.RESET_GPU),
    140: Xid("memory error, not recovered", C, Step.RESET_GPU),
    151: Xid("key rotation", W, Step.REBOOT),
    154: Xid("the way to recover changed", W, Step.RESET_GPU),
}
UNKNOWN_XID = Xid("not in our list", W, Step.RESTART_JOB)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A line and what it means."""

    regex: re.Pattern[str]
    words: str
    status: Status
    step: Step


def _pattern(regex: str, words: str, status: Status, step: Step) -> Pattern:
    return Pattern(re.compile(regex, re.IGNORECASE), words, status, step)


AMD = (
    _pattern(r"VRAM is lost", "its memory was lost in a reset: every job on it is dead", C, Step.RESTART_JOB),
    _pattern(r"GPU reset\(.*\) failed|Ring \S+ reset failed|GPU reset end with ret = -", "a reset failed", C,
             Step.REBOOT),
    _pattern(r"MES failed to respond|MES might be in unrecoverable|failed to (?:unmap legacy queue|halt cp gfx)",
             "its scheduler does not answer", C, Step.REBOOT),
    _pattern(r"ring \S+ timeout", "a ring timed out", W, Step.RESTART_JOB),
    _pattern(r"GPU reset begin|MODE1 reset|BACO reset|GPU reset succeeded", "it was reset", W, Step.RESTART_JOB),
)  # fmt: skip
INTEL = (
    _pattern(r"GUC: load failed|GuC load failed", "its firmware did not load", C, Step.REBOOT),
    _pattern(r"reset request timed out|Engine reset failed", "a reset failed", C, Step.REBOOT),
    _pattern(r"GPU HANG: ecode|Engine reset: engine_class=|Resetting chip for", "it hung and was reset", W,
             Step.RESTART_JOB),
    _pattern(r"Fault response: Unsuccessful", "a page fault that nobody answered", W, Step.RESTART_JOB),
)  # fmt: skip
WEDGED_STEP = {"none": Step.RESTART_JOB, "rebind": Step.RESET_GPU, "bus-reset": Step.RESET_GPU}
RANK = (Status.OK, Status.WARN, Status.CRIT)


def device_of(text: str, gpus: tuple[Gpu, ...]) -> str | None:
    """The card that a line names by its address, with or without its function."""
    return next((gpu.id for gpu in gpus if gpu.pci and gpu.pci.rpartition(".")[0].lower() in text.lower()), None)


def _worst(found: list[Answer], devices: list[str]) -> Iterator[Answer]:
    """One answer a device; cards of which nothing is said are fine."""
    for device in devices:
        mine = [one for one in found if one.device == device]
        yield max(mine, key=lambda one: RANK.index(one.status)) if mine else good(device, "nothing in the kernel's log")
    yield from (one for one in found if one.device not in devices)


def xid(look: Look) -> Iterator[Answer]:
    """NVIDIA's numbered errors of the last ten minutes."""
    found = []
    for line in look.now.kernel:
        if (match := XID.search(line.text)) is None:
            continue
        number = int(match[2]) if len(match[2]) < 5 else 0
        known = XIDS.get(number, UNKNOWN_XID)
        device = device_of(match[1], look.now.gpus) or "kernel"
        found.append(Answer(device, known.status, f"Xid {number}: {known.words}", step=known.step))
    yield from _worst(found, [gpu.id for gpu in look.now.gpus if gpu.vendor == "nvidia"])


def _hangs(look: Look, patterns: tuple[Pattern, ...], vendor: str, words: tuple[str, ...]) -> Iterator[Answer]:
    devices = [gpu.id for gpu in look.now.gpus if gpu.vendor == vendor]
    if not devices:
        return
    found = []
    for line in look.now.kernel:
        device = device_of(line.text, look.now.gpus)
        if device is None and not any(word in line.text for word in words):
            continue
        for one in patterns:
            if one.regex.search(line.text):
                found.append(Answer(device or "kernel", one.status, f"{one.words} ({line.text[:120]})", step=one.step))
                break
    yield from _worst([one for one in found if one.device in devices or one.device == "kernel"], devices)


def amd_hang(look: Look) -> Iterator[Answer]:
    """The ladder of amdgpu: time-out, reset, lost memory, failed reset."""
    yield from _hangs(look, AMD, "amd", ("amdgpu", "MES"))


def intel_hang(look: Look) -> Iterator[Answer]:
    """i915's and xe's hangs."""
    yield from _hangs(look, INTEL, "intel", ("i915", "xe "))


def wedged(look: Look) -> Iterator[Answer]:
    """Cards that the kernel gave up, with the way back that it names."""
    for gpu in look.now.gpus:
        said = next((one for one in look.now.wedged if one.pci == gpu.pci), None)
        if said is None:
            yield good(gpu.id, "not given up")
        else:
            step = max((WEDGED_STEP.get(method, Step.POWER_CYCLE) for method in said.methods), default=Step.POWER_CYCLE)
            way = ", ".join(said.methods) or "not told"
            yield Answer(gpu.id, Status.CRIT, f"given up by the kernel at {gpu.pci}, way back: {way}", step=step)


def lost(look: Look) -> Iterator[Answer]:
    """Cards that the driver no longer reaches."""
    found = [
        Answer(device_of(line.text, look.now.gpus) or "kernel", Status.CRIT, line.text[:160], step=Step.POWER_CYCLE)
        for line in look.now.kernel
        if LOST.search(line.text)
    ]
    yield from _worst(found, [gpu.id for gpu in look.now.gpus])


CHECKS = (
    Check("gpu.xid", "NVRM: Xid in the kernel's log, last ten minutes", "by number", "NVIDIA's Xid catalogue",
          "by number", xid, Severity.CRITICAL, after_s=0.0, is_slow=True),
    Check("gpu.amd.hang", "amdgpu in the kernel's log", "time-out, reset; memory lost, reset failed", "amdgpu",
          "restart the jobs of that card; reboot where a reset failed", amd_hang, Severity.CRITICAL, after_s=0.0,
          is_slow=True),
    Check("gpu.intel.hang", "i915 and xe in the kernel's log", "hang, reset; reset failed, firmware", "i915, xe",
          "restart the jobs of that card; reboot where a reset failed", intel_hang, Severity.CRITICAL, after_s=0.0,
          is_slow=True),
    Check("gpu.wedged", "the WEDGED= event of the DRM subsystem", "none", "kernel, drm-uapi",
          "as the event names it", wedged, Severity.CRITICAL, after_s=0.0),
    Check("gpu.lost", "'fallen off the bus' in the kernel's log", "none", "NVIDIA Xid 79, the kernel",
          "cut the power at the supplies, reseat the card, update the board's firmware", lost, Severity.CRITICAL,
          after_s=0.0, is_slow=True),
)  # fmt: skip
