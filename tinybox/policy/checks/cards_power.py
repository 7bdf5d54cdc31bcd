"""Limits of cards, what holds them back, and whether they can be read and told at all."""

import math
import re
from collections.abc import Iterator

from tinybox.core.snapshot import Gpu, GpuState, Severity
from tinybox.policy.checks.check import Answer, Check, Look, crit, good, warn

CAP_TOLERANCE_W = 3.0
BUSY_PCT = 50.0
THERMAL = ("thermal",)
HEAT = ("thermal", "power-brake")  # AMD: watts and amps are limits in force at any full load
HARD = ("thermal", "power-brake", "voltage", "current")
WINDOW_S = 600.0
OFTEN = 6  # seconds of ten minutes
SHARE_S, SHARE = 60.0, 0.3
REFUSED_S = 60.0
LATE = re.compile(r"did not write .* within|does not answer")  # no answer is no refusal; one that lasts is seen
POWER = ("power unreadable", "energy unreadable")  # Intel's watts are joules between two looks
CORE_FIGURES = ("power_w", "edge_c", "junction_c", "busy_pct")


def count(look: Look) -> Iterator[Answer]:
    """Every slot of the box has its card."""
    for i, gpu in enumerate(look.now.gpus):
        if gpu.state is GpuState.GONE:
            yield crit(
                gpu.id, f"gone from the bus at {gpu.pci}", advice=f"power off and reseat the card in slot {i + 1}"
            )
        else:
            yield good(gpu.id, f"at {gpu.pci}")


def same(look: Look) -> Iterator[Answer]:
    """Cards of one kind run one firmware."""
    for kind in look.box.gpus:
        cards = [gpu for gpu in look.awake() if look.box.kind_of(gpu.id) is kind]
        known = [gpu for gpu in cards if gpu.vbios is not None]
        usual = _most(gpu.vbios or "" for gpu in known)
        for gpu in known:
            if gpu.vbios != usual:
                yield warn(gpu.id, f"VBIOS {gpu.vbios}, most siblings have {usual}")
            else:
                yield good(gpu.id, f"VBIOS {gpu.vbios}")


def _most(values: Iterator[str]) -> str | None:
    told = sorted(values)
    return max(told, key=told.count) if told else None


def driver_bound(look: Look) -> Iterator[Answer]:
    """A card that is there and tells nothing has no driver."""
    for gpu in look.now.gpus:
        if gpu.state is GpuState.USERSPACE:
            yield good(gpu.id, f"driven by {gpu.driver or 'a program'} from user space")
        elif gpu.state is GpuState.AWAKE:
            yield _bound(gpu, look)


def _bound(gpu: Gpu, look: Look) -> Answer:
    if is_silent(gpu):
        reasons = look.reasons(gpu.id)
        return crit(gpu.id, reasons[0] if reasons else "no driver tells anything of it")
    return good(gpu.id, gpu.driver or "its driver answers")


def is_silent(gpu: Gpu) -> bool:
    """Whether not one figure could be read."""
    return all(getattr(gpu, name) is None for name in CORE_FIGURES)


def read(look: Look) -> Iterator[Answer]:
    """Sensors that should tell something and do not; the watts have a check of their own."""
    for gpu in look.awake():
        reasons = [reason for reason in look.reasons(gpu.id) if not reason.startswith(POWER)]
        if reasons and not is_silent(gpu):
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            yield warn(gpu.id, reasons[0] + more)
        else:
            yield good(gpu.id, "all sensors answer")


def power_unreadable(look: Look) -> Iterator[Answer]:
    """The meter that the outlet's promise rests on."""
    for gpu in look.awake():
        if gpu.power_w is not None or is_silent(gpu):
            yield good(gpu.id, "told" if gpu.power_w is not None else "no sensor answers")
            continue
        reasons = [reason for reason in look.reasons(gpu.id) if reason.startswith(POWER)]
        yield warn(gpu.id, reasons[0]) if reasons else Answer(gpu.id, look.absent(gpu.id).status, "not told")


def limits(look: Look) -> Iterator[Answer]:
    """Writes of limits that a card refused lately."""
    refused: dict[str, str] = {
        fault.device: fault.reason for fault in look.now.faults if fault.is_refusal and not LATE.search(fault.reason)
    }
    for gpu in look.awake():
        key = f"gpu.limits:{gpu.id}"
        if is_silent(gpu):  # its driver is gone: that is gpu.driver_bound's to say
            look.windows.pop(key, None)
            yield good(gpu.id, "no driver to write to")
            continue
        if gpu.id in refused:
            look.rise(key, 1.0, REFUSED_S)
        last_s = look.windows[key].samples[-1][0] if key in look.windows and look.windows[key].samples else None
        if last_s is not None and look.now.time_s - last_s < REFUSED_S:
            yield warn(gpu.id, refused.get(gpu.id, "refused a limit within the last minute"))
        else:
            yield good(gpu.id, "takes what is written")


def cap(look: Look) -> Iterator[Answer]:
    """The limit in force is the one we wrote; where we wrote none, the one that it had when we came."""
    for gpu in look.now.gpus:
        key, asked = f"cap:{gpu.id}", look.asked.get(gpu.id)
        if gpu.state is not GpuState.AWAKE or not look.now.is_armed:
            look.windows.pop(key, None)  # whatever comes back has the factory's; unarmed, limits are the owner's
        elif gpu.cap_w is None:
            yield look.absent(gpu.id)
        else:
            yield _judge_cap(gpu, look, key, None if asked is None else asked.cap_w)


def _judge_cap(gpu: Gpu, look: Look, key: str, asked_w: float | None) -> Answer:
    assert gpu.cap_w is not None
    if asked_w is not None or key not in look.windows:
        look.windows.pop(key, None)
        look.rise(key, asked_w if asked_w is not None else gpu.cap_w, math.inf)
    ours_w = look.windows[key].samples[-1][1]
    is_floor = gpu.cap_min_w is not None and abs(gpu.cap_w - gpu.cap_min_w) <= CAP_TOLERANCE_W  # the failsafe's
    if is_floor or abs(gpu.cap_w - ours_w) <= CAP_TOLERANCE_W:
        return good(gpu.id, f"{gpu.cap_w:.0f} W")
    return warn(gpu.id, f"{gpu.cap_w:.0f} W in force, {ours_w:.0f} W {'were written' if asked_w else 'before'}")


def throttle_nvidia(look: Look) -> Iterator[Answer]:
    """Heat and the power brake; a limit in force is no fault."""
    for gpu in look.awake("nvidia"):
        if gpu.throttles is None:
            yield look.absent(gpu.id)
            continue
        held = [one for one in gpu.throttles if one in HARD]
        often = _seconds_held(gpu.id, look, is_held=bool(held), span_s=WINDOW_S)
        if held and often > OFTEN:
            yield crit(gpu.id, f"held back by {', '.join(held)}, {often:.0f} s of the last ten minutes")
        elif held:
            yield warn(gpu.id, f"held back by {', '.join(held)}")
        else:
            yield good(gpu.id, "nothing but limits")


def _seconds_held(device: str, look: Look, *, is_held: bool, span_s: float) -> float:
    """Looks (one a second) of the span at which it was held back."""
    key = f"throttle:{device}"
    window = look.windows.get(key)
    total = (window.samples[-1][1] if window and window.samples else 0.0) + is_held
    return look.rise(key, total, span_s) + (0.0 if window else float(is_held))


def throttle_amd(look: Look) -> Iterator[Answer]:
    """Heat under load in a third of the last minute; its bits flip falsely at idle."""
    for gpu in look.awake("amd"):
        if gpu.throttles is None or gpu.busy_pct is None:
            yield look.absent(gpu.id)
            continue
        held = [one for one in gpu.throttles if one in HEAT and gpu.busy_pct > BUSY_PCT]
        seconds = _seconds_held(gpu.id, look, is_held=bool(held), span_s=SHARE_S)
        if seconds > SHARE * SHARE_S:
            yield warn(gpu.id, f"held back by {', '.join(held) or 'heat'} for {seconds:.0f} s of the last minute")
        else:
            yield good(gpu.id, "nothing but limits")


def throttle_intel(look: Look) -> Iterator[Answer]:
    """Heat and voltage; PL1 is a limit in force."""
    for gpu in look.awake("intel"):
        if gpu.throttles is None:
            yield look.absent(gpu.id)
            continue
        held = [one for one in gpu.throttles if one in HARD]
        yield warn(gpu.id, f"held back by {', '.join(held)}") if held else good(gpu.id, "nothing but limits")


def userspace(look: Look) -> Iterator[Answer]:
    """A program that drives a card itself has set itself a limit: nobody else can."""
    for gpu in look.now.gpus:
        if gpu.state is not GpuState.USERSPACE:
            continue
        if gpu.user_limit_w is None:
            worst_w = look.box.kind_of(gpu.id).board_power_max_w
            yield warn(gpu.id, f"{gpu.driver or 'a program'} drives it without a limit: it counts as {worst_w:.0f} W")
        else:
            yield good(gpu.id, f"{gpu.driver or 'its program'} holds it at {gpu.user_limit_w:.0f} W")


CHECKS = (
    Check("gpu.count", "the bus against the box's slots", "every card is there", "the box",
          "power off, reseat the card, swap the riser; a warm boot may not bring it back", count, Severity.CRITICAL,
          after_s=0.0),
    Check("gpu.same", "VBIOS of cards of one kind", "all alike", "the box itself", "bring them to one version", same),
    Check("gpu.driver_bound", "whether any sensor of a card answers", "some driver, or a program from user space",
          "the kernel", "load its driver ('modprobe amdgpu', 'tinybox doctor'), or see who owns the card", driver_bound,
          Severity.CRITICAL, after_s=15.0, is_told=False),
    Check("gpu.read", "every sensor that a card has", "each answers", "its driver",
          "read the reason; reload the driver or reboot, then reset the card", read, is_told=False),
    Check("gpu.power.unreadable", "the card's power meter", "it answers", "its driver",
          "reload the driver or reboot: until then it counts as its whole grant", power_unreadable, is_told=False),
    Check("gpu.limits", "answers to limits that were written", "none refused within a minute", "its driver",
          "see 'tinybox doctor' for the lever that is missing; reset the card", limits, is_told=False, after_s=3.0),
    Check("gpu.power.cap", "the power limit in force against the one we wrote", f"{CAP_TOLERANCE_W:.0f} W",
          "the governor", "somebody else writes limits: stop the other tool (LACT, rocm-smi)", cap, after_s=5.0),
    Check("gpu.throttle.nv", "NVIDIA's clock event reasons", "heat, power brake; more than 6 s of 10 min is critical",
          "NVML; limits and idling do not count", "power brake: supply or 12 V cable; heat: see the temperatures",
          throttle_nvidia, Severity.CRITICAL),
    Check("gpu.throttle.amd", "gpu_metrics' throttle bits at more than 50 % load", "30 % of a minute",
          "amdgpu gpu_metrics", "see the temperatures; lower its power limit", throttle_amd),
    Check("gpu.throttle.intel", "i915's and xe's throttle reasons", "heat, voltage, current", "the driver",
          "see the temperatures; lower its power limit", throttle_intel),
    Check("gpu.userspace", "limits of programs that drive cards themselves", "each has one", "its environment",
          "start it with AM_POWER_LIMIT=WATTS in its environment", userspace, after_s=5.0),
)  # fmt: skip
