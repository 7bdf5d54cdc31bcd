"""What a trace asks of a plant, and what is counted as served."""

import math
from dataclasses import replace

import pytest

from tinybox.core.box import load_box
from tinybox.replay.demand import Demand
from tinybox.replay.trace import Row, Trace
from tinybox.twin.constants import load_plant
from tinybox.twin.plant import Plant

BOX = load_box("red")


def plant_at(*clocks_mhz: float) -> Plant:
    """A box whose cards are warm at their clocks."""
    plant = Plant.of(BOX, load_plant(BOX))
    for gpu, clock_mhz in zip(plant.gpus, clocks_mhz, strict=False):
        gpu.clock_limit_mhz = gpu.clock_mhz = clock_mhz
    return plant


def chain(count: int, *, load: float, task_s: float) -> list[Row]:
    """Tasks that go from card to card."""
    return [Row(0, i % 6, "decode", load, task_s, f"{i}", f"{i - 1}" if i else "") for i in range(count)]


def run(demand: Demand, plant: Plant, *, to_s: float, from_s: float = 0.0, dt_s: float = 0.01) -> None:
    for i in range(round((to_s - from_s) / dt_s)):
        demand.apply(plant, from_s + i * dt_s, dt_s)
        plant.step(dt_s)


def done_s(plant: Plant) -> list[float]:
    return [gpu.work_s for gpu in plant.gpus]


def test_a_row_is_served_at_the_speed_of_its_card_and_no_longer_than_it_lasts() -> None:
    plant = plant_at(1500, 1500)
    speed = plant.gpus[0].speed()
    demand = Demand(Trace.of([Row(0, 0, "train", 1.0, 2.0), Row(0.005, 1, "train", 0.2, 0.012)]))
    run(demand, plant, to_s=3.0)
    assert demand.served_s[0] == pytest.approx(2.0 * speed, rel=1e-3)
    assert demand.served_s[1] == pytest.approx(0.2 * 0.012)
    assert [demand.work_of(i) for i in range(6)] == pytest.approx(done_s(plant), abs=1e-9)
    assert demand.work_s == pytest.approx(sum(done_s(plant)))
    assert [gpu.load for gpu in plant.gpus] == [0.0] * 6


def test_kinds_within_a_sub_step_become_the_longer_one_and_the_mean_of_loads() -> None:
    plant = plant_at(2500)
    demand = Demand(Trace.of([Row(0, 0, "decode", 0.4, 0.004), Row(0.004, 0, "prefill", 0.1, 0.006)]))
    demand.apply(plant, 0.0, 0.01)
    assert plant.gpus[0].work_kind == "prefill"
    assert plant.gpus[0].duty == pytest.approx(1.0)
    assert plant.gpus[0].load == pytest.approx(0.4 * 0.4 + 0.6 * 0.1)


def test_a_synchronous_job_goes_at_the_pace_of_its_slowest_member() -> None:
    plant = plant_at(2900, 1500, 2900)
    demand = Demand(Trace.of([Row(0, i, "train", load, 10.0) for i, load in enumerate((1.0, 0.8, 0.5))]))
    slowest = min(plant.gpus[1].speed() / 0.8, 1.0)
    run(demand, plant, to_s=10.0)
    for served_s, load in zip(demand.served_s, (1.0, 0.8, 0.5), strict=True):
        assert served_s == pytest.approx(10 * load * slowest, rel=1e-3)
    assert sum(done_s(plant)) == pytest.approx(demand.work_s)


def test_a_frozen_member_holds_up_its_job() -> None:
    plant = plant_at(2900, 2900)
    demand = Demand(Trace.of([Row(0, i, "train", 1.0, 2.0) for i in range(2)]))
    run(demand, plant, to_s=1.0)
    plant.gpus[1].is_frozen = True
    served_s = list(demand.served_s)
    run(demand, plant, from_s=1.0, to_s=2.0)
    assert demand.served_s == served_s


def test_tasks_hand_over_within_a_sub_step() -> None:
    plant = plant_at(*[2965.0] * 6)
    demand = Demand(Trace.of(chain(500, load=0.1, task_s=0.002)))
    run(demand, plant, to_s=0.01)
    assert demand.agenda.finished_s[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, math.inf])
    assert [gpu.duty for gpu in plant.gpus] == pytest.approx([0.2] * 5 + [0.0])
    run(demand, plant, from_s=0.01, to_s=1.0)
    finished = [time_s for time_s in demand.agenda.finished_s if time_s < math.inf]
    assert finished == sorted(finished)
    assert demand.work_s == pytest.approx(sum(done_s(plant)), rel=1e-6)


@pytest.mark.parametrize("task_s", [0.002, 0.024])
def test_short_tasks_are_right_in_the_mean(task_s: float) -> None:
    kind = load_plant(BOX)
    steady = replace(kind, gpus=tuple(replace(one, clock_idle_mhz=1500.0) for one in kind.gpus))
    count = round(6 / task_s)
    demand = Demand(Trace.of(chain(count, load=1.0, task_s=task_s)))
    plant = Plant.of(BOX, steady)
    for gpu in plant.gpus:
        gpu.clock_limit_mhz = gpu.clock_mhz = 1500
    gpu.work_kind = "decode"
    speed = gpu.speed()
    run(demand, plant, to_s=6.0)
    assert demand.work_s == pytest.approx(6 * speed)
    assert sum(done_s(plant)) == pytest.approx(6 * speed)
    assert done_s(plant) == pytest.approx([speed] * 6, abs=task_s)


def test_a_task_waits_for_its_time_for_a_plain_row_and_for_a_task_before_it_in_the_file() -> None:
    plant = plant_at(*[2965.0] * 6)
    rows = [
        Row(0.0, 0, "decode", 0.5, 0.1, "a"),
        Row(0.0, 0, "decode", 0.5, 0.1, "b", "a"),
        Row(0.0, 0, "decode", 0.5, 0.1, "c"),
        Row(0.0, 1, "decode", 0.5, 0.1, "", "c"),
        Row(0.15, 0, "decode", 0.5, 0.1),
        Row(0.9, 2, "decode", 0.5, 0.1, "", "a"),
    ]
    demand = Demand(Trace.of(rows))
    run(demand, plant, to_s=1.01)
    assert demand.agenda.started_s == pytest.approx([0, 0.1, 0.3, 0.4, 0.15, 0.9])
    assert demand.agenda.finished_s[:4] == pytest.approx([0.1, 0.3, 0.4, 0.5])


def test_what_is_not_done_at_the_end_is_lost() -> None:
    plant = plant_at(*[1000.0] * 6)
    demand = Demand(Trace.of([Row(0, 0, "train", 1.0, 0.5, "a"), Row(0, 1, "train", 1.0, 0.5, "", "a")]))
    run(demand, plant, to_s=1.0)
    served_s = demand.work_s
    assert served_s < 0.9
    run(demand, plant, from_s=1.0, to_s=3.0)
    assert demand.work_s == served_s


def test_a_parked_card_refuses_rows_that_begin_and_lets_tasks_wait() -> None:
    plant = plant_at(*[2965.0] * 6)
    rows = [
        Row(0.0, 0, "decode", 0.5, 1.0),
        Row(0.5, 1, "decode", 0.5, 1.0),
        Row(0.5, 2, "decode", 0.5, 0.5, "a"),
        Row(0.5, 3, "decode", 0.5, 0.5, "", "a"),
    ]
    demand = Demand(Trace.of(rows))
    run(demand, plant, to_s=0.3)
    for gpu in plant.gpus:
        gpu.is_parked = True
    run(demand, plant, from_s=0.3, to_s=0.8)
    for gpu in plant.gpus:
        gpu.is_parked = False
    run(demand, plant, from_s=0.8, to_s=1.5)
    assert demand.served_s[:2] == pytest.approx([0.5, 0.0])
    assert demand.agenda.refused == {1}
    assert demand.agenda.started_s[2] == pytest.approx(0.8)


def test_without_power_and_on_a_missing_card_nothing_is_served() -> None:
    plant = plant_at(*[2965.0] * 6)
    demand = Demand(
        Trace.of(
            [Row(0, 0, "decode", 0.5, 2.0), Row(0, 1, "decode", 0.5, 2.0, "a"), Row(0, 2, "decode", 1, 0.1, "", "a")]
        )
    )
    plant.gpus[0].is_present = False
    run(demand, plant, to_s=0.5)
    assert demand.served_s[:2] == pytest.approx([0.0, 0.25])
    plant.power_off()
    run(demand, plant, from_s=0.5, to_s=1.0)
    assert demand.served_s[:2] == pytest.approx([0.0, 0.25])
