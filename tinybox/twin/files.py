"""The machine's files as the twin shows them: paths, links, and what reading each one says."""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field

from tinybox.twin.pci import Function

Read = Callable[[], str]
Write = Callable[[str], None]
PCI_ROOT = "/devices/pci0000:00"


@dataclass(slots=True)
class File:
    """A file: what it says now, and what writing does (None: read-only). `tag` is `DEVICE:SENSOR` for faults."""

    read: Read
    write: Write | None = None
    tag: str = ""


@dataclass(slots=True)
class Tree:
    """Paths (from the mount's root) to files, links and folders."""

    files: dict[str, File] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, set[str]] = field(default_factory=lambda: {"/": set()})
    brought: dict[str, str] = field(default_factory=dict)  # paths that are there only while a fault is: its id

    def add(
        self, path: str, read: Read | str | int, write: Write | None = None, *, tag: str = "", fault: str = ""
    ) -> None:
        """A file with its folders; a constant needs no function. One that a `fault` brings goes with it."""
        value = f"{read}\n"
        self.files[path] = File(read if callable(read) else lambda: value, write, tag)
        self._enter(path)
        if fault:
            self.brought[path] = fault

    def link(self, path: str, target: str, *, is_absolute: bool = False) -> None:
        """A link, written relative as sysfs does."""
        self.links[path] = target if is_absolute else posixpath.relpath(target, posixpath.dirname(path))
        self._enter(path)

    def _enter(self, path: str) -> None:
        while path != "/":
            parent, name = posixpath.split(path)
            self.folders.setdefault(parent, set()).add(name)
            path = parent

    def without(self, prefixes: tuple[str, ...]) -> "Tree":
        """The same without everything below, or pointing below, these paths."""

        def stays(path: str) -> bool:
            return not any(path == prefix or path.startswith(prefix + "/") for prefix in prefixes)

        smaller = Tree()
        for path, file in self.files.items():
            if stays(path):
                smaller.files[path] = file
                smaller._enter(path)
        for path, target in self.links.items():
            aimed = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if stays(path) and stays(aimed):
                smaller.links[path] = target
                smaller._enter(path)
        return smaller


class Counter:
    """Numbers in a row, from 0: hwmon chips have one each."""

    def __init__(self) -> None:
        self._next = -1

    def next(self) -> int:
        """The next one."""
        self._next += 1
        return self._next


def number_text(value: float) -> str:
    """A figure as sysfs prints it: whole, with a line end."""
    return f"{round(value)}\n"


def thousandths(value: Callable[[], float]) -> Read:
    """Reads a figure in thousandths of its unit."""
    return lambda: number_text(value() * 1e3)


def rounded(value: Callable[[], float]) -> Read:
    """Reads a figure, rounded."""
    return lambda: number_text(value())


def add_hwmon(tree: Tree, number: int, device: str, name: str) -> str:
    """An empty hwmon chip below its device, with the links of sysfs; its folder."""
    folder = f"{device}/hwmon/hwmon{number}"
    tree.add(f"{folder}/name", name)
    tree.add(f"{folder}/uevent", "")
    tree.link(f"{folder}/device", device)
    tree.link(f"{folder}/subsystem", "/sys/class/hwmon")
    tree.link(f"/sys/class/hwmon/hwmon{number}", folder)
    return folder


def port_of(address: str) -> str:
    """The root port above a device: one for each bus."""
    bus = int(address[5:7], 16)
    return f"0000:00:{1 + (bus >> 4):02x}.{bus & 7}"


def place_of(address: str) -> str:
    """Where a PCI function lies below /sys: on the root bus, or behind its root port."""
    return f"{PCI_ROOT}/{address}" if address[5:7] == "00" else f"{PCI_ROOT}/{port_of(address)}/{address}"


def folder_of(address: str) -> str:
    """Where a PCI function lies in the tree."""
    return f"/sys{place_of(address)}"


def add_function(tree: Tree, function: Function, *, tag: str = "") -> str:
    """A PCI function with the files and links that every one has; its folder."""
    device = folder_of(function.address)
    for name, value in function.files().items():
        tree.add(f"{device}/{name}", value, tag=tag)
    tree.add(f"{device}/config", function.config, tag=tag)
    tree.link(f"{device}/subsystem", "/sys/bus/pci")
    tree.link(f"{device}/driver", f"/sys/bus/pci/drivers/{function.driver}")
    tree.link(f"/sys/bus/pci/devices/{function.address}", device)
    tree.link(f"/sys/bus/pci/drivers/{function.driver}/{function.address}", device)
    return device
