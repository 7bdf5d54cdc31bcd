"""How loud the box is: the sum of its fans, fitted to a meter's readings on boxes that hide their true figures."""

import math
from dataclasses import replace

import pytest

from benchmarks.noise import RED, TWO_SPEEDS, Place, errors, reading, speeds
from tests.policy.conftest import machine
from tinybox.core.box import Box, load_box
from tinybox.core.config import Config
from tinybox.core.snapshot import Fan
from tinybox.policy.decide import decide, fresh_memory
from tinybox.policy.noise import (
    contradiction,
    fan_dba,
    fitted,
    is_likely,
    level_now,
    level_of,
    prior_of,
    sum_dba,
    wanted,
)

SEEDS = range(40)


def test_two_equal_sources_are_three_decibels_louder() -> None:
    assert sum_dba([40.0, 40.0]) == pytest.approx(43.01, abs=0.01)
    assert sum_dba([]) == -math.inf


def test_half_the_speed_is_fifteen_decibels_quieter() -> None:
    assert fan_dba(750, ref_dba=30, ref_rpm=1500, slope_db=50) == pytest.approx(30 - 15.05, abs=0.01)


def test_the_level_is_the_sum_of_its_sources() -> None:
    level = level_of(speeds((1500, 1450)), RED.noise, prior_of(RED.noise))
    assert level.dba == pytest.approx(sum_dba([28.0, *6 * [30.0], *6 * [33.0]]))
    assert level.dba == pytest.approx(sum_dba(source.dba for source in level.sources))
    assert [source.id for source in level.sources[:2]] == ["room", "fan/0"]


def test_after_two_speeds_of_each_group_the_level_holds_at_speeds_never_measured() -> None:
    found = sorted(error for seed in SEEDS for error, _ in errors(seed, TWO_SPEEDS))
    assert found[len(found) // 2] < 0.5
    assert found[round(0.95 * len(found))] < 1.5


@pytest.mark.parametrize("places", [(), TWO_SPEEDS[:1], TWO_SPEEDS[:2], TWO_SPEEDS])
def test_nine_times_of_ten_it_is_within_its_plus_minus(places: tuple[Place, ...]) -> None:
    within = [error <= sure for seed in SEEDS for error, sure in errors(seed, places)]
    assert sum(within) / len(within) > 0.85


def test_a_reading_makes_it_surer_and_no_estimate_any_more() -> None:
    at = speeds((1500, 1450))
    before = level_of(at, RED.noise, fitted(RED.noise, ()))
    after = level_of(at, RED.noise, fitted(RED.noise, [reading(45.0, (1500, 1450))]))
    assert (before.is_estimated, after.is_estimated) == (True, False)
    assert after.plus_minus_db < before.plus_minus_db / 2
    assert after.dba == pytest.approx(45.0, abs=0.5)


def test_readings_that_nobody_can_have_taken_leave_figures_that_can_be() -> None:
    known = fitted(RED.noise, [reading(100.0, (1500, 0)), reading(20.0, (1600, 3000))])
    assert all(math.isfinite(figure) for figure in known.means)
    assert all(20.0 <= known.means[i] <= 80.0 for i in (2, 4))


def test_a_slower_box_that_is_louder_contradicts_itself() -> None:
    slow, fast = reading(46.0, (800, 0)), reading(41.0, (1600, 0))
    assert contradiction(fast, [slow]) == contradiction(slow, [fast]) == (slow, fast)
    assert contradiction(replace(slow, dba=42.0), [fast]) is None, "a meter scatters"
    assert contradiction(reading(46.0, (800, 2000)), [fast]) is None, "its cards turn faster"
    assert contradiction(replace(slow, card_rpm=()), [fast]) is None, "it has other cards"


def test_what_a_meter_cannot_show_is_unlikely() -> None:
    expected = level_of(speeds((840, 0)), RED.noise, prior_of(RED.noise))
    assert is_likely(expected.dba + 8, expected), "a room in a city"
    assert not is_likely(70.0, expected)


def test_it_says_which_readings_it_lacks() -> None:
    assert len(wanted([])) == 2
    assert len(wanted([reading(31.0, (800, 0)), reading(42.0, (2000, 0))])) == 1
    assert wanted([reading(31.0, (800, 700)), reading(42.0, (2000, 2100))]) == []
    assert "1.5 times" in wanted([reading(31.0, (800, 700)), reading(32.0, (850, 2100))])[0]


def test_it_is_unknown_while_one_fan_is() -> None:
    known = level_now(machine(RED), RED)
    assert known is not None and 28 < known.dba < 45
    fans = (Fan("fan/chassis1", None), *machine(RED).fans[1:])
    assert level_now(machine(RED, fans=fans), RED) is None
    decision, _ = decide(machine(RED, fans=fans), RED, Config(), fresh_memory(Config()))
    assert any(alert.id == "noise" for alert in decision.alerts)


def test_what_was_measured_is_in_every_decision() -> None:
    known = fitted(RED.noise, [reading(45.0, (1500, 1450))])
    memory = fresh_memory(Config(), acoustics=known)
    for _ in range(2):
        decision, memory = decide(machine(RED), RED, Config(), memory)
        assert decision.noise is not None and not decision.noise.is_estimated


@pytest.mark.parametrize("name", ["red", "green", "green-3090", "green-v2", "blue", "mixed"])
def test_every_box_has_a_level(name: str) -> None:
    box: Box = load_box(name)
    assert level_of(speeds((1000, 0)), box.noise, prior_of(box.noise)).dba > box.noise.floor_dba
