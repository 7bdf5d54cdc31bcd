"""Processor and supplies as the kernel shows them: k10temp, RAPL, PMBus."""

import errno
import json
import posixpath
from collections.abc import Callable

from tinybox.twin.files import Tree, add_function, add_hwmon, number_text, rounded
from tinybox.twin.pci import Function
from tinybox.twin.plant import Plant

MODULES = 8  # one for each of an EPYC's channels


def add_cpu(tree: Tree, plant: Plant, number: int) -> None:
    """The processor, its sensor as hwmon chip `number`."""
    fabric = Function("0000:00:18.3", "1022:1493", "060000", "k10temp")
    chip = add_hwmon(tree, number, add_function(tree, fabric), "k10temp")
    tree.add(f"{chip}/temp1_input", lambda: number_text(plant.cpu_c * 1e3), tag="cpu:temp")
    tree.add(f"{chip}/temp1_label", "Tctl")
    package = "/sys/devices/virtual/powercap/intel-rapl/intel-rapl:0"
    tree.add(f"{package}/name", "package-0")
    tree.add(f"{package}/uevent", "")
    tree.link(f"{package}/subsystem", "/sys/class/powercap")
    tree.add(f"{package}/energy_uj", lambda: number_text(plant.cpu_energy_uj), tag="cpu:power")
    tree.add(f"{package}/max_energy_range_uj", round(plant.kind.cpu.energy_range_uj))
    tree.link("/sys/class/powercap/intel-rapl:0", package)
    cpu = plant.box.cpu

    def psutil_values() -> str:
        modules = MODULES - ("host:memory-lost" in plant.broken)
        memory_bytes = cpu.memory_bytes * modules // MODULES
        return json.dumps(
            {
                "cpu_percent": round(plant.cpu_load * 100, 1),
                "cpu_count_logical": 2 * cpu.cores,
                "cpu_count_physical": cpu.cores,
                "memory_total_bytes": memory_bytes,
                "memory_used_bytes": cpu.memory_bytes // 20,
            }
        )

    tree.add("/library/psutil.json", psutil_values)


def add_hsmp(tree: Tree, plant: Plant, number: int) -> None:
    """The socket's power and its limit as AMD's system management port tells and takes them, hwmon chip `number`."""
    device, most_w = "/sys/devices/platform/amd_hsmp", plant.box.cpu.power_max_w
    tree.add(f"{device}/uevent", "")
    tree.link(f"{device}/subsystem", "/sys/bus/platform")
    chip = add_hwmon(tree, number, device, "amd_hsmp_hwmon")

    def set_cap(text: str) -> None:
        try:
            plant.cpu_cap_w = min(most_w, int(text) / 1e6)  # the firmware takes no more than its most
        except ValueError:
            raise OSError(errno.EINVAL, "not a number") from None

    tree.add(f"{chip}/power1_input", lambda: number_text(round(plant.cpu_w * 1e3) * 1e3), tag="cpu:power")
    tree.add(f"{chip}/power1_cap", lambda: number_text(min(most_w, plant.cpu_cap_w) * 1e6), set_cap, tag="cpu:limit")
    tree.add(f"{chip}/power1_cap_max", round(most_w * 1e6))


def add_psu(tree: Tree, plant: Plant, index: int, number: int) -> None:
    """One supply on the SMBus, as hwmon chip `number`."""
    adapter = "/sys/devices/platform/i2c-twin/i2c-0"
    _add_i2c(tree, adapter, "SMBus of the twin")
    device = f"{adapter}/0-00{58 + index}"
    _add_i2c(tree, device, "pmbus")
    chip, psu = add_hwmon(tree, number, device, "pmbus"), f"psu/{index}"

    def amps() -> float:
        return plant.line_a * plant.psu_meter_w[index] / plant.wall_w if plant.wall_w > 0 else 0.0

    values: tuple[tuple[str, str, Callable[[], float], str], ...] = (
        ("power1", "pin", lambda: plant.psu_meter_w[index] * 1e6, "power"),
        ("power2", "pout1", lambda: plant.psu_out_w[index] * 1e6, "out"),
        ("in1", "vin", lambda: plant.psu_volt_reading(index) * 1e3, "volts"),
        ("curr1", "iin", lambda: amps() * 1e3, "amps"),
        ("temp1", "", lambda: (plant.inlet_c + 4 + plant.psu_in_w[index] * 0.015) * 1e3, "temp"),
    )
    for name, label, value, sensor in values:
        tree.add(f"{chip}/{name}_input", rounded(value), tag=f"{psu}:{sensor}")
        if label:
            tree.add(f"{chip}/{name}_label", label)


def _add_i2c(tree: Tree, device: str, name: str) -> None:
    tree.add(f"{device}/name", name)
    tree.add(f"{device}/uevent", "")
    tree.link(f"{device}/subsystem", "/sys/bus/i2c")
    tree.link(f"/sys/bus/i2c/devices/{posixpath.basename(device)}", device)
