"""An Intel card as i915 or xe shows it: sysfs, hwmon and DRM nodes (docs/protocol/intel.md)."""

import errno
from collections.abc import Callable

from tinybox.twin.drm import add_nodes
from tinybox.twin.files import Tree, Write, add_function, add_hwmon, number_text, thousandths
from tinybox.twin.gpu import GpuPart
from tinybox.twin.link import RESTING, Link, add_link, add_window
from tinybox.twin.pci import Function
from tinybox.twin.plant import Plant

STEP_MHZ = 50  # of the driver's clock limits
REASONS = ("pl1", "pl2", "pl4", "thermal", "prochot", "ratl", "vr_thermalert", "vr_tdc")
HOT = {"throttle-thermal": "thermal", "throttle-prochot": "prochot"}
XE_CARDS = ("8086:e20b", "8086:e20c")  # Battlemage: i915 does not know it


def add_intel_card(tree: Tree, plant: Plant, gpu: GpuPart, index: int, number: int) -> None:
    """The card in slot `index`, its sensors as hwmon chip `number`."""
    kind, gpu_id = gpu.silicon.box, f"gpu/{index}"
    driver = "xe" if kind.pci_id in XE_CARDS else "i915"
    facts = f"{gpu_id}:facts"
    card = Function(plant.box.slots[index], kind.pci_id, "030000", driver, subsystem_id="8086:1020", revision=0x08)
    device = add_function(tree, card, tag=facts)
    link = Link(gpu_id, card.address, kind.link_width, kind.link_gts, lambda: gpu.busy_sensor < RESTING)
    add_link(tree, plant, link, tag=facts)
    add_window(tree, plant, gpu_id, card.address, kind.vram_bytes, tag=facts)
    tree.add(f"{device}/power/runtime_status", "active", tag=f"{gpu_id}:runtime")
    node = add_nodes(tree, device, index)
    gt = f"{device}/tile0/gt0/freq0" if driver == "xe" else f"{node}/gt/gt0"
    names = ("act_freq", "max_freq", "min_freq", "rpn_freq", "rp0_freq") if driver == "xe" else (
        *("rps_act_freq_mhz", "rps_max_freq_mhz", "rps_min_freq_mhz"),
        *("rps_RPn_freq_mhz", "rps_RP0_freq_mhz"),
    )  # fmt: skip
    _add_clocks(tree, gpu, gpu_id, gt, names)
    idle = f"{device}/tile0/gt0/gtidle/idle_residency_ms" if driver == "xe" else f"{gt}/rc6_residency_ms"
    tree.add(idle, lambda: number_text(gpu.idle_s * 1e3), tag=f"{gpu_id}:busy")
    reason = f"{gt}/throttle/reason_" if driver == "xe" else f"{gt}/throttle_reason_"
    for name in REASONS:
        tree.add(f"{reason}{name}", lambda name=name: f"{int(_holds_back(plant, gpu, gpu_id, name))}\n")  # type: ignore[misc]
    _add_sensors(tree, gpu, gpu_id, add_hwmon(tree, number, device, driver), is_xe=driver == "xe")


def _add_clocks(tree: Tree, gpu: GpuPart, gpu_id: str, folder: str, names: tuple[str, ...]) -> None:
    kind, floor = gpu.silicon.box, [gpu.silicon.box.clock_min_mhz]
    act, most, least, rpn, rp0 = (f"{folder}/{name}" for name in names)

    def write_limit(text: str) -> None:
        clock_mhz = _whole(text)
        if not floor[0] <= clock_mhz <= kind.clock_max_mhz:
            raise OSError(errno.EINVAL, "outside the card's range, or below its floor")
        gpu.clock_limit_mhz = max(kind.clock_min_mhz, clock_mhz // STEP_MHZ * STEP_MHZ)

    def write_floor(text: str) -> None:
        clock_mhz = _whole(text)
        if not kind.clock_min_mhz <= clock_mhz <= gpu.clock_limit_mhz:
            raise OSError(errno.EINVAL, "outside the card's range, or above its limit")
        floor[0] = clock_mhz

    tree.add(act, lambda: number_text(gpu.clock_mhz), tag=f"{gpu_id}:clock")
    tree.add(most, lambda: number_text(gpu.clock_limit_mhz), write_limit, tag=f"{gpu_id}:limit")
    tree.add(least, lambda: f"{floor[0]}\n", write_floor, tag=f"{gpu_id}:limit")
    tree.add(rpn, kind.clock_min_mhz, tag=f"{gpu_id}:facts")
    tree.add(rp0, kind.clock_max_mhz, tag=f"{gpu_id}:facts")


def _add_sensors(tree: Tree, gpu: GpuPart, gpu_id: str, chip: str, *, is_xe: bool) -> None:
    kind = gpu.silicon.box
    tree.add(f"{chip}/energy1_input", lambda: number_text(gpu.sensor_j * 1e6), tag=f"{gpu_id}:power")
    tree.add(f"{chip}/power1_max", lambda: number_text(gpu.cap_w * 1e6), _cap_writer(gpu), tag=f"{gpu_id}:limit")
    tree.add(f"{chip}/power1_rated_max", round(kind.cap_default_w * 1e6), tag=f"{gpu_id}:facts")
    tree.add(f"{chip}/power1_max_interval", 28000)
    tree.add(f"{chip}/fan1_input", lambda: number_text(gpu.fan_rpm), tag=f"{gpu_id}:fan")
    tree.add(f"{chip}/in0_input", lambda: number_text(600 + 400 * gpu.clock_mhz / kind.clock_max_mhz))
    temperatures: tuple[tuple[str, str, Callable[[], float]], ...] = (("temp1", "edge", lambda: gpu.junction_c),)
    if is_xe:
        temperatures = (("temp2", "edge", lambda: gpu.junction_c), ("temp3", "memory", lambda: gpu.memory_c))
        tree.add(f"{chip}/temp2_label", "pkg")
        tree.add(f"{chip}/temp3_label", "vram")
    for name, sensor, value in temperatures:
        tree.add(f"{chip}/{name}_input", thousandths(value), tag=f"{gpu_id}:{sensor}")


def _cap_writer(gpu: GpuPart) -> Write:
    def write(text: str) -> None:
        watts = _whole(text) / 1e6
        gpu.cap_w = watts if watts > 0 else gpu.silicon.box.cap_max_w  # 0 switches the limit off

    return write


def _holds_back(plant: Plant, gpu: GpuPart, gpu_id: str, name: str) -> bool:
    """Whether the driver says that this holds the card back now."""
    if any(f"{gpu_id}:{fault}" in plant.broken and reason == name for fault, reason in HOT.items()):
        return gpu.busy_sensor > RESTING
    return name == "pl1" and gpu.sensor_w > 0.98 * gpu.cap_w


def _whole(text: str) -> int:
    if not text.strip().isdecimal():
        raise OSError(errno.EINVAL, "not a number")
    return int(text)
