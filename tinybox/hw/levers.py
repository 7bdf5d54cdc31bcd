"""Which levers of this machine can be pulled, and what brings the ones that are missing. Reads only."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tinybox.core.box import Box, GpuKind
from tinybox.core.config import Config
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import FanLever, Gpu, GpuState, PcieLink, Snapshot
from tinybox.hw.amd import OD_FILE
from tinybox.hw.host import Host
from tinybox.hw.pcie import DEVICES

FEATURE_MASK = "sys/module/amdgpu/parameters/ppfeaturemask"
OVERDRIVE_BIT = 0x4000  # <drivers/gpu/drm/amd/include/amd_shared.h>, PP_OVERDRIVE_MASK
ALL_FEATURES = "boot with amdgpu.ppfeaturemask=0xffffffff"


class Have(StrEnum):
    """`missing`: the box works with less. `needed`: something that was promised cannot be kept without it."""

    OK = "ok"
    STATE = "state"  # not as one might expect, and fine
    MISSING = "missing"
    NEEDED = "needed"


@dataclass(frozen=True, slots=True)
class Lever:
    """One lever of one device, what it is good for, and what brings it where it is missing."""

    device: str
    name: str
    have: Have
    words: str
    remedy: str = ""


def find_levers(host: Host, box: Box, config: Config, snapshot: Snapshot) -> tuple[Lever, ...]:
    """Every lever of this machine, as it was just read."""
    links = {link.id: link for link in snapshot.links}
    found: list[Lever] = []
    for gpu in snapshot.gpus:
        found += _card(host, gpu, box.kind_of(gpu.id), links.get(gpu.id))
    return (*found, *_board(host, config, snapshot))


def _card(host: Host, gpu: Gpu, kind: GpuKind, link: PcieLink | None) -> Iterator[Lever]:
    if gpu.state in (GpuState.GONE, GpuState.ASLEEP):
        words = (
            "it is not on the bus" if gpu.state is GpuState.GONE else "it sleeps and is left alone: ask while it works"
        )
        yield Lever(gpu.id, "driver", Have.STATE, words)
        return
    if gpu.state is GpuState.USERSPACE:
        yield Lever(gpu.id, "driver", Have.STATE, "a program drives it: its limits are set when that program starts")
        return
    if gpu.cap_w is None and gpu.clock_limit_mhz is None:
        words = "no limit of it can be read or written: it counts as its worst case"
        yield Lever(gpu.id, "driver", Have.NEEDED, words, _driver_remedy(gpu.vendor))
        return
    yield Lever(gpu.id, "driver", Have.OK, gpu.driver or "bound")
    yield _clock(host, gpu)
    yield _cap(gpu, kind)
    yield _fan(host, gpu)
    if link is not None and link.bar_bytes is not None and gpu.vram_total_bytes is not None:
        yield _window(gpu, link.bar_bytes, gpu.vram_total_bytes)


def _driver_remedy(vendor: str) -> str:
    return {
        "amd": "load its driver: 'modprobe amdgpu'",
        "nvidia": "install NVIDIA's driver and its library libnvidia-ml.so.1; 'modprobe nvidia'",
        "intel": "load its driver: 'modprobe i915', 'modprobe xe' for newer cards",
    }.get(vendor, "load its driver")


def _clock(host: Host, gpu: Gpu) -> Lever:
    if gpu.has_clock_lever and not gpu.clock_lever_is_coarse:
        return Lever(gpu.id, "clock", Have.OK, f"limits down to {gpu.clock_limit_min_mhz} MHz")
    words = "no clock limit but the lowest: a cap alone obeys late and not so low" if gpu.has_clock_lever else "none"
    remedy = ""
    if gpu.vendor == "amd" and not host.exists(f"{DEVICES}/{gpu.pci}/{OD_FILE}"):
        remedy = f"{ALL_FEATURES}{_mask_words(host)}"
    return Lever(gpu.id, "clock", Have.MISSING if gpu.has_clock_lever else Have.NEEDED, words, remedy)


def _mask_words(host: Host) -> str:
    """What the mask in force is, where the driver tells and its overdrive bit is off."""
    with contextlib.suppress(HardwareError, ValueError):
        text = host.read_text(FEATURE_MASK)
        if not int(text, 0) & OVERDRIVE_BIT:
            return f" (now {text}, without the overdrive bit 0x{OVERDRIVE_BIT:x})"
    return ""


def _cap(gpu: Gpu, kind: GpuKind) -> Lever:
    least_w = gpu.cap_min_w if gpu.cap_min_w is not None else kind.cap_min_w
    if gpu.cap_w is None:
        return Lever(gpu.id, "cap", Have.MISSING, "its power cap cannot be read", "see 'tinybox health'")
    if least_w > 0.8 * (gpu.cap_default_w or kind.cap_default_w):
        words = f"no cap below {least_w:.0f} W is taken"
        is_fine = gpu.has_clock_lever and not gpu.clock_lever_is_coarse
        words += ": the clock reaches lower" if is_fine else ", and no fine clock limit makes up for it"
        return Lever(gpu.id, "cap", Have.STATE if is_fine else Have.MISSING, words)
    return Lever(gpu.id, "cap", Have.OK, f"{least_w:.0f} W and more")


def _fan(host: Host, gpu: Gpu) -> Lever:
    if gpu.fan_lever is FanLever.LIMIT:
        return Lever(gpu.id, "fan", Have.OK, "its firmware keeps it below a speed")
    if gpu.fan_lever is FanLever.SPEED:
        return Lever(gpu.id, "fan", Have.OK, "it turns as it is told, and its heat is watched meanwhile")
    if gpu.vendor == "intel":
        return Lever(gpu.id, "fan", Have.STATE, "its firmware alone decides: a level of noise takes watts instead")
    if gpu.vendor == "nvidia" and gpu.fan_rpm is None and gpu.fan_pct is None:
        return Lever(gpu.id, "fan", Have.STATE, "it has no fan of its own: the case cools it")
    if gpu.vendor == "nvidia":
        words = "its driver does not tell what its fans take: its firmware alone decides"
        return Lever(gpu.id, "fan", Have.MISSING, words, "NVIDIA's driver 525 or newer")
    remedy = f"{ALL_FEATURES}{_mask_words(host)}; it takes Linux 6.7"
    return Lever(gpu.id, "fan", Have.MISSING, "its firmware alone decides how loud it is", remedy)


def _window(gpu: Gpu, bar_bytes: int, vram_bytes: int) -> Lever:
    if bar_bytes >= vram_bytes:
        return Lever(gpu.id, "window", Have.OK, f"{bar_bytes / 2**30:.0f} GiB")
    words = f"{bar_bytes / 2**20:.0f} MiB of its memory are seen at once: copies between cards are slow"
    return Lever(
        gpu.id, "window", Have.MISSING, words, "turn on Above 4G Decoding and Resizable BAR in the board's set-up"
    )


def _board(host: Host, config: Config, snapshot: Snapshot) -> Iterator[Lever]:
    if snapshot.cpu.cap_w is not None:
        yield Lever("cpu", "cap", Have.OK, f"{snapshot.cpu.cap_w:.0f} W in force")
    else:
        words = "its power has no limit that can be written: its worst case is reserved"
        yield Lever("cpu", "cap", Have.MISSING, words, "on an EPYC load amd_hsmp ('modprobe amd_hsmp', Linux 6.16)")
    if config.bmc.interface == "open" and not host.exists("dev/ipmi0"):
        words = "no /dev/ipmi0: chassis fans, inlet and the event log are not seen"
        yield Lever("bmc", "access", Have.MISSING, words, "'modprobe ipmi_si ipmi_devintf', or [bmc] in config.toml")
    elif config.bmc.interface != "none":
        yield Lever("bmc", "access", Have.OK, config.bmc.interface)
    told = [psu for psu in snapshot.psus if psu.in_w is not None]
    if told:
        yield Lever("psu", "meter", Have.OK, f"{len(told)} of {len(snapshot.psus)} supplies tell their watts")
    else:
        words = "no supply tells what it draws: the governor goes by estimates and a wider margin"
        yield Lever("psu", "meter", Have.MISSING, words, "PMBus supplies on the board's SMBus: 'modprobe pmbus'")
