"""The breaker against UL 489 and arithmetic: it may be quick or slow, never quicker than policies believe."""

import math

import pytest

from tinybox.core.box import load_box
from tinybox.core.circuit import circuit_of
from tinybox.core.config import CircuitConfig, Config
from tinybox.twin.breaker import Breaker
from tinybox.twin.constants import BreakerPlant, bands_of, load_plant

NAMES = ("red", "green", "green-3090", "blue")
RED = load_box("red")
BANDS = {key.removeprefix("breaker."): band for key, band in bands_of(RED).items() if key.startswith("breaker.")}
BOUNDS = {
    "fast": BreakerPlant(**{key: band.low for key, band in BANDS.items()}),
    "nominal": load_plant(RED).breaker,
    "slow": BreakerPlant(**{key: band.high for key, band in BANDS.items()}),
}
CALIBRATED_C = 40.0  # UL 489: holds 100 % in open air at 40 °C; 135 and 200 % are tried at 25 °C
TRIED_C = 25.0


def trip_s(
    kind: BreakerPlant, share: float, *, ambient_c: float = CALIBRATED_C, preload: float = 0.0, most_s: float = 3600.0
) -> float:
    """How long it holds `share` of its rating after a long time at `preload`; inf: it holds `most_s`."""
    breaker, dt_s = Breaker.of(kind, 15.0, ambient_c), 0.02
    breaker.heat = preload**2
    for i in range(round(most_s / dt_s)):
        breaker.step(15.0 * share, dt_s)
        if breaker.is_tripped:
            return (i + 1) * dt_s
    return math.inf


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("ambient_c", [TRIED_C, CALIBRATED_C])
def test_it_holds_its_rating_for_ever(bound: str, ambient_c: float) -> None:
    breaker = Breaker.of(BOUNDS[bound], 15.0, ambient_c)
    for _ in range(24 * 60):
        breaker.step(15.0, 60.0)
    assert not breaker.is_tripped
    assert breaker.share < 1.0


# (share of the rating, it trips within): UL 489 for 15 A, and NETA's field test at 300 %.
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(("share", "within_s"), [(1.35, 3600.0), (2.0, 120.0), (3.0, 50.0)])
def test_it_trips_as_soon_as_ul_489_asks(bound: str, share: float, within_s: float) -> None:
    assert trip_s(BOUNDS[bound], share, ambient_c=TRIED_C) <= within_s


# (bound, share of the rating, preload, seconds): the table this model was made from.
POINTS = [
    ("fast", 1.5, 0.8, 18.3),
    ("fast", 1.5, 1.0, 7.7),
    ("fast", 1.25, 0.0, 63.0),
    ("fast", 1.35, 0.0, 46.0),
    ("fast", 2.0, 0.0, 15.0),
    ("fast", 3.0, 0.0, 6.1),
    ("nominal", 1.25, 0.0, 230.0),
    ("nominal", 1.5, 0.0, 92.0),
    ("nominal", 2.0, 0.0, 40.0),
    ("nominal", 3.0, 0.0, 15.7),
]


@pytest.mark.parametrize(("bound", "share", "preload", "seconds"), POINTS)
def test_it_trips_when_the_table_says_so(bound: str, share: float, preload: float, seconds: float) -> None:
    assert trip_s(BOUNDS[bound], share, preload=preload, most_s=400.0) == pytest.approx(seconds, rel=0.02)


def test_quicker_bounds_trip_earlier_everywhere() -> None:
    for share in (1.3, 1.5, 2.0, 3.0):
        times_s = [trip_s(BOUNDS[bound], share) for bound in ("fast", "nominal", "slow")]
        assert times_s == sorted(times_s)
        assert times_s[0] < times_s[1]


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_fault_current_trips_it_at_once_and_what_is_just_below_does_not(bound: str) -> None:
    kind = BOUNDS[bound]
    for share, is_tripped in ((kind.magnetic * 1.01, True), (kind.magnetic * 0.99, False)):
        breaker = Breaker.of(kind, 15.0, TRIED_C)
        breaker.step(15.0 * share, 0.01)
        assert breaker.is_tripped is is_tripped


def test_heat_is_exact_for_any_step_and_cools_as_it_warms() -> None:
    one, many = (Breaker.of(BOUNDS["nominal"], 15.0, CALIBRATED_C) for _ in range(2))
    one.step(17.0, 30.0)
    for _ in range(3000):
        many.step(17.0, 0.01)
    assert many.heat == pytest.approx(one.heat)
    warm = one.heat
    one.step(0.0, BOUNDS["nominal"].tau_s)
    assert one.heat == pytest.approx(warm / math.e)


def test_a_reset_leaves_it_cold_and_closed() -> None:
    breaker = Breaker.of(BOUNDS["fast"], 15.0, CALIBRATED_C)
    breaker.step(200.0, 0.01)
    assert breaker.is_tripped
    breaker.reset()
    assert (breaker.is_tripped, breaker.heat, breaker.share) == (False, 0.0, 0.0)


def test_a_warm_panel_trips_earlier_and_a_cool_one_later() -> None:
    times_s = [trip_s(BOUNDS["fast"], 1.5, ambient_c=ambient_c) for ambient_c in (50.0, 40.0, 20.0)]
    assert times_s == sorted(times_s)
    assert Breaker.of(BOUNDS["fast"], 15.0, 50.0).trip_heat == pytest.approx(1.21 * 0.92)


@pytest.mark.parametrize("name", NAMES)
def test_no_seed_draws_a_breaker_quicker_than_the_one_policies_expect(name: str) -> None:
    box = load_box(name)
    circuit = circuit_of(box, Config())
    quickness = []
    for seed in range(100):
        kind = load_plant(box, seed)
        breaker = Breaker.of(kind.breaker, circuit.rating_a, kind.line.ambient_c)
        assert breaker.trip_heat >= circuit.trip_heat
        assert breaker.tau_s >= circuit.tau_s
        assert breaker.magnetic >= BANDS["magnetic"].low
        quickness.append((kind.breaker.trip_heat, kind.breaker.tau_s, kind.breaker.magnetic))
    # What is quick in one respect is quick in all, and seeds reach close to both bounds.
    by_heat = sorted(quickness)
    assert [tau_s for _, tau_s, _ in by_heat] == sorted(tau_s for _, tau_s, _ in by_heat)
    assert by_heat[0][0] < 1.25 and by_heat[-1][0] > 1.56


def test_policies_and_plant_derate_alike_in_a_panel_warmer_than_the_calibration() -> None:
    for panel_c in (40.0, 50.0, 60.0):
        circuit = circuit_of(RED, Config(circuit=CircuitConfig(panel_c=panel_c)))
        breaker = Breaker.of(BOUNDS["fast"], 15.0, panel_c)
        assert circuit.trip_heat == pytest.approx(breaker.trip_heat)
        assert circuit.tau_s == breaker.tau_s
