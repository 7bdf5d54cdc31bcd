"""PCI devices of the machine: which graphics cards there are, and how their links are (docs/protocol/pcie.md)."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Aer, PcieLink
from tinybox.hw.figures import positive, whole
from tinybox.hw.host import AbsentError, Attribute, Host

T = TypeVar("T", int, float)
DEVICES = "sys/bus/pci/devices"
DISPLAY_CLASSES = ("0x0300", "0x0302", "0x0380")  # with a screen, without one (NVIDIA's H100), neither said
ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
SUSPENDED = ("suspended", "suspending")
MEMORY = 0x200  # <linux/ioport.h>, IORESOURCE_MEM
BARS = 6
UNKNOWN_WIDTH = 255
VENDORS = {"1002": "amd", "10de": "nvidia", "8086": "intel"}
AER_KINDS = (("correctable", "COR"), ("nonfatal", "NONFATAL"), ("fatal", "FATAL"))
NOT_COMPUTE = ("1a03",)  # ASPEED: the BMC's own console


@dataclass(frozen=True, slots=True)
class PciCard:
    """A graphics card on the bus: address and `vendor:device` in hexadecimal."""

    address: str
    pci_id: str


def graphics_cards(host: Host, known: dict[str, PciCard | None]) -> tuple[PciCard, ...]:
    """Every graphics card, by address. `known` carries what addresses were found to be, so each is read once."""
    present = host.list_dir(DEVICES)
    for address in set(known) - set(present):
        del known[address]
    for address in present:
        if address not in known:
            known[address] = _identify(host, address)
    return tuple(card for address in present if (card := known[address]) is not None)


def _identify(host: Host, address: str) -> PciCard | None:
    folder = f"{DEVICES}/{address}"
    try:
        if not host.read_text(f"{folder}/class").startswith(DISPLAY_CLASSES):
            return None
        vendor = host.read_text(f"{folder}/vendor").removeprefix("0x")
        device = host.read_text(f"{folder}/device").removeprefix("0x")
    except HardwareError:
        return None
    return None if vendor in NOT_COMPUTE else PciCard(address, f"{vendor}:{device}")


def link_gts(text: str) -> float | None:
    """Gigatransfers per second from sysfs's `16.0 GT/s PCIe`; None where it says `Unknown`."""
    return positive(text)


def read_link(host: Host, device: str) -> tuple[int | None, float | None]:
    """Lanes and GT/s of a device's link as it runs now; None for a device without a PCIe link."""
    try:
        width = whole(host.read_text(f"{device}/current_link_width"))
        return _lanes(width), link_gts(host.read_text(f"{device}/current_link_speed"))
    except AbsentError:
        return None, None


def _lanes(width: int | None) -> int | None:
    """A width that a link can have: 0 is none, 255 is what a device says that has fallen off."""
    return width if width and width < UNKNOWN_WIDTH else None


class PciPath:
    """The way to a device from its root port; what is read again and again is kept open."""

    def __init__(self, host: Host, address: str) -> None:
        resolved = host.resolve(f"{DEVICES}/{address}").split("/")
        self.parts = [part for part in resolved if ADDRESS.fullmatch(part)] or [address]
        self.address = address
        self._host = host
        self._files: dict[str, Attribute] = {}
        self._most: tuple[int | None, float | None] | None = None

    @property
    def port(self) -> str | None:
        """The root port, where the device is not on the root bus itself."""
        return self.parts[0] if len(self.parts) > 1 else None

    def text(self, address: str, name: str) -> str:
        """A file of one of its parts; empty where it is not there or does not answer."""
        key = f"{DEVICES}/{address}/{name}"
        if key not in self._files:
            self._files[key] = self._host.attribute(key)
        with contextlib.suppress(HardwareError):
            return self._files[key].read()
        return ""

    def link(self, which: str) -> tuple[int | None, float | None]:
        """Lanes and GT/s of its narrowest and slowest part: `current`, or `max`, which is read until it is known."""
        if which == "max" and self._most is not None:
            return self._most
        widths = [_lanes(whole(self.text(part, f"{which}_link_width"))) for part in self.parts]
        speeds = [link_gts(self.text(part, f"{which}_link_speed")) for part in self.parts]
        found = _least(widths), _least(speeds)
        if which == "max" and None not in found:
            self._most = found
        return found


def read_links(host: Host, devices: Mapping[str, str], known: dict[str, PciPath]) -> tuple[PcieLink, ...]:
    """The links of these devices (id to address) that are on the bus. A suspended one is asked nothing more.

    `known` carries the ways to the addresses that are there.
    """
    present = {name: address for name, address in devices.items() if host.exists(f"{DEVICES}/{address}")}
    for address in set(known) - set(present.values()):
        del known[address]
    for address in present.values():
        if address not in known:
            known[address] = PciPath(host, address)
    return tuple(_read_link(name, known[address]) for name, address in present.items())


def _read_link(name: str, path: PciPath) -> PcieLink:
    address, port = path.address, path.port
    if path.text(address, "power/runtime_status") in SUSPENDED:
        return PcieLink(name, address)
    width, gts = path.link("current")
    width_max, gts_max = path.link("max")
    return PcieLink(
        id=name,
        address=address,
        width=width,
        gts=gts,
        width_max=width_max,
        gts_max=gts_max,
        bar_bytes=_largest_bar(path.text(address, "resource")),
        replays=whole(path.text(address, "pcie_replay_count")),
        aer=_read_aer(path, address, is_port=False),
        port=port,
        port_aer=_read_aer(path, port, is_port=True) if port is not None else None,
    )


def _least(values: Sequence[T | None]) -> T | None:
    return min((value for value in values if value is not None), default=None)


def _largest_bar(text: str) -> int | None:
    """The largest window of memory among a function's BARs, from sysfs's `resource`: start, end, flags."""
    sizes = []
    for line in text.splitlines()[:BARS]:
        with contextlib.suppress(ValueError):
            start, end, flags = (int(word, 16) for word in line.split())
            if flags & MEMORY and end > start:
                sizes.append(end - start + 1)
    return max(sizes, default=None)


def _read_aer(path: PciPath, address: str, *, is_port: bool) -> Aer | None:
    """What the function has counted, and for a root port what was reported to it; None where nothing is counted."""
    counts: list[int] = []
    for kind, total in AER_KINDS:
        match = re.search(rf"^TOTAL_ERR_{total} (\d+)$", path.text(address, f"aer_dev_{kind}"), re.MULTILINE)
        if match is None and not counts:
            return None
        counted = (whole(match[1]) if match is not None else None) or 0
        if is_port:
            counted = max(counted, whole(path.text(address, f"aer_rootport_total_err_{total.lower()}")) or 0)
        counts.append(counted)
    return Aer(*counts)
