"""PCI devices of the machine: which graphics cards there are, and how wide a device's link is."""

from dataclasses import dataclass

from tinybox.core.errors import HardwareError
from tinybox.hw.host import AbsentError, Host

DEVICES = "sys/bus/pci/devices"
DISPLAY_CLASSES = ("0x0300", "0x0380")  # VGA controller, other display controller
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
    try:
        return float(text.split(maxsplit=1)[0])
    except (ValueError, IndexError):
        return None


def read_link(host: Host, device: str) -> tuple[int | None, float | None]:
    """Lanes and GT/s of a device's link as it runs now; None for a device without a PCIe link."""
    try:
        width = host.read_text(f"{device}/current_link_width")
        return int(width), link_gts(host.read_text(f"{device}/current_link_speed"))
    except (AbsentError, ValueError):
        return None, None
