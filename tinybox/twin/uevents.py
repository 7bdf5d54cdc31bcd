"""The kernel's news of devices, as udev passes them on: to programs inside the twin's own network namespace only.

libudev's datagrams (systemd, src/libsystemd/sd-device/device-monitor.c): a header in network order, then KEY=VALUE with
a NUL after each. A filter on subsystems compares hashes in the header, so that they have to be right.
"""

import os
import select
import socket
import struct
from dataclasses import dataclass, field

from tinybox.twin.files import place_of

MAGIC = 0xFEEDCAFE
HEADER = struct.Struct(">8sI")
OFFSETS = struct.Struct("=3I")
HASHES = struct.Struct(">4I")
HEADER_BYTES = HEADER.size + OFFSETS.size + HASHES.size
UDEV_GROUP = 2
NETLINK_KOBJECT_UEVENT = 15


@dataclass(frozen=True, slots=True)
class Uevent:
    """One piece of news: `add`, `remove`, `bind` or `change` of the device at this path below /sys."""

    action: str
    path: str
    subsystem: str
    properties: tuple[tuple[str, str], ...] = ()


def card_events(address: str, index: int, *, is_back: bool) -> tuple[Uevent, ...]:
    """A card that leaves the bus, or returns with its driver."""
    device = place_of(address)
    bus = (("PCI_SLOT_NAME", address),)
    if is_back:
        return (
            Uevent("add", device, "pci", bus),
            Uevent("add", f"{device}/drm/card{index}", "drm"),
            Uevent("bind", device, "pci", bus),
        )
    return Uevent("remove", f"{device}/drm/card{index}", "drm"), Uevent("remove", device, "pci", bus)


def drive_events(address: str, name: str, *, is_back: bool) -> tuple[Uevent, ...]:
    """The same of a drive."""
    device = place_of(address)
    action = "add" if is_back else "remove"
    news = (
        Uevent(action, device, "pci", (("PCI_SLOT_NAME", address),)),
        Uevent(action, f"{device}/nvme/{name}", "nvme", (("DEVNAME", f"/dev/{name}"),)),
        Uevent(action, f"{device}/nvme/{name}/{name}n1", "block", (("DEVNAME", f"/dev/{name}n1"), ("DEVTYPE", "disk"))),
    )
    return news if is_back else news[::-1]


def wedged_events(address: str, index: int, methods: tuple[str, ...]) -> tuple[Uevent, ...]:
    """A card that the kernel gave up (drm_dev_wedged_event); without methods, its driver was bound anew."""
    device = place_of(address)
    if not methods:
        return (Uevent("bind", device, "pci", (("PCI_SLOT_NAME", address),)),)
    return (Uevent("change", f"{device}/drm/card{index}", "drm", (("WEDGED", ",".join(methods)),)),)


def datagram(event: Uevent, number: int) -> bytes:
    """As udev would send it; `number` counts the kernel's news."""
    pairs = (
        *(("ACTION", event.action), ("DEVPATH", event.path), ("SUBSYSTEM", event.subsystem)),
        *(("SEQNUM", str(number)), *event.properties),
    )
    content = b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs)
    kind = dict(event.properties).get("DEVTYPE")
    hashes = HASHES.pack(murmur2(event.subsystem.encode()), murmur2(kind.encode()) if kind else 0, 0, 0)
    return HEADER.pack(b"libudev", MAGIC) + OFFSETS.pack(HEADER_BYTES, HEADER_BYTES, len(content)) + hashes + content


def murmur2(data: bytes) -> int:
    """MurmurHash2 with seed 0 (A. Appleby; public domain), as libudev hashes names."""
    factor, mask = 0x5BD1E995, 0xFFFFFFFF
    value = len(data)
    whole = len(data) // 4 * 4
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        mixed = word * factor & mask
        mixed = (mixed ^ mixed >> 24) * factor & mask
        value = value * factor & mask ^ mixed
    if rest := data[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * factor & mask
    value = (value ^ value >> 13) * factor & mask
    return value ^ value >> 15


def open_wire() -> socket.socket:
    """What reaches the listeners of the network namespace in which it is opened, whoever sends. Raises OSError."""
    wire = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT)
    wire.bind((0, 0))
    return wire


@dataclass(slots=True)
class Wires:
    """The namespaces of programs inside the twin, each until its program ends."""

    _wires: list[tuple[int, socket.socket]] = field(default_factory=list)
    _number: int = 0

    def add(self, pid: int, wire: socket.socket) -> None:
        """Send to this namespace while that process lives. Raises OSError where it does not."""
        self._wires.append((os.pidfd_open(pid), wire))

    def send(self, events: tuple[Uevent, ...]) -> None:
        """To everybody. Where nobody listens it is lost, as the kernel's is."""
        self.drop_ended()
        for event in events:
            self._number += 1
            message = datagram(event, self._number)
            for _, wire in self._wires:
                try:
                    wire.sendto(message, socket.MSG_DONTWAIT, (0, 1 << (UDEV_GROUP - 1)))
                except OSError:
                    continue

    def drop_ended(self) -> None:
        """Let go of namespaces whose program ended: an open wire would keep them."""
        for entry in tuple(self._wires):
            if select.select([entry[0]], [], [], 0)[0]:
                self._wires.remove(entry)
                os.close(entry[0])
                entry[1].close()
