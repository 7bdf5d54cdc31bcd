"""The status as JSON and as a screen: complete, finite, and never wider than asked."""

import json
from dataclasses import replace

import pytest
from rich.cells import cell_len

from tests.policy.conftest import machine
from tinybox.core.box import load_box
from tinybox.core.config import Config
from tinybox.core.decision import Decision
from tinybox.core.snapshot import Fault, Gpu, GpuState, Severity, Snapshot
from tinybox.core.wire import status_json
from tinybox.policy.decide import decide, fresh_memory
from tinybox.policy.health import HealthMemory, alerts_of, judge
from tinybox.screen import bar, status_text

RED = load_box("red")


def troubled() -> Snapshot:
    """A box with one card of every state, one blind sensor and no array."""
    snapshot = machine(RED, raid=None, faults=(Fault("gpu/1", "junction temperature unreadable", Severity.WARNING),))
    gpus = list(snapshot.gpus)
    gpus[1] = replace(gpus[1], junction_c=None)
    gpus[2] = Gpu("gpu/2", GpuState.ASLEEP, RED.gpu.slots[2])
    gpus[3] = Gpu("gpu/3", GpuState.GONE, RED.gpu.slots[3])
    return replace(snapshot, gpus=tuple(gpus))


def decided(snapshot: Snapshot) -> Decision:
    """What the governor and health together have to say."""
    decision = decide(snapshot, RED, Config(), fresh_memory(Config()))[0]
    findings, _ = judge(snapshot, RED, Config(), HealthMemory(), is_only=True)
    return replace(decision, alerts=(*decision.alerts, *alerts_of(findings)))


def document(snapshot: Snapshot) -> dict[str, object]:
    loaded = json.loads(status_json(snapshot, decided(snapshot), source="daemon", box="red"))
    assert isinstance(loaded, dict)
    return loaded


def test_the_contract_keys_are_there() -> None:
    status = document(machine(RED))
    assert status["source"] == "daemon"
    assert {"wall_w", "budget_w", "budget_a", "line_v"} <= set(status["power"])  # type: ignore[call-overload]
    keys = "id state name vendor pci power_w cap_w edge_c junction_c memory_c fan_rpm busy_pct vram_used_bytes"
    for gpu in status["gpus"]:  # type: ignore[attr-defined]
        assert {*keys.split(), "vram_total_bytes", "link_width"} <= set(gpu)
    assert {"noise_dba", "cpu", "drives", "raid", "alerts", "decision"} <= set(status)
    assert {"level", "state", "mount", "members"} <= set(status["raid"])  # type: ignore[call-overload]
    assert status["decision"]["reason"]  # type: ignore[index]


def test_the_budget_is_amps_times_volts_times_power_factor() -> None:
    power = document(machine(RED))["power"]
    assert power["budget_w"] == pytest.approx(  # type: ignore[index]
        power["budget_a"] * power["line_v"] * RED.psu.power_factor,
        abs=0.1,  # type: ignore[index]
    )


def test_every_null_belongs_to_a_sleeper_or_has_an_alert() -> None:
    status = document(troubled())
    alerts = {alert["id"] for alert in status["alerts"] if alert["reason"]}  # type: ignore[attr-defined]
    for gpu in status["gpus"]:  # type: ignore[attr-defined]
        if any(value is None for value in gpu.values()):
            assert gpu["state"] == "asleep" or gpu["id"] in alerts
    assert status["raid"] is None and "raid" in alerts


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 160])
@pytest.mark.parametrize("snapshot", [machine(RED), troubled()], ids=["healthy", "troubled"])
def test_no_line_of_the_screen_is_wider_than_asked(columns: int, snapshot: Snapshot) -> None:
    text = status_text(snapshot, decided(snapshot), source="daemon", box="red", columns=columns, colour=False)
    assert max(cell_len(line) for line in text.splitlines()) <= columns
    assert "\x1b" not in text


def test_colour_is_only_there_when_asked_for() -> None:
    text = status_text(troubled(), decided(troubled()), source="daemon", box="red", columns=100, colour=True)
    assert "\x1b[" in text


def test_the_screen_says_what_is_wrong_and_worst_first() -> None:
    lines = status_text(
        troubled(), decided(troubled()), source="offline", box="red", columns=160, colour=False
    ).splitlines()
    marks = [line[:2] for line in lines if line[:2] in ("!!", "! ", "· ")]
    assert marks == sorted(marks, key=["!!", "! ", "· "].index)
    assert any("gpu/3: gone from the bus" in line for line in lines)
    assert any("tinyboxd is not running" in line for line in lines)


@pytest.mark.parametrize(("fraction", "drawn"), [(-1, "░░░░"), (0.0, "░░░░"), (0.5, "██░░"), (1, "████"), (9, "████")])
def test_a_bar_is_clipped(fraction: float, drawn: str) -> None:
    assert bar(fraction, 4) == drawn
