"""The machine's files as the drivers and any other program expect them, whole.

The layout is the kernel's own (docs/protocol/amdgpu.md), links included: lm-sensors, psutil and udev follow them.
"""

from pathlib import Path

from tinybox.core.box import Box
from tinybox.twin.amd import add_amd_card
from tinybox.twin.board import add_cpu, add_hsmp, add_psu
from tinybox.twin.files import Counter, Read, Tree, folder_of
from tinybox.twin.host import add_host
from tinybox.twin.intel import add_intel_card
from tinybox.twin.nvidia import add_nvidia_card
from tinybox.twin.plant import Plant
from tinybox.twin.storage import add_storage

SHOWN = {"amd": add_amd_card, "intel": add_intel_card, "nvidia": add_nvidia_card}  # how cards of each vendor are shown


def card_folder(box: Box, index: int) -> str:
    """Where a card lies in the tree."""
    return folder_of(box.slots[index])


def build_tree(plant: Plant, *, real_storage: bool) -> Tree:
    """The whole machine. With real storage, drives and array are this machine's own."""
    tree, hwmon = Tree(), Counter()
    for index, gpu in enumerate(plant.gpus):
        SHOWN[gpu.silicon.box.vendor](tree, plant, gpu, index, hwmon.next())
    add_cpu(tree, plant, hwmon.next())
    for index in range(plant.box.psu.count):
        add_psu(tree, plant, index, hwmon.next())
    if "EPYC" in plant.box.cpu.name:
        add_hsmp(tree, plant, hwmon.next())
    add_host(tree, plant)
    if real_storage:
        for path in ("/sys/class/nvme", "/sys/block", "/proc/mdstat"):
            tree.link(path, path, is_absolute=True)
        tree.link("/proc/mountinfo", "/proc/self/mountinfo", is_absolute=True)
    else:
        add_storage(tree, plant, hwmon)
    tree.add("/run/udev/control", "")  # without it libudev does not listen at all
    tree.add("/commands/systemctl_poweroff", _power_off(plant))
    return tree


def add_process(tree: Tree, pid: int, node: str) -> None:
    """A process of this machine, shown as what it is, except for the one file that it is said to hold."""
    folder = f"/proc/{pid}"
    for name in ("stat", "comm", "environ"):
        tree.add(f"{folder}/{name}", Path(f"{folder}/{name}").read_text)
    tree.link(f"{folder}/fd/3", node, is_absolute=True)


def _power_off(plant: Plant) -> Read:
    def read() -> str:
        for gpu in plant.gpus:
            gpu.load = 0.0
        plant.cpu_load = 0.0
        plant.power_off()
        return ""

    return read
