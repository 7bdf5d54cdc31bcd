"""The plant as physics: what must hold whatever the constants say."""

import math

import pytest

from tinybox.core.box import load_box
from tinybox.core.errors import TinyboxError
from tinybox.twin.constants import load_plant
from tinybox.twin.faults import check_fault, known_faults
from tinybox.twin.overdrive import Overdrive
from tinybox.twin.plant import Plant, board_w, clock_under_cap, efficiency, power_factor, toward

RED = load_box("red")
KIND = load_plant(RED)


@pytest.fixture
def plant() -> Plant:
    return Plant.of(RED, KIND)


def load_all(plant: Plant, load: float) -> None:
    for gpu in plant.gpus:
        gpu.load = load


def test_an_idle_box_draws_what_idle_parts_draw(plant: Plant) -> None:
    parts_w = 6 * KIND.gpu.idle_w + KIND.cpu.idle_w + KIND.rest.board_w
    assert parts_w < plant.dc_w() < parts_w + 10
    assert plant.wall_w == pytest.approx(plant.dc_w() / 0.87, rel=0.02)


@pytest.mark.parametrize("point", RED.gpu.clock_table, ids=lambda point: f"{point.clock_mhz}MHz")
def test_the_boxs_clock_table_is_an_upper_bound_of_the_plant(point: object) -> None:
    clock_mhz, most_w = point.clock_mhz, point.board_power_max_w  # type: ignore[attr-defined]
    assert board_w(1.0, clock_mhz / RED.gpu.clock_max_mhz, KIND.gpu) <= most_w


@pytest.mark.parametrize("cap_w", [150.0, 200.0, 261.0, 290.0])
def test_a_cap_is_obeyed_within_a_second(plant: Plant, cap_w: float) -> None:
    load_all(plant, 1.0)
    plant.advance(2.0)
    plant.gpus[0].cap_w = cap_w
    plant.advance(1.0)
    assert plant.gpus[0].board_w * KIND.gpu.socket_to_board <= cap_w * 1.03
    assert plant.gpus[1].board_w > plant.gpus[0].board_w or cap_w == 290.0


def test_more_load_or_clock_never_means_less_power() -> None:
    for load in (0.0, 0.1, 0.5, 1.0):
        watts = [board_w(load, clock / 20, KIND.gpu) for clock in range(3, 21)]
        assert watts == sorted(watts)
    assert clock_under_cap(500.0, 1.0, 0.2, KIND.gpu) == 1.0


def test_the_result_hardly_depends_on_the_step() -> None:
    fine, coarse = Plant.of(RED, KIND), Plant.of(RED, KIND)
    for plant, step_s in ((fine, 0.01), (coarse, 0.1)):
        load_all(plant, 1.0)
        for _ in range(round(60 / step_s)):
            plant.step(step_s)
    assert coarse.wall_w == pytest.approx(fine.wall_w, rel=0.01)
    assert coarse.gpus[0].junction_c == pytest.approx(fine.gpus[0].junction_c, abs=1.0)
    assert coarse.heat == pytest.approx(fine.heat, rel=0.02)


def test_six_unlimited_cards_trip_the_breaker(plant: Plant) -> None:
    plant.heat = 0.64  # 80 % of the rating for a long time
    for gpu in plant.gpus:
        gpu.load, gpu.cap_w = 1.0, RED.gpu.cap_max_w
    plant.cpu_load = 1.0
    began_s = plant.time_s
    plant.advance(2.0)
    load = (plant.line_a / KIND.breaker_rating_a) ** 2
    while not plant.is_tripped and plant.time_s < 300:
        plant.advance(0.5)
    assert plant.is_tripped
    expected_s = KIND.breaker_tau_s * math.log((load - 0.64) / (load - KIND.breaker_trip_heat))
    assert plant.time_s - began_s == pytest.approx(expected_s, rel=0.1)
    plant.advance(3.0)
    assert plant.wall_w == plant.line_v == 0.0
    plant.reset_breaker()
    load_all(plant, 0.0)
    plant.advance(3.0)
    assert plant.line_v > 115


def test_the_line_sags_with_current(plant: Plant) -> None:
    before_v = plant.line_v
    load_all(plant, 1.0)
    plant.advance(2.0)
    assert plant.line_v == pytest.approx(KIND.line_v - KIND.line_ohm * plant.line_a)
    assert plant.line_v < before_v - 1.0


def test_means_are_of_the_last_second(plant: Plant) -> None:
    plant.advance(5.0)
    load_all(plant, 1.0)
    plant.advance(0.5)
    assert plant.wall_w > plant.mean_wall_w() > 250
    plant.advance(3.0)
    assert plant.mean_wall_w() == pytest.approx(plant.wall_w, rel=0.01)


def test_energy_is_counted_and_wraps(plant: Plant) -> None:
    plant.cpu_energy_uj = KIND.cpu.energy_range_uj - 1e6
    plant.advance(1.0)
    assert 0 < plant.cpu_energy_uj < 100e6


def test_fans_stand_while_cool_and_turn_when_hot(plant: Plant) -> None:
    assert plant.gpus[0].fan_rpm == 0
    quiet_dba = plant.noise_dba()
    load_all(plant, 1.0)
    for gpu in plant.gpus:
        gpu.clock_limit_mhz = 1200
    for _ in range(400):
        plant.advance(1.0)
    assert plant.gpus[0].fan_rpm > KIND.gpu.fan_least_rpm
    assert plant.gpus[0].junction_c < RED.gpu.junction_crit_c
    assert plant.noise_dba() > quiet_dba + 5


@pytest.mark.parametrize(("share", "least", "most"), [(0.1, 0.85, 0.9), (0.4, 0.92, 0.93), (1.0, 0.88, 0.9)])
def test_supplies_are_best_at_half_load(share: float, least: float, most: float) -> None:
    assert least <= efficiency(share) <= most


def test_the_power_factor_rises_with_load() -> None:
    factors = [power_factor(share / 20) for share in range(1, 21)]
    assert factors == sorted(factors)
    assert factors[-1] == 0.99


def test_a_lag_is_exact_for_any_step() -> None:
    one = toward(0.0, 1.0, 1.0, 0.5)
    many = 0.0
    for _ in range(100):
        many = toward(many, 1.0, 0.01, 0.5)
    assert many == pytest.approx(one)


@pytest.mark.parametrize("text", ["s 1 400", "s 1 9000", "s 0 1000", "m 1 1000", "s 1", "", "s 1 -5", "x"])
def test_overdrive_refuses_what_the_driver_refuses(plant: Plant, text: str) -> None:
    with pytest.raises(OSError, match="Errno 22"):
        Overdrive(plant.gpus[0], RED.gpu).write(text)


def test_overdrive_takes_force_when_committed(plant: Plant) -> None:
    overdrive = Overdrive(plant.gpus[0], RED.gpu)
    overdrive.write("s 1 1200\n")
    assert plant.gpus[0].clock_limit_mhz == RED.gpu.clock_max_mhz
    overdrive.write("c\n")
    assert "1: 1200Mhz" in overdrive.table()
    overdrive.write("r")
    assert plant.gpus[0].clock_limit_mhz == RED.gpu.clock_max_mhz


def test_every_fault_is_known_by_its_id() -> None:
    ids = [fault.id for fault in known_faults(RED)]
    assert len(ids) == len(set(ids))
    assert all(check_fault(fault_id, RED) == fault_id for fault_id in ids)
    with pytest.raises(TinyboxError, match="gpu/9:gone"):
        check_fault("gpu/9:gone", RED)
