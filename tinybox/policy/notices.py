"""What the status has to explain about one look: every fault, every figure that is missing, readings too old."""

from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter

from tinybox.core.decision import Alert
from tinybox.core.snapshot import GpuState, Severity, Snapshot

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


def notices(snapshot: Snapshot) -> tuple[Alert, ...]:
    """All of one snapshot, faults first."""
    found = [Alert(fault.device, fault.severity, fault.reason) for fault in snapshot.faults]
    found += _check_age(snapshot)
    explained = {alert.id for alert in found}
    found += [alert for alert in _unexplained(snapshot) if alert.id not in explained]
    return tuple(found)


def _check_age(snapshot: Snapshot) -> Iterator[Alert]:
    """The slow sensors' tools have time-outs of their own: older than this, something hangs all the same."""
    if snapshot.slow_time_s is None:
        return
    age_s = snapshot.time_s - snapshot.slow_time_s
    if age_s > SLOW_STALE_S:
        reason = f"BMC, fans and drives last answered {age_s:.0f} s ago: see 'journalctl -u tinyboxd'"
        yield Alert("slow-sensors", Severity.WARNING, reason)


def _missing(thing: object, figures: tuple[str, ...]) -> str:
    values = _getter(figures)(thing)
    if None not in values:
        return ""
    return ", ".join(name for name, value in zip(figures, values, strict=True) if value is None)


@cache
def _getter(figures: tuple[str, ...]) -> Callable[[object], tuple[object, ...]]:
    return attrgetter(*figures)


def _unexplained(snapshot: Snapshot) -> Iterator[Alert]:
    """An alert for everything that could not be read without a driver saying why."""
    parts: list[tuple[str, str]] = [("cpu", _missing(snapshot.cpu, CPU_FIGURES))]
    parts += [(g.id, _missing(g, GPU_FIGURES)) for g in snapshot.gpus if g.state is GpuState.AWAKE]
    parts += [(drive.id, _missing(drive, DRIVE_FIGURES)) for drive in snapshot.drives]
    for device, names in parts:
        if names:
            yield Alert(device, Severity.INFO, f"not told by this machine: {names}")
