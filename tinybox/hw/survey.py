"""What a machine that nobody knows is made of: cards, supplies, controller, fans, drives. Reads only."""

import contextlib
import re
from dataclasses import dataclass, replace
from typing import Any

from tinybox.core.config import BmcConfig
from tinybox.core.errors import HardwareError
from tinybox.hw.amd import OD_FILE, parse_od_table
from tinybox.hw.bmc import BmcDriver
from tinybox.hw.host import Host
from tinybox.hw.intel import I915, XE
from tinybox.hw.libraries import ask_library
from tinybox.hw.nvme import CONTROLLER, NVME
from tinybox.hw.pcie import DEVICES, VENDORS, graphics_cards, link_gts
from tinybox.hw.psu import PsuDriver

# Intel's on the root bus is inside the processor, no card. Others' lie there where a virtual machine is handed a card.
PROCESSOR_GRAPHICS = ("8086", "0000:00:")
CLOCK = re.compile(r"(\d+)\s*M[hH]z")


@dataclass(frozen=True, slots=True)
class FoundCard:
    """A graphics card, as far as it tells; caps are in its own sensor's watts."""

    address: str
    pci_id: str
    vendor: str
    name: str | None = None
    cap_min_w: float | None = None
    cap_max_w: float | None = None
    cap_default_w: float | None = None
    vram_bytes: int | None = None
    clock_min_mhz: int | None = None
    clock_max_mhz: int | None = None
    has_overdrive: bool = False
    edge_crit_c: float | None = None
    junction_crit_c: float | None = None
    memory_crit_c: float | None = None
    fan_max_rpm: float | None = None
    link_width: int | None = None
    link_gts: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A machine. `psu_count` are the supplies with a PMBus sensor, `fan_count` the fans that a controller tells of."""

    cards: tuple[FoundCard, ...]
    psu_count: int
    has_bmc: bool
    fan_count: int
    drives: tuple[str, ...]
    cpu_name: str | None
    cpu_cores: int | None
    memory_bytes: int | None


def survey(host: Host, bmc: BmcConfig) -> Found:
    """Everything that can be found without asking anybody. A sleeping card is woken."""
    maker, bus = PROCESSOR_GRAPHICS
    found = graphics_cards(host, {})
    cards = [card for card in found if not (card.pci_id.startswith(maker) and card.address.startswith(bus))]
    psus = PsuDriver(host, 1)
    supplies, _ = psus.read(0.0)
    psus.close()
    _, fans, faults = BmcDriver(host, bmc, 0).read(0.0)
    values = None
    with contextlib.suppress(HardwareError):
        values = host.psutil()
    return Found(
        cards=_told_more(host, tuple(_read_card(host, card.address, card.pci_id) for card in cards)),
        psu_count=len(supplies),
        has_bmc=not faults and bmc.interface != "none",
        fan_count=len(fans),
        drives=tuple(name for name in host.list_dir(NVME) if CONTROLLER.fullmatch(name)),
        cpu_name=_cpu_name(host),
        cpu_cores=values.cpu_count_physical if values else None,
        memory_bytes=values.memory_total_bytes if values else None,
    )


def _told_more(host: Host, cards: tuple[FoundCard, ...]) -> tuple[FoundCard, ...]:
    """The cards with what their vendors' libraries add."""
    told: dict[str, dict[str, Any]] = {}
    for vendor in ("amd", "nvidia"):
        told |= ask_library(host, vendor, tuple(card.address for card in cards if card.vendor == vendor))
    return tuple(_with(card, told.get(card.address, {})) for card in cards)


def _with(card: FoundCard, told: dict[str, Any]) -> FoundCard:
    """A card, its gaps filled."""
    known = {("vram_bytes" if name == "vram_total_bytes" else name): value for name, value in told.items()}
    return replace(card, **{name: value for name, value in known.items() if getattr(card, name) is None})


def _read_card(host: Host, address: str, pci_id: str) -> FoundCard:
    folder = f"{DEVICES}/{address}"
    hwmon = next((f"{folder}/hwmon/{name}" for name in host.list_dir(f"{folder}/hwmon")), None)
    lowest, highest = _clocks(host, folder)
    width = _number(host, f"{folder}/max_link_width")
    vram = _number(host, f"{folder}/mem_info_vram_total")
    speed = _text(host, f"{folder}/max_link_speed")

    def figure(name: str, per_unit: float) -> float | None:
        value = _number(host, f"{hwmon}/{name}") if hwmon is not None else None
        return value / per_unit if value is not None and value > 0 else None

    return FoundCard(
        address=address,
        pci_id=pci_id,
        vendor=VENDORS.get(pci_id.partition(":")[0], "unknown"),
        cap_min_w=figure("power1_cap_min", 1e6),
        cap_max_w=figure("power1_cap_max", 1e6) or figure("power1_rated_max", 1e6),
        cap_default_w=figure("power1_cap_default", 1e6) or figure("power1_rated_max", 1e6),
        vram_bytes=int(vram) if vram is not None else None,
        clock_min_mhz=lowest,
        clock_max_mhz=highest,
        has_overdrive=host.exists(f"{folder}/{OD_FILE}"),
        edge_crit_c=figure("temp1_crit", 1e3),
        junction_crit_c=figure("temp2_crit", 1e3),
        memory_crit_c=figure("temp3_crit", 1e3),
        fan_max_rpm=figure("fan1_max", 1),
        link_width=int(width) if width is not None else None,
        link_gts=link_gts(speed) if speed is not None else None,
    )


def _clocks(host: Host, folder: str) -> tuple[int | None, int | None]:
    """The lowest clock limit that the card takes, and its highest clock."""
    for layout in (I915, XE):
        drm = next((f"drm/{name}" for name in host.list_dir(f"{folder}/drm") if name.startswith("card")), "drm/none")
        ends = [_number(host, f"{folder}/{name.format(drm=drm)}") for name in (layout.least, layout.most)]
        if ends[0] is not None and ends[1] is not None:
            return int(ends[0]), int(ends[1])
    levels = [int(mhz) for mhz in CLOCK.findall(_text(host, f"{folder}/pp_dpm_sclk") or "")]
    table = parse_od_table(_text(host, f"{folder}/{OD_FILE}") or "")
    least = table.least_mhz if table is not None else min(levels, default=None)
    return least, max(levels, default=None)


def _cpu_name(host: Host) -> str | None:
    match = re.search(r"^model name\s*:\s*(.+)$", _text(host, "proc/cpuinfo") or "", re.MULTILINE)
    return match[1].strip() if match else None


def _number(host: Host, path: str) -> float | None:
    with contextlib.suppress(HardwareError, ValueError):
        return float(host.read_text(path))
    return None


def _text(host: Host, path: str) -> str | None:
    with contextlib.suppress(HardwareError):
        return host.read_text(path)
    return None
