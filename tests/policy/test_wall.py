"""Wall power and line voltage from whoever can say them; noise and health beside them."""

import math
from dataclasses import replace

import pytest

from tests.policy.conftest import machine
from tinybox.core.box import Box
from tinybox.core.circuit import Circuit
from tinybox.core.config import Config
from tinybox.core.decision import WallSource
from tinybox.core.snapshot import Bmc, Cpu, Fan, Fault, Gpu, GpuState, Psu, Raid, Severity
from tinybox.policy.decide import decide, fresh_memory
from tinybox.policy.health import check_health
from tinybox.policy.noise import fan_dba, noise_dba, sum_dba
from tinybox.policy.wall import estimate_w, read_wall


def test_the_supplies_are_believed_first(red: Box, circuit: Circuit) -> None:
    wall = read_wall(machine(red), red, circuit, ())
    assert (wall.now_w, wall.source, wall.line_v, wall.alerts) == (240.0, WallSource.PSU, 120.0, ())


def test_the_mean_is_of_the_last_second(red: Box, circuit: Circuit) -> None:
    samples: tuple[object, ...] = ()
    for tenth in range(30):
        watts = 100.0 if tenth < 20 else 200.0
        snapshot = machine(red, tenth / 10, psus=(Psu("psu/0", watts, 120.0), Psu("psu/1", watts, 120.0)))
        wall = read_wall(snapshot, red, circuit, samples)  # type: ignore[arg-type]
        samples = wall.samples
    assert wall.mean_w == pytest.approx(400.0)
    assert len(wall.samples) == 10


def test_one_silent_supply_makes_the_bmc_the_witness(red: Box, circuit: Circuit) -> None:
    wall = read_wall(machine(red, psus=(Psu("psu/0", 120.0, 120.0), Psu("psu/1"))), red, circuit, ())
    assert (wall.now_w, wall.source) == (240.0, WallSource.BMC)


def test_without_any_witness_the_parts_are_added_up_and_it_is_said(red: Box, circuit: Circuit) -> None:
    wall = read_wall(machine(red, psus=(), bmc=Bmc()), red, circuit, ())
    assert wall.source is WallSource.ESTIMATE
    assert wall.line_v is None
    assert {alert.id for alert in wall.alerts} == {"power"}
    assert len(wall.alerts) == 2


def test_a_part_that_says_nothing_counts_with_its_worst(red: Box) -> None:
    told = estimate_w(machine(red), red)
    silent = machine(red, cpu=Cpu(), gpus=tuple(replace(gpu, power_w=None) for gpu in machine(red).gpus))
    assert estimate_w(silent, red) > told + (6 * 350 + 100) / 0.95


def test_witnesses_that_disagree_are_reported(red: Box, circuit: Circuit) -> None:
    before = read_wall(machine(red), red, circuit, ())
    before = read_wall(machine(red, 0.1), red, circuit, before.samples)
    wall = read_wall(machine(red, 0.2, bmc=Bmc(wall_w=900.0)), red, circuit, before.samples)
    assert "the BMC says 900 W" in wall.alerts[0].reason


def test_a_circuit_of_another_voltage_is_a_critical_alert(red: Box, circuit: Circuit) -> None:
    psus = (Psu("psu/0", 120.0, 231.0), Psu("psu/1", 120.0, 231.0))
    wall = read_wall(machine(red, psus=psus), red, circuit, ())
    assert wall.alerts[0].severity is Severity.CRITICAL
    decision, _ = decide(machine(red, psus=psus), red, Config(), fresh_memory(Config()))
    assert decision.power.gpu_pool_w < 1100  # a lying voltmeter buys no watts: at most nominal +5 %


@pytest.mark.parametrize(
    ("volts", "counted"), [((116.0, 150.0), 116.0), ((116.0, 124.0), 116.0), ((119.0, 3.0), 119.0)]
)
def test_of_two_voltmeters_the_lower_likely_one_counts(
    volts: tuple[float, float], counted: float, red: Box, circuit: Circuit
) -> None:
    psus = tuple(Psu(f"psu/{i}", 120.0, volt) for i, volt in enumerate(volts))
    wall = read_wall(machine(red, psus=psus), red, circuit, ())
    assert wall.line_v == counted
    assert "disagree on the line" in wall.alerts[0].reason


def test_two_equal_sources_are_three_decibels_louder() -> None:
    assert sum_dba([40.0, 40.0]) == pytest.approx(43.01, abs=0.01)
    assert sum_dba([]) == -math.inf


def test_half_the_speed_is_fifteen_decibels_quieter() -> None:
    assert fan_dba(750, ref_dba=30, ref_rpm=1500, slope_db=50) == pytest.approx(30 - 15.05, abs=0.01)


def test_noise_is_unknown_while_one_fan_is(red: Box) -> None:
    known = noise_dba(machine(red), red)
    assert known is not None and 28 < known < 45
    fans = (Fan("fan/chassis1", None), *machine(red).fans[1:])
    assert noise_dba(machine(red, fans=fans), red) is None
    decision, _ = decide(machine(red, fans=fans), red, Config(), fresh_memory(Config()))
    assert any(alert.id == "noise" for alert in decision.alerts)


def test_a_healthy_box_has_nothing_to_say(red: Box) -> None:
    decision, _ = decide(machine(red), red, Config(), fresh_memory(Config()))
    assert [alert for alert in decision.alerts if alert.id != "power"] == []


HEALTH = [
    ({"gpus": (Gpu("gpu/3", GpuState.GONE, "0000:63:00.0"),)}, "gpu/3", "reseat the card in slot 4"),
    ({"faults": (Fault("bmc", "no answer"),)}, "bmc", "no answer"),
    ({"raid": None}, "raid", "tinybox raid assemble"),
    ({"raid": Raid("raid0", "failed", None)}, "raid", "failed"),
    ({"raid": Raid("raid0", "clean", None)}, "raid", "not mounted"),
    ({"cpu": Cpu("cpu", 1.0, 200.0, 95.0, 32, 1, 2)}, "cpu", "95 °C"),
    ({"cpu": Cpu("cpu", None, 200.0, 50.0, 32, 1, 2)}, "cpu", "busy_pct"),
]


@pytest.mark.parametrize(("changes", "device", "words"), HEALTH)
def test_what_is_wrong_is_said_with_the_device_and_what_to_do(
    changes: dict[str, object], device: str, words: str, red: Box
) -> None:
    alerts = check_health(machine(red, **changes), red)
    assert any(alert.id == device and words in alert.reason for alert in alerts)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("junction_c", 111.0, "limit is 110"), ("memory_c", 108.0, "memory at 108"), ("link_width", 8, "PCIe x8 of x16")],
)
def test_a_card_beyond_its_limits_is_reported(field: str, value: float, words: str, red: Box) -> None:
    hot = replace(machine(red).gpus[0], **{field: value})  # type: ignore[arg-type]
    alerts = check_health(machine(red, gpus=(hot,)), red)
    assert [words in alert.reason for alert in alerts] == [True]
