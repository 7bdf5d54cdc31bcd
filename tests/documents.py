"""Status documents of all sorts, for whatever promises something about them."""

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any

from tests.policy.conftest import machine
from tinybox.core.box import load_box
from tinybox.core.config import Config
from tinybox.core.quiet import Quiet
from tinybox.core.snapshot import Fault, Gpu, GpuState, Snapshot
from tinybox.daemon.loop import Tick
from tinybox.hw.hardware import Hardware, assemble
from tinybox.hw.host import Host
from tinybox.policy.decide import decide, fresh_memory
from tinybox.policy.health import HealthMemory, alerts_of, judge

RED = load_box("red")
RECORDINGS = Path(__file__).parent / "recordings"


def tick_of(snapshot: Snapshot) -> Tick:
    """What the daemon would publish at its first look."""
    decision = decide(snapshot, RED, Config(), fresh_memory(Config(), quiet=Quiet("balanced", 45.0)))[0]
    findings, _ = judge(snapshot, RED, Config(), HealthMemory(), is_only=True)
    alerts = (*decision.alerts, *alerts_of(findings))
    return Tick(snapshot, replace(decision, alerts=alerts), 0.001, findings)


def recorded(folder: Path) -> Snapshot:
    """A recorded machine, as its drivers read it."""
    hardware = Hardware(Host(folder), RED, Config())
    try:
        return assemble(hardware.read_fast(10.0), hardware.read_slow(10.0), 10.0, 1.7e9)
    finally:
        hardware.release()


def optionals(thing: Any) -> list[str]:
    """Its fields that may be None."""
    return [name for name, hint in typing.get_type_hints(type(thing)).items() if NoneType in typing.get_args(hint)]


def silenced(thing: Any) -> Any:
    """The same thing, and all that is in it, telling nothing that it need not tell."""
    changes: dict[str, Any] = dict.fromkeys(optionals(thing))
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = silenced(value)
        elif isinstance(value, tuple):
            changes[field.name] = tuple(silenced(one) if dataclasses.is_dataclass(one) else one for one in value)
    return replace(thing, **changes)


def sorts() -> Iterator[tuple[str, Snapshot]]:
    """Whole, silent, empty, recorded, broken in parts; and one card without each of its figures in turn."""
    whole = machine(RED)
    yield "whole", whole
    yield "silent", silenced(whole)
    yield "silent but for the array", replace(silenced(whole), raid=silenced(whole.raid))
    yield "empty", Snapshot(time_s=0.0, unix_s=1.7e9)
    gpus = (*whole.gpus[:4], *(Gpu(f"gpu/{i}", state, RED.gpu.slots[i]) for i, state in ((4, "asleep"), (5, "gone"))))
    states = tuple(replace(gpu, state=GpuState(gpu.state)) for gpu in gpus)
    yield "cards away", replace(whole, gpus=states, faults=(Fault("gpu/5", "gone from the bus"),))
    for name in optionals(whole.gpus[0]):
        yield f"no {name}", replace(whole, gpus=(replace(whole.gpus[0], **{name: None}), *whole.gpus[1:]))
    for folder in sorted(RECORDINGS.iterdir()):
        yield f"recorded {folder.name}", recorded(folder)


SORTS = list(sorts())
NAMES = [name for name, _ in SORTS]
