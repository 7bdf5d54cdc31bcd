"""The breaker's thermal state, and the amps that it leaves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinybox.core.box import load_box
from tinybox.core.circuit import Circuit, circuit_of
from tinybox.core.config import Config
from tinybox.policy.breaker import amps_allowed, heat_after, share_of_trip

CIRCUIT = circuit_of(load_box("red"), Config())


@given(
    heat=st.floats(0, 1.0),
    seconds=st.floats(0.1, 600),
    share=st.floats(0.05, 1.0),
)
def test_the_amps_allowed_bring_it_to_just_that_share(heat: float, seconds: float, share: float) -> None:
    amps = amps_allowed(heat, seconds, share, CIRCUIT)
    ends_at = share_of_trip(heat_after(heat, amps, seconds, CIRCUIT), CIRCUIT)
    if amps > 0:
        assert ends_at == pytest.approx(share, abs=1e-6)
    else:
        assert ends_at >= share - 1e-9


@given(heat=st.floats(0, 2), amps=st.floats(0, 60), first=st.floats(0, 100), second=st.floats(0, 100))
def test_heat_does_not_care_how_often_it_is_looked_at(heat: float, amps: float, first: float, second: float) -> None:
    once = heat_after(heat, amps, first + second, CIRCUIT)
    twice = heat_after(heat_after(heat, amps, first, CIRCUIT), amps, second, CIRCUIT)
    assert twice == pytest.approx(once, abs=1e-9)


@given(heat=st.floats(0, 2), less=st.floats(0, 30), more=st.floats(0, 30), seconds=st.floats(0, 100))
def test_more_amps_never_leave_it_cooler(heat: float, less: float, more: float, seconds: float) -> None:
    assert heat_after(heat, less, seconds, CIRCUIT) <= heat_after(heat, less + more, seconds, CIRCUIT) + 1e-12


def test_the_fastest_breaker_trips_at_half_more_than_its_rating_in_about_18_s() -> None:
    preload = (0.8 * CIRCUIT.rating_a / CIRCUIT.rating_a) ** 2
    after_17, after_19 = (heat_after(preload, 1.5 * CIRCUIT.rating_a, seconds, CIRCUIT) for seconds in (17.0, 19.0))
    assert after_17 < CIRCUIT.trip_heat < after_19


def test_the_promise_held_for_ever_stays_below_the_first_step_of_the_ladder() -> None:
    assert share_of_trip(heat_after(0.0, CIRCUIT.promised_a, math.inf, CIRCUIT), CIRCUIT) < 0.60


@pytest.mark.parametrize("outlet", ["120V/15A", "120V/20A", "240V/30A", "240V/50A"])
@pytest.mark.parametrize("panel_c", [20.0, 40.0, 60.0, 70.0])
def test_on_every_outlet_and_in_every_panel_the_promise_may_last(outlet: str, panel_c: float) -> None:
    config = Config()
    config = type(config)(circuit=type(config.circuit)(outlet=outlet, panel_c=panel_c))
    circuit: Circuit = circuit_of(load_box("red"), config)
    assert share_of_trip(heat_after(0.0, circuit.promised_a, 1e6, circuit), circuit) <= 0.58 + 1e-9
