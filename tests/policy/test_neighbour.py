"""Somebody else on the circuit, by the volts that he takes off the line."""

from collections.abc import Callable

import pytest

from tinybox.core.box import load_box
from tinybox.core.circuit import circuit_of
from tinybox.core.config import Config
from tinybox.policy.neighbour import OHM_NOMINAL, NeighbourMemory, watch

CIRCUIT = circuit_of(load_box("red"), Config())
DRYER_A = 12.5
Amps = Callable[[float], float]


def none_a(_: float) -> float:
    return 0.0


def line(  # noqa: PLR0913
    seconds: float,
    own_a: Amps,
    other_a: Amps = none_a,
    utility_v: Amps = lambda _: 120.0,
    *,
    ohm: float = 0.2,
    memory: NeighbourMemory | None = None,
    from_s: float = 0.0,
) -> list[NeighbourMemory]:
    """Watch a line of so many ohms, ten times a second; what is remembered after each look."""
    memory = memory or NeighbourMemory()
    seen = []
    for i in range(round(seconds * 10)):
        now_s = from_s + i / 10
        amps = own_a(now_s)
        volts = utility_v(now_s) - ohm * (amps + other_a(now_s))
        memory = watch(now_s, volts, amps, CIRCUIT, memory)
        seen.append(memory)
    return seen


def step(at_s: float, amps: float, until_s: float = 1e9) -> Amps:
    return lambda now_s: amps if at_s <= now_s < until_s else 0.0


@pytest.mark.parametrize("ohm", [0.12, 0.2, 0.35])
@pytest.mark.parametrize("own_a", [2.0, 7.0, 11.5])
def test_a_hair_dryer_is_seen_within_two_looks_of_its_step(own_a: float, ohm: float) -> None:
    seen = line(25, lambda _: own_a, step(20.0, DRYER_A), ohm=ohm)
    before, after = seen[199], seen[201]
    assert before.other_a() == 0.0
    assert after.other_a() > 0.5 * DRYER_A


def test_its_amps_are_about_right_where_the_wiring_is_as_assumed() -> None:
    seen = line(25, lambda _: 8.0, step(20.0, DRYER_A), ohm=OHM_NOMINAL)
    assert seen[-1].other_a() == pytest.approx(DRYER_A, rel=0.1)


def test_it_is_gone_when_the_volts_are_back() -> None:
    seen = line(90, lambda _: 8.0, step(20.0, DRYER_A, 80.0))
    assert seen[799].other_a() > 0.5 * DRYER_A
    assert seen[805].other_a() == 0.0
    assert seen[-1].other_a() == 0.0


def test_it_stays_seen_while_our_own_amps_fall_to_make_room() -> None:
    def own_a(now_s: float) -> float:
        return 11.5 if now_s < 20.3 else 2.5

    seen = line(70, own_a, step(20.0, DRYER_A, 65.0))
    assert all(memory.other_a() > 0.4 * DRYER_A for memory in seen[202:640])
    assert seen[-1].other_a() == 0.0


@pytest.mark.parametrize("share", [-0.006, 0.006])
def test_a_utilitys_tap_is_no_neighbour(share: float) -> None:
    def utility_v(now_s: float) -> float:
        return 120.0 * (1 + share * int(now_s / 15))

    seen = line(60, lambda _: 9.0, utility_v=utility_v)
    assert all(memory.other_a() == 0.0 for memory in seen)


def test_a_line_that_sags_slowly_is_no_neighbour() -> None:
    seen = line(120, lambda _: 9.0, utility_v=lambda now_s: 121.0 - 5.0 * now_s / 120)
    assert all(memory.other_a() == 0.0 for memory in seen)


@pytest.mark.parametrize("ohm", [0.12, 0.2, 0.3, 0.35])
@pytest.mark.parametrize("period_s", [0.2, 0.4, 2.0, 7.0, 30.0])
def test_our_own_steps_are_no_neighbour(ohm: float, period_s: float) -> None:
    def own_a(now_s: float) -> float:
        return 12.0 if now_s % period_s < period_s / 2 else 2.0

    seen = line(60, own_a, ohm=ohm)
    assert all(memory.other_a() == 0.0 for memory in seen)


@pytest.mark.parametrize("ohm", [0.12, 0.3, 0.35])
def test_our_own_steps_teach_the_ohms_of_the_wiring(ohm: float) -> None:
    def own_a(now_s: float) -> float:
        return 12.0 if now_s % 4 < 2 else 2.0

    assert line(60, own_a, ohm=ohm)[-1].ohm == pytest.approx(ohm, rel=0.1)


def test_with_ohms_learned_the_neighbours_amps_are_right() -> None:
    def own_a(now_s: float) -> float:
        return 12.0 if now_s % 4 < 2 and now_s < 40 else 6.0

    seen = line(60, own_a, step(50.0, DRYER_A), ohm=0.33)
    assert seen[-1].other_a() == pytest.approx(DRYER_A, rel=0.15)


def test_without_a_voltmeter_nothing_is_known_and_nothing_is_claimed() -> None:
    memory = line(20, lambda _: 8.0)[-1]
    assert watch(20.0, None, 8.0, CIRCUIT, memory).other_a() == 0.0


def test_a_voltmeter_that_comes_back_starts_afresh() -> None:
    memory = line(20, lambda _: 8.0)[-1]
    memory = watch(20.0, None, 8.0, CIRCUIT, memory)
    assert watch(20.1, 115.0, 8.0, CIRCUIT, memory).other_a() == 0.0


@pytest.mark.parametrize("jump_s", [-500.0, 3600.0])
def test_a_clock_that_jumps_finds_no_neighbour(jump_s: float) -> None:
    memory = line(20, lambda _: 8.0)[-1]
    seen = line(20, lambda _: 8.0, memory=memory, from_s=20.0 + jump_s)
    assert all(one.other_a() == 0.0 for one in seen)


@pytest.mark.parametrize("beat_s", [4.0, 30.0])
def test_our_own_load_on_a_stiff_line_is_no_neighbour(beat_s: float) -> None:
    """A UPS holds its volts: that they do not rise as our amps fall is nobody else's doing."""
    seen = line(120, lambda now_s: 18.0 if now_s % beat_s < beat_s / 2 else 2.0, ohm=0.0)
    assert all(one.other_a() == 0.0 for one in seen)


def test_a_line_that_falls_further_than_any_plug_could_pull_it_is_the_utilitys() -> None:
    seen = line(60, lambda _: 11.0, utility_v=lambda now_s: 120.0 if now_s < 20 else 108.0)
    assert all(memory.other_a() == 0.0 for memory in seen)
    later = line(10, lambda _: 11.0, lambda _: DRYER_A, lambda _: 108.0, memory=seen[-1], from_s=60.0)
    assert later[-1].other_a() > 0.5 * DRYER_A


def test_a_dryer_is_seen_where_wrong_ohms_have_led_the_resting_volts_astray() -> None:
    seen = line(25, lambda now_s: 1.0 + 0.4 * now_s, ohm=0.12)  # rises too gently to teach
    later = line(5, lambda _: 11.0, lambda _: DRYER_A, memory=seen[-1], ohm=0.12, from_s=25.0)
    assert later[1].other_a() > 0.5 * DRYER_A
