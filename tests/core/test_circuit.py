"""The outlet as a promise: which outlets there are, what a warm panel and another load take away."""

import math

import pytest

from tinybox.core.box import load_box
from tinybox.core.circuit import OUTLETS, SUSTAINED_SHARE, Circuit, circuit_of
from tinybox.core.config import CircuitConfig, Config
from tinybox.core.errors import TinyboxError

RED = load_box("red")


def circuit(**changes: object) -> Circuit:
    return circuit_of(RED, Config(circuit=CircuitConfig(**changes)))  # type: ignore[arg-type]


def test_the_boxs_own_outlet_is_fifteen_amps_of_which_twelve_are_promised() -> None:
    found = circuit()
    assert (found.volts, found.rating_a) == (120.0, 15.0)
    assert found.promised_a == pytest.approx(12.0)
    assert (found.trip_heat, found.tau_s) == (RED.circuit.breaker_trip_heat, RED.circuit.breaker_tau_s)
    assert found.budget_w(None) == pytest.approx(12.0 * 120.0 * RED.psu.power_factor)


EXPECTED = {"120V/15A": (120.0, 12.0), "120V/20A": (120.0, 16.0), "240V/30A": (240.0, 24.0), "240V/50A": (240.0, 40.0)}


@pytest.mark.parametrize("outlet", EXPECTED)
def test_every_outlet_people_have_is_known_and_eighty_percent_of_it_promised(outlet: str) -> None:
    volts, promised_a = EXPECTED[outlet]
    found = circuit(outlet=outlet)
    assert (found.volts, found.rating_a) == (volts, OUTLETS[outlet][1])
    assert found.promised_a == pytest.approx(promised_a)


def test_there_are_no_other_outlets() -> None:
    assert set(OUTLETS) == set(EXPECTED)
    with pytest.raises(TinyboxError) as caught:
        circuit(outlet="230V/16A")
    assert "'230V/16A'" in caught.value.message
    assert all(outlet in caught.value.hint for outlet in OUTLETS)


def test_amps_and_volts_of_the_owners_own_win_over_the_outlets() -> None:
    found = circuit(outlet="240V/30A", volts=230.0, amps=16.0, continuous_fraction=0.5)
    assert (found.volts, found.rating_a) == (230.0, 16.0)
    assert found.promised_a == pytest.approx(8.0)


def test_a_low_line_is_fewer_watts() -> None:
    found = circuit()
    assert found.budget_w(114.0) == pytest.approx(found.budget_w(120.0) * 114 / 120)


def test_what_else_is_on_the_circuit_comes_off_the_promise() -> None:
    assert circuit(other_load_a=4.5).promised_a == pytest.approx(7.5)
    for other_load_a in (12.0, 14.0):
        with pytest.raises(TinyboxError, match="leaves nothing"):
            circuit(other_load_a=other_load_a)


def test_a_warm_panel_derates_the_breaker_and_a_cool_one_earns_nothing() -> None:
    assert circuit(panel_c=20.0).trip_heat == circuit(panel_c=40.0).trip_heat == 1.21
    found = circuit(panel_c=50.0)
    assert found.trip_heat == pytest.approx(1.21 * (1 - 0.008 * 10))
    promised_a = [circuit(panel_c=panel_c).promised_a for panel_c in (40.0, 50.0, 60.0, 70.0)]
    assert promised_a == sorted(promised_a, reverse=True)


@pytest.mark.parametrize("panel_c", [20.0, 40.0, 55.0, 70.0])
@pytest.mark.parametrize("fraction", [0.8, 1.0])
def test_the_promise_held_for_ever_never_heats_the_breaker_to_the_first_step_of_the_ladder(
    panel_c: float, fraction: float
) -> None:
    found = circuit(panel_c=panel_c, continuous_fraction=fraction)
    assert (found.promised_a / found.rating_a) ** 2 <= SUSTAINED_SHARE * found.trip_heat + 1e-9
    if fraction == 1.0:
        assert found.promised_a == pytest.approx(15.0 * math.sqrt(SUSTAINED_SHARE * found.trip_heat))
