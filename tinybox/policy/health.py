"""What a person should know about the machine's state: every fault, every missing figure, every limit passed."""

from collections.abc import Iterable, Iterator

from tinybox.core.box import Box
from tinybox.core.decision import Alert
from tinybox.core.snapshot import Gpu, GpuState, Severity, Snapshot

# What a status promises to carry; a None here needs an alert that says why.
GPU_FIGURES = (
    *("name", "power_w", "cap_w", "edge_c", "junction_c", "memory_c"),
    *("fan_rpm", "busy_pct", "vram_used_bytes", "vram_total_bytes", "link_width", "link_gts"),
    *("clock_mhz", "clock_limit_mhz"),
)
CPU_FIGURES = ("busy_pct", "power_w", "temp_c", "cores", "memory_used_bytes", "memory_total_bytes")
DRIVE_FIGURES = (
    *("model", "serial", "size_bytes", "temp_c", "used_pct"),
    *("media_errors", "critical_warning", "link_width", "link_gts"),
)
SLOW_STALE_S = 120.0  # a round with every tool at its time-out, and the rest after it


def check_health(snapshot: Snapshot, box: Box) -> tuple[Alert, ...]:
    """All alerts of one snapshot, faults first."""
    found = [Alert(fault.device, fault.severity, fault.reason) for fault in snapshot.faults]
    for gpu in snapshot.gpus:
        found += _check_gpu(gpu, box)
    found += _check_cpu(snapshot, box)
    found += _check_age(snapshot)
    if snapshot.slow_time_s is not None:
        found += _check_storage(snapshot, box)
    explained = {alert.id for alert in found}
    found += [alert for alert in _unexplained(snapshot) if alert.id not in explained]
    return tuple(found)


def _check_gpu(gpu: Gpu, box: Box) -> Iterator[Alert]:
    slot = int(gpu.id.split("/")[1]) + 1
    if gpu.state is GpuState.GONE:
        reason = f"gone from the bus at {gpu.pci}: power off and reseat the card in slot {slot}"
        yield Alert(gpu.id, Severity.CRITICAL, reason)
    limits = (
        ("edge", gpu.edge_c, box.gpu.edge_crit_c),
        ("junction", gpu.junction_c, box.gpu.junction_crit_c),
        ("memory", gpu.memory_c, box.gpu.memory_crit_c),
    )
    for name, value_c, crit_c in limits:
        if value_c is not None and value_c >= crit_c:
            yield Alert(gpu.id, Severity.CRITICAL, f"{name} at {value_c:.0f} °C, its limit is {crit_c:.0f} °C")
    if gpu.link_width is not None and gpu.link_width < box.gpu.link_width:
        reason = f"runs at PCIe x{gpu.link_width} of x{box.gpu.link_width}: reseat the card in slot {slot}"
        yield Alert(gpu.id, Severity.WARNING, reason)


def _check_cpu(snapshot: Snapshot, box: Box) -> Iterator[Alert]:
    temp_c = snapshot.cpu.temp_c
    if temp_c is not None and temp_c >= box.cpu.temp_crit_c:
        yield Alert("cpu", Severity.CRITICAL, f"at {temp_c:.0f} °C, its limit is {box.cpu.temp_crit_c:.0f} °C")


def _check_age(snapshot: Snapshot) -> Iterator[Alert]:
    """The slow sensors' tools have time-outs of their own: older than this, something hangs all the same."""
    if snapshot.slow_time_s is None:
        return
    age_s = snapshot.time_s - snapshot.slow_time_s
    if age_s > SLOW_STALE_S:
        reason = f"BMC, fans and drives last answered {age_s:.0f} s ago: see 'journalctl -u tinyboxd'"
        yield Alert("slow-sensors", Severity.WARNING, reason)


def _check_storage(snapshot: Snapshot, box: Box) -> Iterator[Alert]:
    for drive in snapshot.drives:
        if drive.critical_warning:
            yield Alert(drive.id, Severity.CRITICAL, f"reports critical warning 0x{drive.critical_warning:02x}")
        if drive.media_errors:
            yield Alert(drive.id, Severity.WARNING, f"{drive.media_errors} media errors: back up {box.storage.mount}")
    raid = snapshot.raid
    if box.storage.data_drives == 0:
        return  # a machine whose drives are none of ours
    if raid is None or raid.state == "absent":
        if any(fault.device == "raid" for fault in snapshot.faults):
            return  # it is known why
        yield Alert("raid", Severity.WARNING, f"no array for {box.storage.mount}: run 'tinybox raid assemble'")
    elif raid.state != "clean":
        yield Alert("raid", Severity.CRITICAL, f"the array is {raid.state}: back up {box.storage.mount}")
    elif raid.mount is None:
        yield Alert("raid", Severity.WARNING, f"the array is not mounted at {box.storage.mount}")


def _missing(thing: object, figures: Iterable[str]) -> str:
    return ", ".join(name for name in figures if getattr(thing, name) is None)


def _unexplained(snapshot: Snapshot) -> Iterator[Alert]:
    """An alert for everything that could not be read without a driver saying why."""
    parts: list[tuple[str, str]] = [("cpu", _missing(snapshot.cpu, CPU_FIGURES))]
    parts += [(g.id, _missing(g, GPU_FIGURES)) for g in snapshot.gpus if g.state is GpuState.AWAKE]
    parts += [(drive.id, _missing(drive, DRIVE_FIGURES)) for drive in snapshot.drives]
    for device, names in parts:
        if names:
            yield Alert(device, Severity.INFO, f"not told by this machine: {names}")
