"""The tree as a file system, by FUSE, with whatever faults are active in between."""

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Any

import mfusepy

from tinybox.twin.faults import check_fault
from tinybox.twin.plant import Plant
from tinybox.twin.tree import Tree, add_process, card_folder

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
        self.faults: list[str] = []
        self.wakes = 0
        self.is_ending = False

    def add_fault(self, fault_id: str) -> None:
        """Break something. Raises TinyboxError for an unknown id."""
        check_fault(fault_id, self._plant.box)
        if fault_id not in self.faults:
            self.faults.append(fault_id)
        if fault_id == "breaker:tripped":
            self._plant.is_tripped = True
        if fault_id.endswith("-stuck"):
            tag = fault_id.removesuffix("-stuck")
            self._stuck |= {path: file.read() for path, file in self._whole.files.items() if file.tag == tag}
        self._settle()

    def clear_fault(self, fault_id: str) -> None:
        """Mend something; clearing what is not broken is fine."""
        check_fault(fault_id, self._plant.box)
        if fault_id in self.faults:
            self.faults.remove(fault_id)
        if fault_id == "breaker:tripped":
            self._plant.reset_breaker()
        self._settle()

    def active_faults(self) -> list[str]:
        """What is broken now, a breaker that tripped by itself included."""
        tripped = ["breaker:tripped"] if self._plant.is_tripped else []
        return sorted({*self.faults, *tripped})

    def show_work(self, holders: dict[int, str]) -> None:
        """Show these processes, each with the device that it holds, and no others."""
        self._holders = holders
        self._settle()

    def _settle(self) -> None:
        """Bring tree and plant in line with the active faults."""
        gone = [i for i in range(len(self._plant.gpus)) if f"gpu/{i}:gone" in self.faults]
        for i, gpu in enumerate(self._plant.gpus):
            if gpu.is_present and i in gone:
                gpu.factory_limits()
            gpu.is_present = i not in gone
            if f"gpu/{i}:asleep" in self.faults:
                gpu.load = 0.0
        active = {fault.removesuffix("-stuck") for fault in self.faults}
        self._stuck = {p: text for p, text in self._stuck.items() if self._whole.files[p].tag in active}
        tree = self._whole.without(tuple(card_folder(self._plant.box, i) for i in gone))
        for pid, node in self._holders.items():
            add_process(tree, pid, node)
        self._tree = tree  # whole at once: the file system is read meanwhile

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
        if f"{device}:{sensor}-unreadable" in self.faults or f"{device}:unreadable" in self.faults:
            raise OSError(errno.EIO, "the fault says so")
        if f"{device}:asleep" in self.faults:
            if sensor == "runtime":
                return "suspended\n"
            if sensor not in SLEEPING_READS:
                self.wakes += 1
        return file.read()

    def _write(self, path: str, text: str) -> str:
        file = self._tree.files[path]
        device = file.tag.partition(":")[0]
        if file.write is None:
            raise OSError(errno.EACCES, "read-only")
        if f"{device}:refuses" in self.faults:
            raise OSError(errno.EINVAL, "the fault says so")
        if f"{device}:asleep" in self.faults:
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
