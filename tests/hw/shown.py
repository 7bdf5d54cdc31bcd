"""One card of a twin as files in a folder, brought up to date by hand, and the driver that reads it."""

from collections.abc import Callable
from pathlib import Path

from tinybox.core.box import Box
from tinybox.core.snapshot import Gpu
from tinybox.hw.card import Card
from tinybox.hw.host import Host
from tinybox.twin.constants import PlantKind
from tinybox.twin.files import Tree
from tinybox.twin.nvidia import feed_folder
from tinybox.twin.plant import Plant
from tinybox.twin.tree import build_tree

INDEX = 1


class Shown:
    """The card in slot 1."""

    def __init__(self, box: Box, kind: PlantKind, root: Path, card: Callable[[Host, str, str], Card]) -> None:
        self.plant, self.root = Plant.of(box, kind), root
        self.part = self.plant.gpus[INDEX]
        self.tree: Tree = build_tree(self.plant, real_storage=False)
        self.card = card(Host(root, frozenset({"nvml"})), f"gpu/{INDEX}", box.slots[INDEX])
        self._folders = (f"/{box.slots[INDEX]}/", f"{feed_folder(box, INDEX)}/", "/nvml/driver")
        for path, target in self.tree.links.items():
            if path.startswith(("/sys/bus/pci", "/sys/class/drm")):
                self._place(path).symlink_to(target)
        self.show()

    def _place(self, path: str) -> Path:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def _is_shown(self, path: str) -> bool:
        return any(folder in path for folder in self._folders) and not path.endswith("config")

    def show(self) -> None:
        """Write what the twin says now."""
        for path, file in self.tree.files.items():
            if self._is_shown(path):
                self._place(path).write_text(file.read())

    def told(self) -> None:
        """Give the twin what was written to the files."""
        for path, file in self.tree.files.items():
            if file.write is not None and self._is_shown(path):
                text = self._place(path).read_text()
                if text != file.read():
                    file.write(text)

    def file(self, end: str) -> Path:
        """The one file of the card that ends so."""
        (found,) = [path for path in self.tree.files if path.endswith(end) and self._is_shown(path)]
        return self._place(found)

    def read(self, now_s: float, seconds: float = 0.0) -> Gpu:
        """The card after some more seconds of the plant."""
        if seconds:
            self.plant.advance(seconds)
        self.show()
        gpu, faults = self.card.read(now_s)
        assert faults == (), faults
        return gpu
