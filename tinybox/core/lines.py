"""Snapshot and decision as JSON, a line each: how a plant of somebody else's talks to the policy (docs/pipe.md)."""

import dataclasses
from typing import Any

from tinybox.core.actions import (
    Action,
    EndWork,
    FreezeWork,
    LimitGpuFan,
    PowerOff,
    ReleaseFans,
    SetCap,
    SetClockLimit,
    SetCpuCap,
    SetFanDuty,
)
from tinybox.core.box import Box
from tinybox.core.decision import Decision
from tinybox.core.errors import TinyboxError
from tinybox.core.snapshot import Fault, Snapshot
from tinybox.core.table import read_table

MOST = 1e15  # of any figure: beyond it nothing was measured (bytes and seconds stay far below)

NAMES: dict[type[Action], str] = {
    SetCap: "set_cap",
    SetClockLimit: "set_clock_limit",
    SetCpuCap: "set_cpu_cap",
    FreezeWork: "freeze_work",
    EndWork: "end_work",
    PowerOff: "power_off",
    SetFanDuty: "set_fan_duty",
    ReleaseFans: "release_fans",
    LimitGpuFan: "limit_gpu_fan",
}


def snapshot_of(document: Any, box: Box, *, where: str) -> Snapshot:
    """A snapshot from its document. What a box of this kind has anyway may be left out; null and NaN are unreadable.

    Raises TinyboxError naming `where` and the key for what cannot be meant.
    """
    if not isinstance(document, dict):
        raise TinyboxError(f"{where}: not a JSON object", hint="a line is one snapshot, see docs/pipe.md")
    unreadable: list[str] = []
    cleaned = _without_nulls(document, "", unreadable)
    time_s = cleaned.get("time_s")
    if not isinstance(time_s, int | float) or isinstance(time_s, bool):
        raise TinyboxError(f"{where}: 'time_s' is {document.get('time_s')!r}", hint="give seconds that only grow")
    cleaned.setdefault("unix_s", time_s)
    cleaned.setdefault("failsafe_age_s", 0.0)
    gpus = cleaned.get("gpus")
    for gpu in gpus if isinstance(gpus, list) else ():
        if isinstance(gpu, dict):
            _fill(gpu, box)
    snapshot = read_table(Snapshot, cleaned, where=where)
    known = {f"gpu/{i}" for i in range(len(box.slots))}
    ids = [gpu.id for gpu in snapshot.gpus]
    if len(set(ids)) < len(ids) or not set(ids) <= known:
        raise TinyboxError(f"{where}: gpus are {', '.join(ids)}", hint=f"each once, of: {', '.join(sorted(known))}")
    faults = tuple(Fault(name.partition(".")[0], f"{name} is not a number") for name in unreadable)
    return dataclasses.replace(snapshot, faults=(*snapshot.faults, *faults))


def decision_document(decision: Decision, time_s: float) -> dict[str, Any]:
    """The decision as a document."""
    return {
        "time_s": time_s,
        "actions": [{"do": NAMES[type(action)], **dataclasses.asdict(action)} for action in decision.actions],
        "reason": decision.reason,
        "period_s": decision.period_s,
        "power": dataclasses.asdict(decision.power),
        "alerts": [dataclasses.asdict(alert) for alert in decision.alerts],
    }


def _fill(gpu: dict[str, Any], box: Box) -> None:
    """What is the same for every card of this kind of box."""
    index = str(gpu.get("id", "")).rpartition("/")[2]
    number = int(index) if index.isdecimal() and int(index) < len(box.slots) else None
    kind, slot = (box.gpu, "") if number is None else (box.kinds[number], box.slots[number])
    gpu.setdefault("state", "awake")
    gpu.setdefault("pci", slot)
    gpu.setdefault("vendor", kind.vendor)
    gpu.setdefault("name", kind.name)
    gpu.setdefault("has_clock_lever", kind.overdrive)
    gpu.setdefault("clock_limit_min_mhz", kind.clock_min_mhz)
    for key in ("cap_min_w", "cap_max_w", "cap_default_w"):
        gpu.setdefault(key, getattr(kind, key))
    for key in ("clock_mhz", "clock_limit_mhz", "clock_limit_min_mhz"):
        if isinstance(gpu.get(key), float):
            gpu[key] = round(gpu[key])


def _without_nulls(value: Any, path: str, unreadable: list[str]) -> Any:
    """The same without null and what no instrument can have read; the latter is noted."""
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            if isinstance(item, int | float) and not abs(item) <= MOST:  # NaN is not, either
                unreadable.append(f"{path}{key}")
            elif item is not None:
                found[key] = _without_nulls(item, f"{path}{key}.", unreadable)
        return found
    if isinstance(value, list):
        names = [item.get("id", i) if isinstance(item, dict) else i for i, item in enumerate(value)]
        return [_without_nulls(item, f"{name}.", unreadable) for name, item in zip(names, value, strict=True)]
    return value
