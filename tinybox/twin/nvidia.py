"""An NVIDIA card: what the kernel shows of it, and what the stand-in library is fed (docs/protocol/nvml.md)."""

import errno
import uuid
from collections.abc import Callable

from tinybox.core.box import Box
from tinybox.twin.faults.nvidia import HANG_S
from tinybox.twin.files import Read, Tree, Write, add_function, number_text
from tinybox.twin.gpu import GpuPart
from tinybox.twin.pci import Function
from tinybox.twin.plant import Plant

DRIVER_VERSION = "580.95.05"
GENERATIONS = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5}  # of PCIe, by GT/s
IDLE_BIT, LOCKED_BIT, CAP_BIT, HEAT_BIT, BRAKE_BIT = 0x1, 0x2, 0x4, 0x20, 0x80 | 0x8  # nvmlClocksEventReason*
SHUTDOWN_K, GPU_MAX_K = -5, 4  # of an Ada card, seen: degrees beyond the slowdown that margin 0 means
FAN_LEAST_PCT = 30  # seen on many cards; none stands but by its firmware's own choice
# A driver before 525 knows none of these.
NEW = ("has_fields", "fan_rpm", "fan_policy", "event_bits", "margin_c", "temp_v_c")
FACTS = ("pci", "pci_id", "subsystem_id", "uuid", "name", "minor", "has_fields", "capability")


def minor_of(box: Box, index: int) -> int:
    """The number in /dev/nvidiaN of the card in this slot: the driver counts only its own."""
    return sum(kind.vendor == "nvidia" for kind in box.kinds[:index])


def feed_folder(box: Box, index: int) -> str:
    """Where the library looks for the card in this slot."""
    return f"/nvml/{minor_of(box, index)}"


def add_nvidia_card(tree: Tree, plant: Plant, gpu: GpuPart, index: int, _number: int) -> None:
    """The card in slot `index`."""
    box, gpu_id = gpu.silicon.box, f"gpu/{index}"
    card = Function(plant.box.slots[index], box.pci_id, "030000", "nvidia", subsystem_id="1462:5102", revision=0xA1)
    device = add_function(tree, card, tag=f"{gpu_id}:facts")
    speed = f"{box.link_gts:.1f} GT/s PCIe"
    links: dict[str, str | int] = {"link_width": box.link_width, "link_speed": speed}
    for name, fact in links.items():
        tree.add(f"{device}/max_{name}", fact, tag=f"{gpu_id}:facts")
        tree.add(f"{device}/current_{name}", fact, tag=f"{gpu_id}:facts")
    tree.add(f"{device}/power/runtime_status", "active", tag=f"{gpu_id}:runtime")
    tree.add("/nvml/driver", DRIVER_VERSION)
    folder = feed_folder(plant.box, index)
    writes: dict[str, Write] = {"limit_mw": _limit_writer(gpu), "lock": _lock_writer(gpu), "fan_told": _fan_writer(gpu)}
    for key, (sensor, value) in _figures(plant, gpu, index).items():
        answer = _answer(plant, gpu_id, key, value)
        tree.add(f"{folder}/{key}", answer, _lost_or(plant, gpu_id, writes.get(key)), tag=f"{gpu_id}:{sensor}")


def _figures(plant: Plant, gpu: GpuPart, index: int) -> dict[str, tuple[str, Read]]:
    """Every key with the sensor that it comes from, in NVML's units."""
    box = gpu.silicon.box
    minor = minor_of(plant.box, index)
    pci_vendor, pci_device = box.pci_id.split(":")
    facts: dict[str, str | int] = {
        "pci": plant.box.slots[index],
        "pci_id": f"{pci_device}{pci_vendor}",
        "subsystem_id": "51021462",
        "uuid": f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, plant.box.slots[index])}",
        "name": box.name,
        "minor": minor,
        "has_fields": 1,
        "capability": "8.9",
        "vbios": "95.02.3C.40.5F",
        "ready": 1,
        "fans": 2,
        "fan_least_pct": FAN_LEAST_PCT,
        "pstate": 0,
        "persistence": 1,
        "compute_mode": 0,
        "display": 0,
        "codec_pct": 0,
        "process": "",
        "limit_min_mw": round(box.cap_min_w * 1e3),
        "limit_max_mw": round(box.cap_max_w * 1e3),
        "limit_default_mw": round(box.cap_default_w * 1e3),
        "clock_max_mhz": box.clock_max_mhz,
        "memory_clock_mhz": 10501,
        "memory_clock_max_mhz": 10501,
        "memory_total_bytes": box.vram_bytes,
        "bar1_bytes": 256 << 20,
        "link_width": box.link_width,
        "link_width_max": box.link_width,
        "link_gen": GENERATIONS.get(box.link_gts, 4),
        "link_gen_max": GENERATIONS.get(box.link_gts, 4),
        "slowdown_c": round(box.edge_crit_c),
        "shutdown_c": round(box.edge_crit_c) - SHUTDOWN_K,
        "gpu_max_c": round(box.edge_crit_c) - GPU_MAX_K,
        "slowdown_tlimit_k": 0,
        "shutdown_tlimit_k": SHUTDOWN_K,
        "gpu_max_tlimit_k": GPU_MAX_K,
        "replays": 0,
    }
    told = {key: ("facts" if key in FACTS else "state", _constant(value)) for key, value in facts.items()}
    for key, (sensor, figure) in _sensors(gpu).items():
        told[key] = (sensor, _rounded(figure))
    return told | {"lock": ("limit", _constant(""))}


def _sensors(gpu: GpuPart) -> dict[str, tuple[str, Callable[[], float]]]:
    """What moves. The margin is the card's own: degrees until it slows down."""
    box = gpu.silicon.box
    return {
        "power_mw": ("power", lambda: gpu.sensor_w * 1e3),
        "power_mean_mw": ("power", lambda: gpu.sensor_w * 1e3),
        "limit_mw": ("limit", lambda: gpu.cap_w * 1e3),
        "clock_mhz": ("clock", lambda: gpu.clock_mhz),
        "temp_c": ("edge", lambda: gpu.edge_c),
        "temp_v_c": ("edge", lambda: gpu.edge_c),
        "margin_c": ("edge", lambda: box.edge_crit_c - gpu.edge_c),
        "fan_pct": ("fan", lambda: gpu.fan_rpm / box.fan_max_rpm * 100),
        "fan_rpm": ("fan", lambda: gpu.fan_rpm),
        "fan_policy": ("fan", lambda: float(gpu.fan_share is not None)),
        "fan_told": (
            "fan",
            lambda: 100 * (gpu.fan_share if gpu.fan_share is not None else gpu.fan_rpm / box.fan_max_rpm),
        ),
        "busy_pct": ("busy", lambda: gpu.busy_sensor * 100),
        "memory_busy_pct": ("busy", lambda: gpu.busy_sensor * 60),
        "memory_used_bytes": ("vram", lambda: gpu.vram_bytes),
        "event_bits": ("clock", lambda: event_bits(gpu)),
        "throttle_bits": ("clock", lambda: event_bits(gpu)),
    }


def event_bits(gpu: GpuPart) -> int:
    """What holds the clocks back now."""
    box = gpu.silicon.box
    bits = IDLE_BIT if gpu.busy <= 0 else 0
    if gpu.clock_limit_mhz < box.clock_max_mhz:
        bits |= LOCKED_BIT
    if gpu.busy > 0 and gpu.clock_mhz < min(gpu.clock_limit_mhz, box.clock_max_mhz) - 30:
        bits |= CAP_BIT
    if gpu.edge_c >= box.edge_crit_c or "thermal-throttle" in gpu.ails:
        bits |= HEAT_BIT
    return bits | (BRAKE_BIT if "power-brake" in gpu.ails else 0)


def _answer(plant: Plant, gpu_id: str, key: str, value: Read) -> Read:
    """The figure, or what the card's faults make of it."""

    def read() -> str:
        ails = plant.broken.of(gpu_id)
        if "xid-79" in ails and key not in FACTS:
            raise OSError(errno.ENODEV, "it fell off the bus")
        if "old-driver" in ails and key in NEW:
            raise OSError(errno.ENOSYS, "the driver does not know that")
        if "nvml-hangs" in ails and key not in FACTS:
            return f"hang {HANG_S}\n"
        return value()

    return read


def _lost_or(plant: Plant, gpu_id: str, write: Write | None) -> Write | None:
    if write is None:
        return None

    def checked(text: str) -> None:
        if "xid-79" in plant.broken.of(gpu_id):
            raise OSError(errno.ENODEV, "it fell off the bus")
        write(text)

    return checked


def _limit_writer(gpu: GpuPart) -> Write:
    box = gpu.silicon.box

    def write(text: str) -> None:
        try:
            cap_w = int(text) / 1e3
        except ValueError:
            raise OSError(errno.EINVAL, "not a number") from None
        if not box.cap_min_w <= cap_w <= box.cap_max_w:
            raise OSError(errno.EINVAL, "outside the card's range")
        gpu.cap_w = cap_w

    return write


def _lock_writer(gpu: GpuPart) -> Write:
    box = gpu.silicon.box

    def write(text: str) -> None:
        if text.strip() == "reset":
            gpu.clock_limit_mhz = box.clock_max_mhz
            return
        try:
            least_mhz, most_mhz = map(int, text.split())
        except ValueError:
            raise OSError(errno.EINVAL, "not two clocks") from None
        if least_mhz > most_mhz:
            raise OSError(errno.EINVAL, "upside down")
        gpu.clock_limit_mhz = min(max(most_mhz, box.clock_min_mhz), box.clock_max_mhz)

    return write


def _fan_writer(gpu: GpuPart) -> Write:
    def write(text: str) -> None:
        if text.strip() == "auto":
            gpu.fan_share = None
            return
        if not text.strip().isdecimal() or not FAN_LEAST_PCT <= int(text) <= 100:
            raise OSError(errno.EINVAL, "not a speed of these fans")
        gpu.fan_share = int(text) / 100

    return write


def _constant(value: str | float) -> Read:
    return lambda: f"{value}\n"


def _rounded(figure: Callable[[], float]) -> Read:
    return lambda: number_text(figure())
