"""Which programs hold which cards, by their open files (proc_pid_fd(5)): for people who ask whose memory it is.

Whom the governor may stop is another question (work.py).
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Holder
from tinybox.hw.host import Host
from tinybox.hw.pcie import DEVICES
from tinybox.hw.work import Process, look_up

EVERY_S = 10.0  # every process is looked at
NODE = re.compile(r"/dev/(?:dri/)?((?:renderD|card|nvidia)\d+|kfd)")
MINOR = re.compile(r"^Device Minor:\s*(\d{1,4})\s*$", re.MULTILINE)
ALL_AMD = "kfd"  # one node for all of them
# A program that drives a card itself maps its memory windows, or holds its IOMMU group (docs/userspace-cards.md).
WINDOW = re.compile(r"/.*/([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])/resource\d(?:_wc)?")
GROUP = re.compile(r"/dev/(vfio/(?:noiommu-)?\d+)")
LIMIT = re.compile(r"(?:^|\0)AM_POWER_LIMIT=(\d{1,4})(?:\.0*)?(?:\0|$)")


@dataclass(frozen=True, slots=True)
class Owner:
    """A program that drives cards itself, and the watts that its environment allows each; 0 is no limit."""

    process: Process
    name: str
    limit_w: float | None


class HolderDriver:
    """Looks now and then."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._found: tuple[Holder, ...] | None = None
        self._due_s = float("-inf")
        self.owners: Mapping[str, tuple[Owner, ...]] | None = None  # by card; None: nobody has looked, or may

    def look_again(self) -> None:
        """Look in the next reading, whenever the last look was."""
        self._due_s = float("-inf")

    def read(self, now_s: float, cards: Mapping[str, tuple[str, str]]) -> tuple[Holder, ...] | None:
        """All programs that hold any of the `cards` (id: address and vendor). None: only root may know."""
        if self._host.is_real and os.geteuid() != 0:
            return None
        if now_s >= self._due_s:
            self._due_s = now_s + EVERY_S
            nodes = self._nodes(cards)
            pids = [int(name) for name in self._host.list_dir("proc") if name.isdecimal()]
            owners: dict[str, tuple[Owner, ...]] = {}
            found = [self._holder(pid, nodes, owners) for pid in pids if pid != os.getpid()]
            self._found = tuple(holder for holder in found if holder is not None)
            self.owners = owners
        return self._found

    def _nodes(self, cards: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, ...]]:
        """Device nodes by name, each with the cards behind it."""
        nodes: dict[str, tuple[str, ...]] = {}
        for gpu, (address, vendor) in cards.items():
            for name in self._host.list_dir(f"{DEVICES}/{address}/drm"):
                nodes[name] = (gpu,)
            nodes[address] = (gpu,)
            if group := os.path.basename(self._host.link(f"{DEVICES}/{address}/iommu_group")):  # noqa: PTH119
                for name in (f"vfio/{group}", f"vfio/noiommu-{group}"):
                    nodes[name] = (*nodes.get(name, ()), gpu)
            if vendor == "nvidia" and (minor := self._minor(address)) is not None:
                nodes[f"nvidia{minor}"] = (gpu,)
        nodes[ALL_AMD] = tuple(gpu for gpu, (_, vendor) in cards.items() if vendor == "amd")
        return nodes

    def _minor(self, address: str) -> int | None:
        try:
            match = MINOR.search(self._host.read_text(f"proc/driver/nvidia/gpus/{address}/information"))
        except HardwareError:
            return None
        return int(match[1]) if match else None

    def _holder(
        self, pid: int, nodes: Mapping[str, tuple[str, ...]], owners: dict[str, tuple[Owner, ...]]
    ) -> Holder | None:
        """The program, if it holds a card; what it drives itself is noted in `owners`."""
        folder = f"proc/{pid}/fd"
        held: set[str] = set()
        driven: set[str] = set()
        for name in self._host.list_dir(folder):
            file = self._host.link(f"{folder}/{name}")
            if (match := NODE.fullmatch(file)) is not None:
                held |= set(nodes.get(match[1], ()))
            elif (match := WINDOW.fullmatch(file) or GROUP.fullmatch(file)) is not None:
                driven |= set(nodes.get(match[1], ()))
        if not held | driven or (found := look_up(self._host, pid)) is None:
            return None
        try:
            name = self._host.read_text(f"proc/{pid}/comm")
        except HardwareError:
            return None  # it ended meanwhile
        if driven:
            owner = Owner(found[0], name, self._limit_w(pid))
            owners |= {gpu: (*owners.get(gpu, ()), owner) for gpu in driven}
        return Holder(pid, name, found[1], tuple(sorted(held | driven)))

    def _limit_w(self, pid: int) -> float | None:
        try:
            match = LIMIT.search(self._host.read_text(f"proc/{pid}/environ"))
        except HardwareError:
            return None
        return (float(match[1]) or None) if match else None
