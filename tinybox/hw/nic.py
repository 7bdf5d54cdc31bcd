"""Network interfaces that have hardware of their own (docs/protocol/nic.md)."""

import contextlib

from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, Nic
from tinybox.hw.figures import whole
from tinybox.hw.host import AbsentError, Host
from tinybox.hw.pcie import DEVICES, read_link

NET = "sys/class/net"


def read_nics(host: Host) -> tuple[tuple[Nic, ...], tuple[Fault, ...]]:
    """Every interface with a device behind it, by name; those of bridges, tunnels and containers have none."""
    names = [name for name in host.list_dir(NET) if host.exists(f"{NET}/{name}/device")]
    addresses: dict[str, tuple[str, ...]] = {}
    faults: list[Fault] = []
    try:
        addresses = host.addresses() if names else {}
    except HardwareError as error:
        faults.append(Fault("nic", f"addresses unreadable: {error}"))
    return tuple(_read_nic(host, name, addresses.get(name, ())) for name in names), tuple(faults)


def _read_nic(host: Host, name: str, addresses: tuple[str, ...]) -> Nic:
    folder = f"{NET}/{name}"
    address = host.resolve(f"{folder}/device").rpartition("/")[2]
    width, gts = None, None
    with contextlib.suppress(HardwareError):
        width, gts = read_link(host, f"{folder}/device")
    speed = _whole(host, f"{folder}/speed")
    return Nic(
        id=f"nic/{name}",
        pci=address if host.exists(f"{DEVICES}/{address}") else None,
        driver=host.link(f"{folder}/device/driver").rpartition("/")[2] or None,
        mac=_text(host, f"{folder}/address"),
        addresses=addresses,
        is_up=_is_up(host, folder),
        speed_mbps=speed or None,  # -1: nobody knows
        rx_errors=_whole(host, f"{folder}/statistics/rx_errors"),
        tx_errors=_whole(host, f"{folder}/statistics/tx_errors"),
        link_width=width,
        link_gts=gts,
    )


def _is_up(host: Host, folder: str) -> bool | None:
    """Whether somebody answers at the cable's other end; of a port switched off the kernel refuses to say."""
    try:
        return host.read_text(f"{folder}/carrier") == "1"
    except AbsentError:
        return None
    except HardwareError:
        return False


def _whole(host: Host, path: str) -> int | None:
    return whole(_text(host, path))


def _text(host: Host, path: str) -> str | None:
    with contextlib.suppress(HardwareError):
        return host.read_text(path) or None
    return None
