"""The machine's files as the drivers and any other program expect them: paths, links, and what reading each one says.

The layout is the kernel's own (docs/protocol/amdgpu.md), links included: lm-sensors, psutil and udev follow them.
"""

import errno
import json
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tinybox.core.box import Box
from tinybox.twin.gpu import GpuPart
from tinybox.twin.overdrive import Overdrive
from tinybox.twin.pci import Function
from tinybox.twin.plant import Plant

Read = Callable[[], str]
Write = Callable[[str], None]
PCI_ROOT = "/devices/pci0000:00"
EDGE_CRIT, JUNCTION_CRIT, MEMORY_CRIT = 100000, 110000, 108000


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

    def add(self, path: str, read: Read | str | int, write: Write | None = None, *, tag: str = "") -> None:
        """A file with its folders; a constant needs no function."""
        value = f"{read}\n"
        self.files[path] = File(read if callable(read) else lambda: value, write, tag)
        self._enter(path)

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


def card_folder(box: Box, index: int) -> str:
    """Where a card lies in the tree."""
    return f"/sys{PCI_ROOT}/{box.gpu.slots[index]}"


def build_tree(plant: Plant, *, real_storage: bool) -> Tree:
    """The whole machine. With real storage, drives and array are this machine's own."""
    tree, hwmon = Tree(), _Counter()
    for index, gpu in enumerate(plant.gpus):
        _add_card(tree, plant, gpu, index, hwmon.next())
    _add_cpu(tree, plant, hwmon.next())
    for index in range(plant.box.psu.count):
        _add_psu(tree, plant, index, hwmon.next())
    if real_storage:
        for path in ("/sys/class/nvme", "/sys/block", "/proc/mdstat", "/proc/mounts"):
            tree.link(path, path, is_absolute=True)
    else:
        _add_storage(tree, plant)
    tree.add("/commands/systemctl_poweroff", _power_off(plant))
    return tree


def add_process(tree: Tree, pid: int, node: str) -> None:
    """A process of this machine, shown as what it is, except for the one file that it is said to hold."""
    folder = f"/proc/{pid}"
    for name in ("stat", "comm"):
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


class _Counter:
    def __init__(self) -> None:
        self._next = -1

    def next(self) -> int:
        self._next += 1
        return self._next


def _number(value: float) -> str:
    return f"{round(value)}\n"


def _add_hwmon(tree: Tree, number: int, device: str, name: str) -> str:
    """An empty hwmon chip below its device, with the links of sysfs; its folder."""
    folder = f"{device}/hwmon/hwmon{number}"
    tree.add(f"{folder}/name", name)
    tree.add(f"{folder}/uevent", "")
    tree.link(f"{folder}/device", device)
    tree.link(f"{folder}/subsystem", "/sys/class/hwmon")
    tree.link(f"/sys/class/hwmon/hwmon{number}", folder)
    return folder


def _add_function(tree: Tree, function: Function, *, tag: str = "") -> str:
    """A PCI function with the files and links that every one has; its folder."""
    device = f"/sys{PCI_ROOT}/{function.address}"
    for name, value in function.files().items():
        tree.add(f"{device}/{name}", value, tag=tag)
    tree.add(f"{device}/config", function.config, tag=tag)
    tree.link(f"{device}/subsystem", "/sys/bus/pci")
    tree.link(f"{device}/driver", f"/sys/bus/pci/drivers/{function.driver}")
    tree.link(f"/sys/bus/pci/devices/{function.address}", device)
    tree.link(f"/sys/bus/pci/drivers/{function.driver}/{function.address}", device)
    return device


def _add_card(tree: Tree, plant: Plant, gpu: GpuPart, index: int, number: int) -> None:
    box, gpu_id = plant.box.gpu, f"gpu/{index}"
    card = Function(box.slots[index], box.pci_id, "030000", "amdgpu", subsystem_id="1da2:e471", revision=0xC8)
    device = _add_function(tree, card, tag=f"{gpu_id}:facts")
    facts: dict[str, str | int] = {
        "mem_info_vram_total": box.vram_bytes,
        "max_link_width": box.link_width,
        "max_link_speed": f"{box.link_gts:.1f} GT/s PCIe",
        "current_link_width": box.link_width,
        "current_link_speed": f"{box.link_gts:.1f} GT/s PCIe",
    }
    for name, value in facts.items():
        tree.add(f"{device}/{name}", value, tag=f"{gpu_id}:facts")
    tree.add(f"{device}/power/runtime_status", "active", tag=f"{gpu_id}:runtime")
    tree.add(f"{device}/gpu_busy_percent", lambda: _number(gpu.busy_sensor * 100), tag=f"{gpu_id}:busy")
    tree.add(f"{device}/mem_info_vram_used", lambda: _number(gpu.vram_used_bytes), tag=f"{gpu_id}:vram")
    overdrive = Overdrive(gpu, box)
    limit = f"{gpu_id}:limit"
    if box.overdrive:
        tree.add(f"{device}/pp_od_clk_voltage", overdrive.table, overdrive.write, tag=limit)
    tree.add(f"{device}/power_dpm_force_performance_level", overdrive.level, overdrive.write_level, tag=limit)
    tree.add(f"{device}/pp_dpm_sclk", overdrive.levels, tag=limit)
    for node, minor in ((f"card{index}", index), (f"renderD{128 + index}", 128 + index)):
        folder = f"{device}/drm/{node}"
        tree.add(f"{folder}/dev", f"226:{minor}")
        tree.add(f"{folder}/uevent", f"MAJOR=226\nMINOR={minor}\nDEVNAME=dri/{node}\nDEVTYPE=drm_minor")
        tree.link(f"{folder}/device", device)
        tree.link(f"{folder}/subsystem", "/sys/class/drm")
        tree.link(f"/sys/class/drm/{node}", folder)
    _add_card_sensors(tree, plant, gpu, gpu_id, _add_hwmon(tree, number, device, "amdgpu"))


def _add_card_sensors(tree: Tree, plant: Plant, gpu: GpuPart, gpu_id: str, chip: str) -> None:
    box, kind = plant.box.gpu, gpu.silicon.kind

    def write_cap(text: str) -> None:
        try:
            cap_w = int(text) / 1e6
        except ValueError:
            raise OSError(errno.EINVAL, "not a number") from None
        if not box.cap_min_w <= cap_w <= box.cap_max_w:
            raise OSError(errno.EINVAL, "outside the card's range")
        gpu.cap_w = cap_w

    tree.add(f"{chip}/power1_average", lambda: _number(gpu.sensor_w * 1e6), tag=f"{gpu_id}:power")
    tree.add(f"{chip}/power1_label", "PPT")
    tree.add(f"{chip}/power1_cap", lambda: _number(gpu.cap_w * 1e6), write_cap, tag=f"{gpu_id}:limit")
    tree.add(f"{chip}/power1_cap_min", round(box.cap_min_w * 1e6), tag=f"{gpu_id}:facts")
    tree.add(f"{chip}/power1_cap_max", round(box.cap_max_w * 1e6), tag=f"{gpu_id}:facts")
    tree.add(f"{chip}/power1_cap_default", round(box.cap_default_w * 1e6), tag=f"{gpu_id}:facts")
    temperatures: tuple[tuple[str, str, Callable[[], float], int], ...] = (
        ("edge", "edge", lambda: gpu.edge_c, EDGE_CRIT),
        ("junction", "junction", lambda: gpu.junction_c, JUNCTION_CRIT),
        ("memory", "mem", lambda: gpu.edge_c + (kind.memory_k if gpu.load > 0 else 2.0), MEMORY_CRIT),
    )
    for number, (sensor, label, value, critical) in enumerate(temperatures, start=1):
        tree.add(f"{chip}/temp{number}_input", _thousandths(value), tag=f"{gpu_id}:{sensor}")
        tree.add(f"{chip}/temp{number}_label", label)
        tree.add(f"{chip}/temp{number}_crit", critical)
        tree.add(f"{chip}/temp{number}_emergency", critical + 5000)
    tree.add(f"{chip}/fan1_input", lambda: _number(gpu.fan_rpm), tag=f"{gpu_id}:fan")
    tree.add(f"{chip}/fan1_max", round(box.fan_max_rpm))
    tree.add(f"{chip}/fan1_min", 0)
    tree.add(f"{chip}/pwm1", lambda: _number(gpu.fan_rpm / box.fan_max_rpm * 255))
    tree.add(f"{chip}/pwm1_enable", 2)
    tree.add(f"{chip}/freq1_input", lambda: _number(gpu.clock_mhz * 1e6), tag=f"{gpu_id}:clock")
    tree.add(f"{chip}/freq1_label", "sclk")
    tree.add(f"{chip}/in0_input", lambda: _number(700 + 400 * gpu.clock_mhz / box.clock_max_mhz), tag=f"{gpu_id}:volt")
    tree.add(f"{chip}/in0_label", "vddgfx")


def _thousandths(value: Callable[[], float]) -> Read:
    return lambda: _number(value() * 1e3)


def _add_cpu(tree: Tree, plant: Plant, number: int) -> None:
    fabric = Function("0000:00:18.3", "1022:1493", "060000", "k10temp")
    chip = _add_hwmon(tree, number, _add_function(tree, fabric), "k10temp")
    tree.add(f"{chip}/temp1_input", lambda: _number(plant.cpu_c * 1e3), tag="cpu:temp")
    tree.add(f"{chip}/temp1_label", "Tctl")
    package = "/sys/devices/virtual/powercap/intel-rapl/intel-rapl:0"
    tree.add(f"{package}/name", "package-0")
    tree.add(f"{package}/uevent", "")
    tree.link(f"{package}/subsystem", "/sys/class/powercap")
    tree.add(f"{package}/energy_uj", lambda: _number(plant.cpu_energy_uj), tag="cpu:power")
    tree.add(f"{package}/max_energy_range_uj", round(plant.kind.cpu.energy_range_uj))
    tree.link("/sys/class/powercap/intel-rapl:0", package)
    cpu = plant.box.cpu

    def psutil_values() -> str:
        return json.dumps(
            {
                "cpu_percent": round(plant.cpu_load * 100, 1),
                "cpu_count_logical": 2 * cpu.cores,
                "cpu_count_physical": cpu.cores,
                "memory_total_bytes": cpu.memory_bytes,
                "memory_used_bytes": cpu.memory_bytes // 20,
            }
        )

    tree.add("/library/psutil.json", psutil_values)


def _add_psu(tree: Tree, plant: Plant, index: int, number: int) -> None:
    adapter = "/sys/devices/platform/i2c-twin/i2c-0"
    _add_i2c(tree, adapter, "SMBus of the twin")
    device = f"{adapter}/0-00{58 + index}"
    _add_i2c(tree, device, "pmbus")
    chip, psu = _add_hwmon(tree, number, device, "pmbus"), f"psu/{index}"

    def amps() -> float:
        return plant.line_a * plant.psu_meter_w[index] / plant.wall_w if plant.wall_w > 0 else 0.0

    values: tuple[tuple[str, str, Callable[[], float], str], ...] = (
        ("power1", "pin", lambda: plant.psu_meter_w[index] * 1e6, "power"),
        ("power2", "pout1", lambda: plant.psu_out_w[index] * 1e6, "out"),
        ("in1", "vin", lambda: plant.volt_reading * 1e3, "volts"),
        ("curr1", "iin", lambda: amps() * 1e3, "amps"),
        ("temp1", "", lambda: (plant.inlet_c + 4 + plant.psu_in_w[index] * 0.015) * 1e3, "temp"),
    )
    for name, label, value, sensor in values:
        tree.add(f"{chip}/{name}_input", _rounded(value), tag=f"{psu}:{sensor}")
        if label:
            tree.add(f"{chip}/{name}_label", label)


def _add_i2c(tree: Tree, device: str, name: str) -> None:
    tree.add(f"{device}/name", name)
    tree.add(f"{device}/uevent", "")
    tree.link(f"{device}/subsystem", "/sys/bus/i2c")
    tree.link(f"/sys/bus/i2c/devices/{posixpath.basename(device)}", device)


def _rounded(value: Callable[[], float]) -> Read:
    return lambda: _number(value())


def _add_storage(tree: Tree, plant: Plant) -> None:
    """A boot drive and the data drives, assembled and mounted, as `nvme`, `mdadm` and the kernel would tell."""
    storage = plant.box.storage
    names = [f"nvme{i}" for i in range(storage.data_drives + 1)]
    for i, name in enumerate(names):
        device = _add_function(tree, Function(f"0000:{0xC1 + i:02x}:00.0", "1b36:0010", "010802", "nvme"))
        folder, size_bytes = f"{device}/nvme/{name}", 1_000_204_886_016
        tree.link(f"/sys/class/nvme/{name}", folder)
        tree.link(f"{folder}/device", device)
        tree.add(f"{folder}/model", "TWIN NVME 1TB")
        tree.add(f"{folder}/serial", f"TWIN{i:04d}")
        tree.add(f"{folder}/firmware_rev", "1.0")
        tree.add(f"{folder}/{name}n1/size", size_bytes // 512)
        tree.add(f"{device}/current_link_width", storage.link_width)
        tree.add(f"{device}/current_link_speed", f"{storage.link_gts:.1f} GT/s PCIe")
        tree.add(f"/commands/nvme_smart-log_dev_{name}_-o_json", _smart_log(plant))
    members = " ".join(f"{name}n1[{i}]" for i, name in enumerate(names[1:]))
    size_kib = storage.data_drives * 976_630_000
    tree.add(
        "/proc/mdstat",
        f"Personalities : [{storage.level}]\nmd127 : active {storage.level} {members}\n"
        f"      {size_kib} blocks super 1.2 {storage.chunk_kib}k chunks\n\nunused devices: <none>",
    )
    tree.add("/proc/mounts", f"/dev/md127 {storage.mount} {storage.filesystem} rw,noatime 0 0")


def _smart_log(plant: Plant) -> Read:
    def read() -> str:
        return json.dumps(
            {
                "critical_warning": 0,
                "temperature": round(273 + plant.inlet_c + 12),
                "avail_spare": 100,
                "percent_used": 1,
                "media_errors": 0,
            }
        )

    return read
