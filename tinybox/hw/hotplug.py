"""What the kernel says of cards and drives, by udev: they went, they are back, a card was given up.

News only makes us look at once: a machine without udev finds the same a moment later by looking itself. Nothing here
touches a device.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import KernelLine, Wedged
from tinybox.hw.host import Host

SUBSYSTEMS = ("pci", "drm", "nvme")
SLOTS = "sys/bus/pci/slots"
LIVE = "udev"  # among a host's live commands: its news is this machine's
ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
DRIVE = re.compile(r"nvme\d+")
IN_LOG = re.compile(r"([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]).*device wedged, needs recovery", re.IGNORECASE)
UNNEEDED = ("none",)  # the driver recovered by itself
POLL_S = 1.0
STORM, STORM_REST_S = 100, 0.1  # so many events, then a rest: a loose riser says thousands a second
SAY_EVERY_S = 1.0
MOST_WEDGED = 64

log = logging.getLogger("tinyboxd")


@dataclass(frozen=True, slots=True)
class Event:
    """One piece of news; `name` is the kernel's name of the device, `methods` those of WEDGED=."""

    action: str
    subsystem: str
    name: str
    address: str
    methods: tuple[str, ...] = ()
    slot: str = ""


@dataclass(frozen=True, slots=True)
class LostDrive:
    """A drive that left the bus, and when (monotonic). `slot` is the board's own name of its place."""

    id: str
    address: str
    time_s: float
    slot: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """Whether to look for cards and drives again, and what only the kernel's news can tell."""

    is_gpu: bool = False
    is_drive: bool = False
    wedged: tuple[Wedged, ...] = ()
    lost: tuple[LostDrive, ...] = ()
    bound: tuple[tuple[str, float], ...] = ()  # addresses whose driver came or went, and when (monotonic)


class Devices(Protocol):
    """A device as pyudev has it."""

    @property
    def action(self) -> str | None: ...

    @property
    def subsystem(self) -> str | None: ...

    @property
    def device_path(self) -> str: ...

    @property
    def sys_name(self) -> str: ...

    @property
    def properties(self) -> Mapping[str, str]: ...


def event_of(device: Devices) -> Event | None:
    """What this is to us; None for a device that sits on no PCI function."""
    found = ADDRESS.findall(device.device_path)
    if not found:
        return None
    methods = device.properties.get("WEDGED", "")
    words = tuple(word for word in methods.split(",") if word)
    return Event(device.action or "", device.subsystem or "", device.sys_name, found[-1], words)


def slot_of(host: Host, address: str) -> str:
    """What the board calls the slot of this function; empty where it names none."""
    for name in host.list_dir(SLOTS):
        try:
            if address.startswith(host.read_text(f"{SLOTS}/{name}/address") + "."):
                return name
        except HardwareError:
            continue
    return ""


def wedged_of(news: News, kernel: tuple[KernelLine, ...], time_s: float, unix_s: float) -> tuple[Wedged, ...]:
    """Cards that are given up: by the event, or by what the kernel's log said before anybody listened.

    The log does not tell the way back. A driver that was bound since then is one that works.
    """
    found = {wedged.pci: wedged for wedged in news.wedged}
    bound = dict(news.bound)
    for line in kernel:
        match = IN_LOG.search(line.text)
        if match is None or match[1] in found or bound.get(match[1], float("-inf")) > line.time_s:
            continue
        found[match[1]] = Wedged(match[1], (), unix_s - max(0.0, time_s - line.time_s))
    return tuple(found.values())


class Ledger:
    """What follows from all events so far. Any thread may tell, any may take."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_gpu = False
        self._is_drive = False
        self._wedged: dict[str, Wedged] = {}
        self._lost: dict[str, LostDrive] = {}
        self._bound: dict[str, float] = {}

    def note(self, event: Event, time_s: float, unix_s: float) -> bool:
        """One more; whether it is worth a look."""
        with self._lock:
            match event.subsystem, event.action:
                case "drm", "change" if event.methods not in ((), UNNEEDED):
                    if len(self._wedged) < MOST_WEDGED:
                        self._wedged[event.address] = Wedged(event.address, event.methods, unix_s)
                case "drm", "change":
                    return False  # a monitor was plugged in
                case "nvme", "add" | "remove" if DRIVE.fullmatch(event.name):
                    self._note_drive(event, time_s)
                case "pci", "add" | "remove" | "bind":
                    self._wedged.pop(event.address, None)
                    if event.address in self._bound or len(self._bound) < MOST_WEDGED:
                        self._bound[event.address] = time_s
                    self._is_gpu = self._is_drive = True
                case "drm", "add" | "remove":
                    self._is_gpu = True
                case _:
                    return False
            return True

    def _note_drive(self, event: Event, time_s: float) -> None:
        self._is_drive = True
        if event.action == "add":
            self._lost.pop(event.address, None)
        elif len(self._lost) < MOST_WEDGED:
            self._lost[event.address] = LostDrive(f"drive/{event.name}", event.address, time_s, event.slot)

    def note_overflow(self) -> None:
        """The kernel said more than we could hear: look at everything."""
        with self._lock:
            self._is_gpu = self._is_drive = True

    def take(self) -> News:
        """What there is to look at, once; what is wedged or lost as long as it is."""
        with self._lock:
            kept = tuple(self._wedged.values()), tuple(self._lost.values()), tuple(self._bound.items())
            news = News(self._is_gpu, self._is_drive, *kept)
            self._is_gpu = self._is_drive = False
            return news


class Hotplug:
    """Listens in a thread of its own."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._wake: Callable[[], None] = lambda: None
        self._ledger = Ledger()
        self._say_s = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="hotplug", daemon=True)

    def start(self, wake: Callable[[], None]) -> None:
        """Begin to listen, where this machine's news is of the devices we read; `wake` is called from the thread."""
        self._wake = wake
        if self._host.is_real or LIVE in self._host.live:
            self._thread.start()

    def stop(self) -> None:
        """End; the thread leaves within its own time-out."""
        self._stop.set()

    def take(self) -> News:
        """What happened since the last time."""
        return self._ledger.take()

    def _listen(self) -> None:
        try:
            import pyudev  # here: a program that only looks once needs no library for it

            monitor = pyudev.Monitor.from_netlink(pyudev.Context())
            for subsystem in SUBSYSTEMS:
                monitor.filter_by(subsystem)
            monitor.start()
        except (ImportError, OSError) as error:
            log.info("no news from udev (%s): cards and drives are looked for", error)
            return
        while not self._stop.is_set():
            count = 0
            try:
                while count < STORM and (device := monitor.poll(POLL_S if count == 0 else 0)) is not None:
                    count += 1
                    self._hear(device)
            except OSError:  # ENOBUFS
                self._ledger.note_overflow()
                self._wake()
                count = STORM
            if count >= STORM:
                self._stop.wait(STORM_REST_S)

    def _hear(self, device: Devices) -> None:
        event = event_of(device)
        if event is None:
            return
        if event.subsystem == "nvme" and event.action == "remove":
            event = replace(event, slot=slot_of(self._host, event.address))
        if not self._ledger.note(event, time.monotonic(), time.time()):
            return
        if time.monotonic() >= self._say_s:
            self._say_s = time.monotonic() + SAY_EVERY_S
            log.info("%s: %s %s of %s", event.name, event.subsystem, event.action, event.address)
        self._wake()
