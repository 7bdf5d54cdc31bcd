"""The status as JSON: the one document that `tinybox status --json` and `GET /status` share (docs/api.md)."""

import dataclasses
import json
from typing import Any

from tinybox.core.acoustics import Level
from tinybox.core.circuit import BREAKER_SHARE
from tinybox.core.decision import Decision, QuietView
from tinybox.core.snapshot import Cpu, Gpu, Snapshot

SCHEMA = 1


def status_document(snapshot: Snapshot, decision: Decision, *, source: str, box: str) -> dict[str, Any]:
    """Everything a script may want to know. `source` is `daemon` or `offline`; None becomes null."""
    power, raid = decision.power, snapshot.raid
    return {
        "schema": SCHEMA,
        "source": source,
        "box": box,
        "is_armed": snapshot.is_armed,
        "time_unix_s": round(snapshot.unix_s, 4),
        "power": {
            "wall_w": _rounded(power.wall_w, 1),
            "wall_source": power.wall_source,
            "budget_w": round(power.budget_w, 1),
            "budget_a": round(power.budget_a, 2),
            "line_v": _rounded(power.line_v, 2),
            "gpu_pool_w": round(power.gpu_pool_w, 1),
            "guarantee": power.guarantee,
            "is_commissioned": power.is_commissioned,
            "amps": _rounded(power.amps, 2),
            "mean_10s_a": _rounded(power.mean_a, 2),
            "other_a": round(power.other_a, 1),
            "breaker_heat": round(power.breaker_heat, 4),
            "worst_a": round(power.worst_a, 2),
            "worst_heat": round(power.worst_heat, 4),
            "heat_limit": BREAKER_SHARE,
            "failsafe_s": power.failsafe_s,
            "psus": [_tidy(dataclasses.asdict(psu)) for psu in snapshot.psus],
        },
        "gpus": [_gpu(gpu, decision) for gpu in snapshot.gpus],
        "noise_dba": _rounded(decision.noise_dba, 1),
        "noise": None if decision.noise is None else _noise(decision.noise),
        "quiet": None if decision.quiet is None else _quiet(decision.quiet),
        "cpu": _cpu(snapshot.cpu),
        "fans": [dataclasses.asdict(fan) for fan in snapshot.fans],
        "drives": [dataclasses.asdict(drive) for drive in snapshot.drives],
        "raid": None if raid is None else _without({**dataclasses.asdict(raid), "members": list(raid.members)}, "id"),
        "nics": [{**dataclasses.asdict(nic), "addresses": list(nic.addresses)} for nic in snapshot.nics],
        "alerts": [dataclasses.asdict(alert) for alert in decision.alerts],
        "work_is_frozen": snapshot.is_work_frozen,
        "decision": {"reason": decision.reason, "period_s": decision.period_s},
    }


def status_json(snapshot: Snapshot, decision: Decision, *, source: str, box: str) -> str:
    """The document as indented text, one newline at its end; NaN cannot happen silently."""
    document = status_document(snapshot, decision, source=source, box=box)
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _cpu(cpu: Cpu) -> dict[str, Any]:
    """The processor; its limit only where it has one."""
    table = _tidy(_without(dataclasses.asdict(cpu), "id"))
    return table if cpu.cap_w is not None else _without(table, "cap_w")


def _gpu(gpu: Gpu, decision: Decision) -> dict[str, Any]:
    grant_w = next((grant.board_w for grant in decision.power.grants if grant.gpu == gpu.id), None)
    return {
        "id": gpu.id,
        "state": gpu.state,
        "name": gpu.name,
        "vendor": gpu.vendor,
        "pci": gpu.pci,
        "power_w": _rounded(gpu.power_w, 1),
        "cap_w": _rounded(gpu.cap_w, 1),
        "grant_w": _rounded(grant_w, 1),
        "clock_mhz": gpu.clock_mhz,
        "clock_limit_mhz": gpu.clock_limit_mhz,
        "edge_c": gpu.edge_c,
        "junction_c": gpu.junction_c,
        "memory_c": gpu.memory_c,
        "fan_rpm": gpu.fan_rpm,
        "busy_pct": gpu.busy_pct,
        "vram_used_bytes": gpu.vram_used_bytes,
        "vram_total_bytes": gpu.vram_total_bytes,
        "link_width": gpu.link_width,
        "link_gts": gpu.link_gts,
    }


def _without(table: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


def _tidy(table: dict[str, Any]) -> dict[str, Any]:
    """Milliwatts are enough: a mean over a tenth of a second has no fifteen digits."""
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in table.items()}


def _noise(level: Level) -> dict[str, Any]:
    return {
        "dba": round(level.dba, 1),
        "plus_minus_db": round(level.plus_minus_db, 1),
        "is_estimated": level.is_estimated,
        "sources": [{"id": source.id, "dba": round(source.dba, 1)} for source in level.sources],
    }


def _quiet(view: QuietView) -> dict[str, Any]:
    return {
        "profile": view.profile,
        "limit_dba": view.limit_dba,
        "duty_pct": view.duty_pct,
        "share": round(view.share, 3),
        "hottest": view.hottest,
        "hottest_c": _rounded(view.hottest_c, 1),
        "hottest_soft_c": _rounded(view.hottest_soft_c, 1),
        "is_broken": view.is_broken,
        "next_db_watts_pct": _rounded(view.next_db_watts_pct, 1),
        "next_db_work_pct": _rounded(view.next_db_work_pct, 1),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
