"""An AMD card as amdgpu shows it: sysfs, hwmon and DRM nodes (docs/protocol/amdgpu.md)."""

import errno
from collections.abc import Callable

from tinybox.twin.drm import add_nodes
from tinybox.twin.files import Tree, add_function, add_hwmon, number_text, thousandths
from tinybox.twin.gpu import GpuPart
from tinybox.twin.link import RESTING, Link, add_link, add_window, replay_count
from tinybox.twin.metrics import metrics_text
from tinybox.twin.overdrive import AcousticLimit, Overdrive, ZeroRpm
from tinybox.twin.pci import Function
from tinybox.twin.plant import Plant

VBIOS = "113-31XFSHBS1-L02"
EDGE_CRIT, JUNCTION_CRIT, MEMORY_CRIT = 100000, 110000, 108000


def add_amd_card(tree: Tree, plant: Plant, gpu: GpuPart, index: int, number: int) -> None:
    """The card in slot `index`, its sensors as hwmon chip `number`."""
    box, gpu_id = gpu.silicon.box, f"gpu/{index}"
    card = Function(plant.box.slots[index], box.pci_id, "030000", "amdgpu", subsystem_id="1da2:e471", revision=0xC8)
    device = add_function(tree, card, tag=f"{gpu_id}:facts")
    facts = f"{gpu_id}:facts"
    link = Link(gpu_id, card.address, box.link_width, box.link_gts, lambda: gpu.busy_sensor < RESTING)
    add_link(tree, plant, link, tag=facts)
    add_window(tree, plant, gpu_id, card.address, box.vram_bytes, tag=facts)
    tree.add(f"{device}/pcie_replay_count", replay_count(plant, gpu_id), tag=f"{gpu_id}:replays")
    tree.add(f"{device}/mem_info_vram_total", box.vram_bytes, tag=facts)
    tree.add(f"{device}/vbios_version", VBIOS, tag=facts)
    tree.add(
        f"{device}/gpu_metrics",
        lambda: metrics_text(gpu, JUNCTION_CRIT / 1e3, plant.time_s),
        tag=f"{gpu_id}:metrics",
    )
    tree.add(f"{device}/power/runtime_status", "active", tag=f"{gpu_id}:runtime")
    tree.add(f"{device}/gpu_busy_percent", lambda: number_text(gpu.busy_sensor * 100), tag=f"{gpu_id}:busy")
    tree.add(f"{device}/mem_info_vram_used", lambda: number_text(gpu.vram_bytes), tag=f"{gpu_id}:vram")
    overdrive = Overdrive(gpu, box)
    limit = f"{gpu_id}:limit"
    if box.overdrive:
        tree.add(f"{device}/pp_od_clk_voltage", overdrive.table, overdrive.write, tag=limit)
        rest = ZeroRpm(gpu)
        tree.add(f"{device}/gpu_od/fan_ctrl/fan_zero_rpm_enable", rest.table, rest.write, tag=f"{gpu_id}:fan-plan")
        fan = AcousticLimit(gpu, box)
        name = "acoustic_limit_rpm_threshold"
        tree.add(f"{device}/gpu_od/fan_ctrl/{name}", fan.table, fan.write, tag=f"{gpu_id}:fan-limit")
    tree.add(f"{device}/power_dpm_force_performance_level", overdrive.level, overdrive.write_level, tag=limit)
    tree.add(f"{device}/pp_dpm_sclk", overdrive.levels, tag=limit)
    add_nodes(tree, device, index)
    _add_card_sensors(tree, plant, gpu, gpu_id, add_hwmon(tree, number, device, "amdgpu"))


def _add_card_sensors(tree: Tree, plant: Plant, gpu: GpuPart, gpu_id: str, chip: str) -> None:
    box = gpu.silicon.box

    def write_cap(text: str) -> None:
        try:
            cap_w = int(text) / 1e6
        except ValueError:
            raise OSError(errno.EINVAL, "not a number") from None
        if not box.cap_min_w <= cap_w <= box.cap_max_w:
            raise OSError(errno.EINVAL, "outside the card's range")
        gpu.cap_w = cap_w

    tree.add(f"{chip}/power1_average", lambda: number_text(gpu.sensor_w * 1e6), tag=f"{gpu_id}:power")
    tree.add(f"{chip}/power1_label", "PPT")
    tree.add(f"{chip}/power1_cap", lambda: number_text(gpu.cap_w * 1e6), write_cap, tag=f"{gpu_id}:limit")
    tree.add(f"{chip}/power1_cap_min", round(box.cap_min_w * 1e6), tag=f"{gpu_id}:facts")
    tree.add(f"{chip}/power1_cap_max", round(box.cap_max_w * 1e6), tag=f"{gpu_id}:facts")
    tree.add(f"{chip}/power1_cap_default", round(box.cap_default_w * 1e6), tag=f"{gpu_id}:facts")
    temperatures: tuple[tuple[str, str, Callable[[], float], int], ...] = (
        ("edge", "edge", lambda: gpu.edge_c, EDGE_CRIT),
        ("junction", "junction", lambda: gpu.junction_c, JUNCTION_CRIT),
        ("memory", "mem", lambda: gpu.memory_c, MEMORY_CRIT),
    )
    for number, (sensor, label, value, critical) in enumerate(temperatures, start=1):
        tree.add(f"{chip}/temp{number}_input", thousandths(value), tag=f"{gpu_id}:{sensor}")
        tree.add(f"{chip}/temp{number}_label", label)
        tree.add(f"{chip}/temp{number}_crit", critical)
        tree.add(f"{chip}/temp{number}_emergency", critical + 5000)
    tree.add(f"{chip}/fan1_input", lambda: number_text(gpu.fan_rpm), tag=f"{gpu_id}:fan")
    tree.add(f"{chip}/fan1_max", round(box.fan_max_rpm))
    tree.add(f"{chip}/fan1_min", 0)
    tree.add(f"{chip}/pwm1", lambda: number_text(gpu.fan_rpm / box.fan_max_rpm * 255))
    tree.add(f"{chip}/pwm1_min", 0)
    tree.add(f"{chip}/pwm1_max", 255)
    tree.add(f"{chip}/pwm1_enable", 2)
    tree.add(f"{chip}/freq1_input", lambda: number_text(gpu.clock_mhz * 1e6), tag=f"{gpu_id}:clock")
    tree.add(f"{chip}/freq1_label", "sclk")
    tree.add(
        f"{chip}/in0_input", lambda: number_text(700 + 400 * gpu.clock_mhz / box.clock_max_mhz), tag=f"{gpu_id}:volt"
    )
    tree.add(f"{chip}/in0_label", "vddgfx")
