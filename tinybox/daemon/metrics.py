"""The figures for Prometheus: base units, one family for each quantity. What could not be read is not there.

Imported by the first who asks: it takes a library along.
"""

import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from tinybox import __version__
from tinybox.core.circuit import BREAKER_SHARE
from tinybox.core.decision import Decision, Guarantee, QuietView, WallSource
from tinybox.core.health import Finding, Status
from tinybox.core.snapshot import Cpu, Drive, Fan, Gpu, GpuState, Psu, Raid, Severity, Snapshot
from tinybox.daemon.loop import Tick
from tinybox.daemon.totals import Totals

T = TypeVar("T")
Row = tuple[str, str, Callable[[T], float | None]]
RAID_STATES = ("clean", "degraded", "failed", "absent")


class Device(Protocol):
    """Whatever has an id such as `gpu/3`."""

    @property
    def id(self) -> str: ...


def _percent(value_pct: float | None) -> float | None:
    return None if value_pct is None else value_pct / 100


def _quiet(tick: Tick) -> QuietView:
    return tick.decision.quiet or NO_QUIET


def _mega(value: float | None) -> float | None:
    return None if value is None else value * 1e6


def _giga(value: float | None) -> float | None:
    return None if value is None else value * 1e9


BOX: tuple[Row[Tick], ...] = (
    ("wall_power_watts", "Power at the wall, mean over the last second.", lambda t: t.decision.power.wall_w),
    ("wall_budget_watts", "What the promised amperes amount to now.", lambda t: t.decision.power.budget_w),
    ("wall_current_amperes", "Current at the outlet.", lambda t: t.decision.power.amps),
    ("wall_current_mean_amperes", "The same, mean over ten seconds.", lambda t: t.decision.power.mean_a),
    ("wall_budget_amperes", "The promise that the mean keeps.", lambda t: t.decision.power.budget_a),
    ("wall_volts", "Line voltage as the supplies see it.", lambda t: t.decision.power.line_v),
    ("circuit_other_amperes", "Drawn by somebody else, as the line shows.", lambda t: t.decision.power.other_a),
    ("breaker_heat_ratio", "Modelled heat of the breaker over its trip.", lambda t: t.decision.power.breaker_heat),
    ("breaker_heat_limit_ratio", "What that never passes.", lambda t: BREAKER_SHARE),
    ("worst_case_amperes", "Every card at its grant, all else at its worst.", lambda t: t.decision.power.worst_a),
    ("worst_case_breaker_heat_ratio", "Heat that this leads to.", lambda t: t.decision.power.worst_heat),
    ("failsafe_reaction_seconds", "Until the failsafe has acted, at worst.", lambda t: t.decision.power.failsafe_s),
    ("failsafe_answer_age_seconds", "Since the failsafe last answered.", lambda t: t.snapshot.failsafe_age_s),
    ("gpu_pool_watts", "Board power for all cards together in the worst case.", lambda t: t.decision.power.gpu_pool_w),
    ("commissioned", "1: this very box was measured.", lambda t: t.decision.power.is_commissioned),
    ("work_frozen", "1: processes that hold a card are stopped.", lambda t: t.snapshot.is_work_frozen),
    ("noise_limit_decibels", "A-weighted level at the listener that is kept.", lambda t: _quiet(t).limit_dba),
    ("quiet_share_ratio", "Share of the promise that the level leaves.", lambda t: _quiet(t).share),
    ("noise_decibels", "A-weighted level at the listener, estimated from fan speeds.", lambda t: t.decision.noise_dba),
    ("inlet_celsius", "Air that goes in.", lambda t: t.snapshot.bmc.inlet_c),
    ("daemon_period_seconds", "Until the next look at the hardware.", lambda t: t.decision.period_s),
    ("daemon_last_turn_timestamp_seconds", "When the cards were last read.", lambda t: t.snapshot.unix_s),
)
NO_QUIET = QuietView("off", None, None, 1.0)
GPU: tuple[Row[Gpu], ...] = (
    ("gpu_power_watts", "Power as the card's own sensor counts it (AMD: the socket).", lambda g: g.power_w),
    ("gpu_cap_watts", "Limit in force on that power.", lambda g: g.cap_w),
    ("gpu_clock_hertz", "Core clock.", lambda g: _mega(g.clock_mhz)),
    ("gpu_clock_limit_hertz", "Limit in force on it.", lambda g: _mega(g.clock_limit_mhz)),
    ("gpu_edge_celsius", "At the die's edge.", lambda g: g.edge_c),
    ("gpu_junction_celsius", "At the die's hottest spot.", lambda g: g.junction_c),
    ("gpu_memory_celsius", "Of the card's memory.", lambda g: g.memory_c),
    ("gpu_fan_rpm", "The card's fan, turns a minute.", lambda g: g.fan_rpm),
    ("gpu_busy_ratio", "Share of the time that it computes.", lambda g: _percent(g.busy_pct)),
    ("gpu_memory_used_bytes", "VRAM in use.", lambda g: g.vram_used_bytes),
    ("gpu_memory_size_bytes", "VRAM.", lambda g: g.vram_total_bytes),
    ("gpu_link_lanes", "PCIe lanes in use.", lambda g: g.link_width),
    ("gpu_link_lane_transfers_per_second", "PCIe rate of a lane; 16e9 is PCIe 4.0.", lambda g: _giga(g.link_gts)),
)
CPU: tuple[Row[Cpu], ...] = (
    ("cpu_busy_ratio", "Share of the time that the cores compute.", lambda c: _percent(c.busy_pct)),
    ("cpu_power_watts", "Power of the processor package.", lambda c: c.power_w),
    ("cpu_cap_watts", "Limit in force on it, where there is one.", lambda c: c.cap_w),
    ("cpu_celsius", "The processor.", lambda c: c.temp_c),
    ("cpu_cores", "Its cores.", lambda c: c.cores),
    ("memory_used_bytes", "Main memory in use.", lambda c: c.memory_used_bytes),
    ("memory_size_bytes", "Main memory.", lambda c: c.memory_total_bytes),
)
FAN: tuple[Row[Fan], ...] = (("fan_rpm", "A chassis fan, turns a minute.", lambda f: f.rpm),)
PSU: tuple[Row[Psu], ...] = (
    ("psu_input_watts", "Power that a supply takes from the wall.", lambda p: p.in_w),
    ("psu_input_volts", "Line voltage as it sees it.", lambda p: p.in_v),
    ("psu_input_amperes", "Current that it takes.", lambda p: p.in_a),
    ("psu_output_watts", "Power that it delivers.", lambda p: p.out_w),
    ("psu_celsius", "The supply.", lambda p: p.temp_c),
)
DRIVE: tuple[Row[Drive], ...] = (
    ("drive_size_bytes", "Capacity.", lambda d: d.size_bytes),
    ("drive_celsius", "The drive.", lambda d: d.temp_c),
    ("drive_wear_ratio", "Endurance used up, as it estimates; may pass 1.", lambda d: _percent(d.used_pct)),
    ("drive_critical_warning", "NVMe's critical warnings, a bit each; 0 is none.", lambda d: d.critical_warning),
    ("drive_link_lanes", "PCIe lanes in use.", lambda d: d.link_width),
    ("drive_link_lane_transfers_per_second", "PCIe rate of a lane.", lambda d: _giga(d.link_gts)),
)
RAID: tuple[Row[Raid], ...] = (
    ("raid_members", "Drives in the data array.", lambda r: len(r.members)),
    ("raid_size_bytes", "Its filesystem.", lambda r: r.size_bytes),
    ("raid_free_bytes", "What is free there.", lambda r: r.free_bytes),
)


class Page(Collector):
    """One tick, as families."""

    def __init__(self, tick: Tick, totals: Totals, box: str) -> None:
        self._tick, self._totals, self._box = tick, totals, box

    def collect(self) -> Iterator[Metric]:
        """Those that have something to tell."""
        snapshot, decision = self._tick.snapshot, self._tick.decision
        families = (
            *_info(self._box, snapshot),
            *_single(self._tick, BOX),
            *_single(snapshot.cpu, CPU),
            *_single(snapshot.raid, RAID),
            *_each("gpu", snapshot.gpus, GPU),
            *_each("fan", snapshot.fans, FAN),
            *_each("psu", snapshot.psus, PSU),
            *_each("drive", snapshot.drives, DRIVE),
            *_by_state(snapshot, decision),
            *_about_grants_and_alerts(decision),
            *_health(self._tick.findings),
            *_counted(self._totals, snapshot),
            *ProcessCollector(registry=None).collect(),
        )
        return (family for family in families if family.samples)


def exposition(tick: Tick, totals: Totals, box: str) -> str:
    """The page, in version 0.0.4 of the text format."""
    return generate_latest(Page(tick, totals, box)).decode()


def _single(thing: T | None, rows: Iterable[Row[T]]) -> Iterator[Metric]:
    for name, words, value in rows:
        number = None if thing is None else value(thing)
        if number is not None:
            yield GaugeMetricFamily(f"tinybox_{name}", words, value=number)


D = TypeVar("D", bound=Device)


def _each(label: str, devices: Iterable[D], rows: Iterable[Row[D]]) -> Iterator[Metric]:
    for name, words, value in rows:
        yield _labelled(name, words, (label,), (((_short(device.id),), value(device)) for device in devices))


def _labelled(
    name: str, words: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float | None]]
) -> Metric:
    family = GaugeMetricFamily(f"tinybox_{name}", words, labels=labels)
    for values, number in samples:
        if number is not None:
            family.add_metric(values, number)
    return family


def _short(device_id: str) -> str:
    return device_id.partition("/")[2]


def _info(box: str, snapshot: Snapshot) -> Iterator[Metric]:
    """Words that belong to a device, each in a sample that is 1."""
    build = (box, __version__, platform.python_version())
    yield _labelled("build_info", "What governs which box.", ("box", "version", "python"), ((build, 1),))
    cards = (((_short(g.id), g.pci, g.vendor, g.name or ""), 1) for g in snapshot.gpus)
    yield _labelled("gpu_info", "Where a card is and what.", ("gpu", "pci", "vendor", "name"), cards)
    drives = (((_short(d.id), d.model or "", d.serial or ""), 1) for d in snapshot.drives)
    yield _labelled("drive_info", "What a drive is.", ("drive", "model", "serial"), drives)
    arrays = (((r.level or "", r.mount or ""), 1) for r in (snapshot.raid,) if r is not None)
    yield _labelled("raid_info", "What the data array is, and where.", ("level", "mount"), arrays)


def _by_state(snapshot: Snapshot, decision: Decision) -> Iterator[Metric]:
    """State-sets: a sample for every state, 1 where it is the one."""
    cards = (((_short(g.id), state), state == g.state) for g in snapshot.gpus for state in GpuState)
    yield _labelled("gpu_state", "1 for the state that a card is in.", ("gpu", "state"), cards)
    state = None if snapshot.raid is None else snapshot.raid.state
    arrays = (((one,), one == state) for one in dict.fromkeys((*RAID_STATES, state)) if state and one)
    yield _labelled("raid_state", "1 for the state that the data array is in.", ("state",), arrays)
    held = (((one,), one is decision.power.guarantee) for one in Guarantee)
    yield _labelled("guarantee", "1 for what holds if the daemon dies now.", ("guarantee",), held)
    sources = (((one,), one is decision.power.wall_source) for one in WallSource)
    yield _labelled("wall_power_source", "1 for who says what the wall power is.", ("source",), sources)


def _about_grants_and_alerts(decision: Decision) -> Iterator[Metric]:
    grants = (((_short(grant.gpu),), grant.board_w) for grant in decision.power.grants)
    yield _labelled("gpu_grant_watts", "The most board power under the limits in force.", ("gpu",), grants)
    raised = {(alert.id, alert.severity): 1 for alert in decision.alerts if alert.severity is not Severity.INFO}
    yield _labelled("alert_raised", "1 for each warning and worse, now.", ("id", "severity"), raised.items())
    counts = (((one,), sum(alert.severity is one for alert in decision.alerts)) for one in Severity)
    yield _labelled("alerts", "What a person should know; 'tinybox status' has the words.", ("severity",), counts)


def _health(findings: tuple[Finding, ...]) -> Iterator[Metric]:
    """What is not applicable is not there."""
    values = {Status.OK: 0, Status.UNKNOWN: 1, Status.WARN: 2, Status.CRIT: 3}
    told = (((finding.id,), values.get(finding.status)) for finding in findings)
    yield _labelled("health_status", "0 ok, 1 unknown, 2 warning, 3 critical.", ("check",), told)


def _counted(totals: Totals, snapshot: Snapshot) -> Iterator[Metric]:
    yield CounterMetricFamily("tinybox_daemon_turns", "Looks at the hardware.", value=totals.turns)
    yield CounterMetricFamily("tinybox_daemon_late_turns", "Those that came late.", value=totals.late_turns)
    words = "What deciding took."
    yield SummaryMetricFamily(
        "tinybox_daemon_decision_seconds", words, count_value=totals.turns, sum_value=totals.decision_s
    )
    writes = CounterMetricFamily("tinybox_writes", "Limits that the governor wrote.", labels=("lever",))
    for lever, count in totals.writes.items():
        writes.add_metric((lever,), count)
    steps = CounterMetricFamily("tinybox_work_interventions", "Last resorts against work.", labels=("kind",))
    for kind, count in totals.interventions.items():
        steps.add_metric((kind,), count)
    told = CounterMetricFamily("tinybox_alerts_told", "Messages to the owner.", labels=("outlet", "outcome"))
    for outlet, counts in totals.told.items():
        for outcome, count in counts.items():
            told.add_metric((outlet, outcome), count)
    media = CounterMetricFamily("tinybox_drive_media_errors", "Errors that a drive found.", labels=("drive",))
    for drive in snapshot.drives:
        if drive.media_errors is not None:
            media.add_metric((_short(drive.id),), drive.media_errors)
    yield from (writes, steps, told, media)
