"""The tree as a file system, by FUSE, with whatever faults are active in between."""

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Any

import mfusepy

from tinybox.twin.faults.hotplug import WEDGED_METHODS
from tinybox.twin.faults.known import begin_fault, end_fault, find_fault
from tinybox.twin.files import Tree
from tinybox.twin.gpu import USERSPACE
from tinybox.twin.nvidia import feed_folder
from tinybox.twin.plant import Plant
from tinybox.twin.storage import drive_address, drive_folder
from tinybox.twin.tree import add_process, card_folder
from tinybox.twin.uevents import Uevent, card_events, drive_events, wedged_events

DRIVERS = "/sys/bus/pci/drivers/"
# What the bus itself shows of a function.
PCI_NAMES = {
    *("vendor", "device", "class", "revision", "subsystem_vendor", "subsystem_device", "subsystem", "config"),
    *("uevent", "modalias", "irq", "resource", "power", "current_link_width", "current_link_speed"),
    *("max_link_width", "max_link_speed", "aer_dev_correctable", "aer_dev_nonfatal", "aer_dev_fatal"),
}
IDLING = ("asleep", "wedged", "xid-79")  # faults under which a card does no work
NVIDIA_NODE = "/dev/nvidia"
WORK_BYTES = 512 << 20
COUNTERS = ("power", "busy")  # tags of what grows with time
SLEEPING_READS = ("facts", "runtime")  # what a suspended card answers without waking up


class FaultySysfs(mfusepy.Operations):  # type: ignore[misc]
    """Serves a tree; reading and writing pass through the active faults."""

    use_ns = True

    def __init__(self, tree: Tree, plant: Plant) -> None:
        self._whole = tree
        self._tree = tree
        self._plant = plant
        self._stuck: dict[str, str] = {}
        self._born_ns = time.time_ns()
        self._holders: dict[int, str] = {}
        self._news: list[Uevent] = []
        self.wakes = 0
        self.is_ending = False
        self.catch_up: Callable[[], None] = lambda: None
        self._settle()

    @property
    def shown(self) -> Tree:
        """The tree as it is now, without what is gone."""
        return self._tree

    def add_fault(self, fault_id: str) -> None:
        """Break something. Raises TinyboxError for an unknown id."""
        find_fault(fault_id, self._plant.box)
        self._tell(fault_id, is_back=False)
        begin_fault(self._plant, fault_id)
        if fault_id == "breaker:tripped":
            self._plant.is_tripped = True
        if fault_id.endswith("-stuck"):
            tag = fault_id.removesuffix("-stuck")
            self._stuck |= {path: file.read() for path, file in self._whole.files.items() if file.tag == tag}
        self._settle()

    def clear_fault(self, fault_id: str) -> None:
        """Mend something; clearing what is not broken is fine."""
        find_fault(fault_id, self._plant.box)
        self._tell(fault_id, is_back=True)
        end_fault(self._plant, fault_id)
        if fault_id == "breaker:tripped":
            self._plant.reset_breaker()
        self._settle()

    def active_faults(self) -> list[str]:
        """What is broken now, a breaker that tripped by itself included."""
        tripped = ["breaker:tripped"] if self._plant.is_tripped else []
        return sorted({*self._plant.broken, *tripped})

    def take_news(self) -> tuple[Uevent, ...]:
        """What the kernel has to tell since it was last asked."""
        news, self._news = tuple(self._news), []
        return news

    def show_work(self, holders: dict[int, str]) -> None:
        """Show these processes, each with the device that it holds, and no others."""
        self._holders = holders
        self._settle()

    def _tell(self, fault_id: str, *, is_back: bool) -> None:
        """Note what the kernel says when this begins or ends; what is so already is no news."""
        if (fault_id in self._plant.broken) != is_back:
            return
        device, _, kind = fault_id.partition(":")
        index = int("".join(filter(str.isdigit, device)) or 0)
        if kind == "gone" and device.startswith("gpu/"):
            self._news += card_events(self._plant.box.slots[index], index, is_back=is_back)
        elif kind == "gone":
            self._news += drive_events(drive_address(index), f"nvme{index}", is_back=is_back)
        elif kind == "wedged":
            methods = () if is_back else WEDGED_METHODS
            self._news += wedged_events(self._plant.box.slots[index], index, methods)

    def _settle(self) -> None:
        """Bring tree and plant in line with the active faults."""
        gone = [i for i in range(len(self._plant.gpus)) if f"gpu/{i}:gone" in self._plant.broken]
        for i, gpu in enumerate(self._plant.gpus):
            if gpu.is_present and i in gone:
                gpu.factory_limits()
            gpu.is_present = i not in gone
            if {f"gpu/{i}:{kind}" for kind in IDLING} & set(self._plant.broken):
                gpu.load = 0.0
        active = {fault.removesuffix("-stuck") for fault in self._plant.broken}
        self._stuck = {p: text for p, text in self._stuck.items() if self._whole.files[p].tag in active}
        drives = range(1, self._plant.box.storage.data_drives + 1)
        lost = [drive_folder(i) for i in drives if f"drive/nvme{i}:gone" in self._plant.broken]
        absent = [path for path, fault in self._whole.brought.items() if fault not in self._plant.broken]
        unbound = [path for i in range(len(self._plant.gpus)) if self._is_unbound(i) for path in self._bound_paths(i)]
        box = self._plant.box
        off = [card_folder(box, i) for i in gone]
        off += [feed_folder(box, i) for i in gone if box.kinds[i].vendor == "nvidia"]
        tree = self._whole.without((*off, *unbound, *lost, *absent))
        for pid, node in self._holders.items():
            add_process(tree, pid, node)
            if node.startswith(NVIDIA_NODE):
                tree.add(f"/nvml/{node.removeprefix(NVIDIA_NODE)}/process", f"{pid} {WORK_BYTES}")
        self._tree = tree  # whole at once: the file system is read meanwhile

    def _is_unbound(self, index: int) -> bool:
        return any(f"gpu/{index}:{kind}" in self._plant.broken for kind in USERSPACE)

    def _bound_paths(self, index: int) -> list[str]:
        """What is there only while a card has its driver: all that the driver made, and the link to it."""
        folder = card_folder(self._plant.box, index)
        names = self._whole.folders[folder] - PCI_NAMES
        taken = [path for path in self._whole.links if path.startswith(DRIVERS) and path.endswith(folder[-12:])]
        return [*(f"{folder}/{name}" for name in names), *taken]

    # FUSE operations. A path that vanished while its file was open answers as the kernel does for a removed device.

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if self.is_ending:
            mfusepy.fuse_exit()
        tree = self._tree
        if path in tree.links:
            return self._stat(stat.S_IFLNK | 0o777, size=len(tree.links[path]))
        if (file := tree.files.get(path)) is not None:
            return self._stat(stat.S_IFREG | (0o644 if file.write else 0o444), size=4096)
        if path in tree.folders:
            return self._stat(stat.S_IFDIR | 0o755, links=2)
        raise mfusepy.FuseOSError(errno.ENOENT)

    def _stat(self, mode: int, *, size: int = 0, links: int = 1) -> dict[str, Any]:
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self._born_ns)
        owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}
        return {"st_mode": mode, "st_nlink": links, "st_size": size, **owner, **times}

    def readdir(self, path: str, fh: int) -> list[Any]:
        # With attributes, so that entries carry their type: lm-sensors looks at nothing without.
        names = sorted(self._tree.folders.get(path, ()))
        base = path.rstrip("/")
        return [".", "..", *((name, self.getattr(f"{base}/{name}"), 0) for name in names)]

    def readlink(self, path: str) -> str:
        return self._tree.links[path]

    def open(self, path: str, flags: int) -> int:
        if path not in self._tree.files:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return self._through_faults(path, self._read).encode(errors="surrogateescape")[offset : offset + size]

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._through_faults(path, lambda p: self._write(p, data.decode("ascii", "replace")))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        return 0

    def _read(self, path: str) -> str:
        file = self._tree.files[path]
        device, _, sensor = file.tag.partition(":")
        if path in self._stuck:
            return self._stuck[path]
        if f"{device}:{sensor}-unreadable" in self._plant.broken or f"{device}:unreadable" in self._plant.broken:
            raise OSError(errno.EIO, "the fault says so")
        if f"{device}:asleep" in self._plant.broken:
            if sensor == "runtime":
                return "suspended\n"
            if sensor not in SLEEPING_READS:
                self.wakes += 1
        if sensor in COUNTERS:
            self.catch_up()
        return file.read()

    def _write(self, path: str, text: str) -> str:
        file = self._tree.files[path]
        device = file.tag.partition(":")[0]
        if file.write is None:
            raise OSError(errno.EACCES, "read-only")
        if f"{device}:refuses" in self._plant.broken:
            raise OSError(errno.EINVAL, "the fault says so")
        if f"{device}:asleep" in self._plant.broken:
            self.wakes += 1
        file.write(text)
        return ""

    def _through_faults(self, path: str, operation: Callable[[str], str]) -> str:
        try:
            return operation(path)
        except KeyError:
            raise mfusepy.FuseOSError(errno.ENODEV) from None
        except OSError as error:
            raise mfusepy.FuseOSError(error.errno or errno.EIO) from None
