"""Both guarantees in closed loop on drawn plants: whatever the load, the sensors, the actuators and the owner do.

`GOVERNOR_EXAMPLES=50` tries fifty times as many of everything.
"""

import math
import os
import re
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from tests.policy.plants import (
    BOXES,
    FAILSAFE_S,
    LIES,
    Case,
    Lie,
    Watched,
    everything,
    failsafe,
    floors_fit,
    leaves,
    promised_a,
    returns,
    work_fits,
)
from tinybox.core.actions import EndWork, FreezeWork, PowerOff
from tinybox.core.circuit import BREAKER_SHARE
from tinybox.core.config import CircuitConfig, Config, GpuConfig
from tinybox.core.decision import Guarantee, WallSource
from tinybox.core.snapshot import Snapshot
from tinybox.replay.run import Event, Outcome
from tinybox.replay.trace import KINDS, Row, Trace

TIMES = int(os.environ.get("GOVERNOR_EXAMPLES", "1"))
SECONDS = 15
LIED_TO = 1.08  # of the continuous promise: what one lying sensor may cost until it is found out
START_MS = 1200  # an idle box is looked at once a second: a daemon has had two looks
DWELLS_MS = (20, 30, 60, 130, 300, 700, 1500, 3200, 7000)


def tries(count: int) -> settings:
    """So many examples, or as many times that as the environment asks for."""
    slow = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
    # A run is short to print but slow to repeat: what was found is reported as it was found.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    # The usual run tries the same examples every time; more of them are drawn afresh.
    return settings(
        derandomize=TIMES == 1, max_examples=count * TIMES, deadline=None, suppress_health_check=slow, phases=phases
    )


Span = tuple[int, int, str, float]  # milliseconds of work, of the pause after it, kind, load


@dataclass(frozen=True, slots=True)
class Load:
    """Each card's spans of work and pauses, over and over until the time is up."""

    spans: tuple[tuple[Span, ...], ...]

    def trace(self, seconds: float = SECONDS) -> Trace:
        """Never empty, so that the run lasts."""
        last = Row(seconds - 0.1, 0, "decode", 0.2, 0.1)
        rows = [row for index, spans in enumerate(self.spans) for row in spread(index, spans, seconds)]
        kept = [row for row in rows if row.gpu != 0 or row.end_s <= last.time_s]
        return Trace.of(sorted([*kept, last], key=lambda row: row.time_s))


def spread(index: int, spans: tuple[Span, ...], seconds: float) -> list[Row]:
    """The rows of one card."""
    rows: list[Row] = []
    now_ms, end_ms = START_MS, round(seconds * 1000)
    while spans and now_ms < end_ms and len(rows) < 200:
        dwell_ms, pause_ms, kind, load = spans[len(rows) % len(spans)]
        rows.append(Row(now_ms / 1000, index, kind, load, min(dwell_ms, end_ms - now_ms) / 1000))
        now_ms += dwell_ms + pause_ms
    return rows


def loads() -> st.SearchStrategy[Load]:
    """Each card at its own work in its own time, or all in one synchronous job."""
    span = st.tuples(
        st.sampled_from(DWELLS_MS),
        st.sampled_from((0, *DWELLS_MS)),
        st.sampled_from(KINDS),
        st.sampled_from((1.0, 1.0, 0.7, 0.3)),
    )
    spans = st.lists(span, max_size=5).map(tuple)
    step = st.tuples(st.sampled_from(DWELLS_MS), st.sampled_from((0, *DWELLS_MS)), st.just("train"), st.just(1.0))
    steps = st.lists(step, min_size=1, max_size=5).map(tuple)
    alone = st.lists(spans, min_size=6, max_size=6).map(lambda six: Load(tuple(six)))
    return st.one_of(alone, steps.map(lambda one: Load((one,) * 6)))


def configs() -> st.SearchStrategy[Config]:
    """Any outlet, other load, fraction, priorities and limits."""
    gpus = st.lists(
        st.tuples(st.integers(0, 5), st.integers(-2, 2), st.sampled_from((None, None, 120.0, 200.0))),
        max_size=6,
        unique_by=lambda one: one[0],
    ).map(lambda some: tuple(GpuConfig(f"gpu/{i}", priority, limit_w) for i, priority, limit_w in some))
    circuit = st.builds(
        CircuitConfig,
        outlet=st.sampled_from((None, None, None, "120V/15A", "120V/20A", "240V/30A", "240V/50A")),
        other_load_a=st.sampled_from((0.0, 0.0, 1.0, 2.5)),
        continuous_fraction=st.sampled_from((None, None, 0.7, 0.9, 1.0)),
        panel_c=st.sampled_from((40.0, 40.0, 25.0, 60.0)),
    )
    return st.builds(Config, circuit=circuit, gpus=gpus)


PLANTS = st.tuples(st.sampled_from(BOXES), st.sampled_from((None, *range(8))))


def assert_no_harm(outcome: Outcome, *, heat: float = BREAKER_SHARE) -> None:
    """Neither the plant's own breaker nor the fastest one there may be."""
    assert outcome.trips == 0
    assert outcome.referee.heat_max <= heat


@tries(24)
@given(plant=PLANTS, load=loads(), config=configs())
def test_bounded_keeps_every_promise_under_any_load(plant: tuple[str, int | None], load: Load, config: Config) -> None:
    assume(work_fits(plant[0], config))
    outcome, governor = Case(*plant, load.trace(), config).run()
    assert_no_harm(outcome)
    assert outcome.referee.promise_broken_s == 0
    if config.circuit.panel_c <= 40.0:  # in a hotter panel the promise itself lasts just below the first resort
        assert outcome.needless == 0
    assert governor.most_writes_a_minute() <= 60


@tries(20)
@given(plant=PLANTS, load=loads(), config=configs(), is_measured=st.booleans())
def test_strict_holds_at_every_instant_also_between_writes(
    plant: tuple[str, int | None], load: Load, config: Config, is_measured: bool
) -> None:
    assume(floors_fit(plant[0], config))
    case = Case(*plant, load.trace(), config, "strict", checks_s=3.0, is_measured=is_measured)
    outcome, governor = case.run()
    assert governor.broken == []
    assert_no_harm(outcome)
    assert outcome.referee.promise_broken_s == 0
    assert outcome.interventions == 0
    assert governor.most_writes_a_minute() <= 60


@tries(24)
@given(
    plant=PLANTS,
    load=loads(),
    config=configs(),
    lie=st.builds(Lie, st.sampled_from(LIES), st.floats(0, 10), st.integers(0, 5)),
    guarantee=st.sampled_from(("bounded", "bounded", "strict")),
)
def test_one_lying_sensor_trips_nothing(
    plant: tuple[str, int | None], load: Load, config: Config, lie: Lie, guarantee: str
) -> None:
    """The mean of ten seconds may be passed by 8 % until a lie is found out; the breaker's 80 % may not."""
    assume(work_fits(plant[0], config))
    outcome, governor = Case(*plant, load.trace(), config, guarantee, distort=lie).run()
    assert_no_harm(outcome)
    assert outcome.referee.mean_a_max <= LIED_TO * promised_a(plant[0], config)
    assert governor.most_writes_a_minute() <= 60


@tries(12)
@given(
    plant=PLANTS,
    load=loads(),
    config=configs(),
    index=st.integers(0, 5),
    guarantee=st.sampled_from(("bounded", "strict")),
)
def test_a_card_that_refuses_its_limits_costs_the_others_and_no_promise(
    plant: tuple[str, int | None], load: Load, config: Config, index: int, guarantee: str
) -> None:
    assume(floors_fit(plant[0], config))
    outcome, governor = Case(*plant, load.trace(), config, guarantee, refuses=frozenset({f"gpu/{index}"})).run()
    assert_no_harm(outcome)
    assert outcome.referee.mean_a_max <= LIED_TO * promised_a(plant[0], config)
    assert governor.most_writes_a_minute() <= 60


@tries(12)
@given(
    plant=PLANTS,
    load=loads(),
    config=configs(),
    index=st.integers(0, 5),
    at_s=st.floats(0.5, 12),
    away_s=st.floats(0.2, 6),
    guarantee=st.sampled_from(("bounded", "strict")),
)
def test_a_card_that_leaves_and_returns_at_its_factory_limits_breaks_nothing(  # noqa: PLR0913, PLR0917
    plant: tuple[str, int | None],
    load: Load,
    config: Config,
    index: int,
    at_s: float,
    away_s: float,
    guarantee: str,
) -> None:
    assume(work_fits(plant[0], config) if guarantee == "bounded" else floors_fit(plant[0], config))
    events = (leaves(index, at_s), returns(index, at_s + away_s))
    outcome, governor = Case(*plant, load.trace(), config, guarantee, events).run()
    assert_no_harm(outcome)
    assert outcome.referee.continuous_broken_s == 0
    assert not [words for words in governor.broken if guarantee == "strict"]
    assert governor.most_writes_a_minute() <= 60


@tries(20)
@given(
    plant=PLANTS,
    load=loads(),
    config=configs(),
    dies_s=st.floats(0.2, 8),
    kind=st.sampled_from(("train", "prefill")),
    guarantee=st.sampled_from(("bounded", "bounded", "strict")),
    lie=st.one_of(st.none(), st.builds(Lie, st.sampled_from(LIES), st.floats(0, 5), st.integers(0, 5))),
)
def test_a_daemon_that_dies_at_any_instant_leaves_a_safe_box(  # noqa: PLR0913, PLR0917
    plant: tuple[str, int | None],
    load: Load,
    config: Config,
    dies_s: float,
    kind: str,
    guarantee: str,
    lie: Lie | None,
) -> None:
    """Every card and the processor jump to full load in that instant; under `bounded` the failsafe ends it."""
    assume(work_fits(plant[0], config) if guarantee == "bounded" else floors_fit(plant[0], config))
    dies_s = round(dies_s, 2)
    rows = [replace(row, duration_s=min(row.duration_s, round(dies_s - row.time_s, 3))) for row in load.trace(8).rows]
    rows = [row for row in rows if row.duration_s >= 0.001] + everything(dies_s, 20.0, kind=kind)
    busy = Event(dies_s, lambda one: setattr(one, "cpu_load", 1.0))
    events = (busy, failsafe(dies_s + FAILSAFE_S)) if guarantee == "bounded" else (busy,)
    case = Case(*plant, Trace.of(rows), config, guarantee, events, lie, dies_s=dies_s)
    outcome, _ = case.run()
    assert_no_harm(outcome)


@tries(8)
@given(plant=PLANTS, load=loads(), config=configs(), dies_s=st.floats(2, 8))
def test_with_a_dead_failsafe_bounded_falls_back_to_strict_limits(
    plant: tuple[str, int | None], load: Load, config: Config, dies_s: float
) -> None:
    assume(floors_fit(plant[0], config))

    def unanswered(snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, failsafe_age_s=max(0.05, snapshot.time_s - dies_s))

    case = Case(*plant, load.trace(), config, distort=unanswered)
    outcome, governor = case.run()
    assert_no_harm(outcome)
    assert outcome.referee.continuous_broken_s == 0
    late = [decision.power for time_s, decision in governor.decisions if time_s > dies_s + 5.0]
    assert {power.guarantee for power in late} <= {Guarantee.STRICT}
    for power in late:
        assert sum(grant.board_w for grant in power.grants) <= 1.01 * power.gpu_pool_w  # the line moves, cards follow


@tries(8)
@given(
    plant=PLANTS,
    load=loads(),
    config=configs(),
    at_s=st.floats(1, 12),
    jump_s=st.sampled_from((-500.0, -7.0, -1.0, -0.05, 0.5, 3.0, 15.0, 5000.0)),
)
def test_a_clock_that_jumps_breaks_nothing(
    plant: tuple[str, int | None], load: Load, config: Config, at_s: float, jump_s: float
) -> None:
    assume(work_fits(plant[0], config))

    def jumped(snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, time_s=snapshot.time_s + jump_s) if snapshot.time_s > at_s else snapshot

    outcome, _ = Case(*plant, load.trace(), config, distort=jumped).run()
    assert_no_harm(outcome)
    bound = 1.005 if jump_s < 0 else 1.02  # the ten seconds before a jump are known by their mean alone
    assert outcome.referee.mean_a_max <= bound * promised_a(plant[0], config) + 1e-6


@tries(8)
@given(plant=PLANTS, load=loads(), config=configs(), at_s=st.floats(1, 12))
def test_a_daemon_that_starts_anew_in_the_middle_trips_nothing(
    plant: tuple[str, int | None], load: Load, config: Config, at_s: float
) -> None:
    assume(work_fits(plant[0], config))
    outcome, _ = Case(*plant, load.trace(), config, restarts_s=at_s).run()
    assert_no_harm(outcome)
    assert outcome.referee.mean_a_max <= LIED_TO * promised_a(plant[0], config)


def hair_dryer(seconds: float = 60.0, *, from_s: float = 30.0) -> tuple[Event, ...]:
    """12.5 A on the same circuit, unannounced."""
    on = Event(from_s, lambda one: setattr(one, "other_a", 12.5))
    return on, Event(from_s + seconds, lambda one: setattr(one, "other_a", 0.0))


@pytest.mark.parametrize("name", ["red", "green", "green-3090"])
@pytest.mark.parametrize("seed", [None, 0, 1, 5])
def test_a_hair_dryer_plugged_in_unannounced_freezes_the_work_and_nothing_trips(name: str, seed: int | None) -> None:
    case = Case(name, seed, Trace.of(everything(0.0, 150.0, kind="train")), events=hair_dryer())
    outcome, governor = case.run()
    assert_no_harm(outcome, heat=0.81)
    assert outcome.needless == 0
    acts = [(time_s, action) for time_s, decision in governor.decisions for action in decision.actions]
    frozen = [time_s for time_s, action in acts if isinstance(action, FreezeWork) and action.is_frozen]
    thawed = [time_s for time_s, action in acts if isinstance(action, FreezeWork) and not action.is_frozen]
    assert 30.0 < frozen[0] <= 38.0
    assert thawed and max(frozen) < thawed[-1]
    assert not any(isinstance(action, EndWork | PowerOff) for _, action in acts)
    seen = [time_s for time_s, decision in governor.decisions if decision.power.other_a > 0]
    assert 30.0 < seen[0] <= 30.25


@pytest.mark.parametrize("kind", ["train", "decode"])
@pytest.mark.parametrize("name", ["red", "green-3090"])
def test_under_lasting_load_the_continuous_budget_is_used_up_and_never_passed(name: str, kind: str) -> None:
    case = Case(name, None, Trace.of(everything(0.0, 60.0, kind=kind)))
    outcome, governor = case.run()
    assert outcome.referee.promise_broken_s == 0
    assert outcome.interventions == 0
    late = [decision.power.mean_a or 0.0 for time_s, decision in governor.decisions if time_s > 30.0]
    assert min(late) >= 0.93 * promised_a(name, Config())


@pytest.mark.parametrize(("on_s", "off_s"), [(0.3, 0.1), (0.05, 0.05), (1.0, 0.6), (0.13, 0.3)])
@pytest.mark.parametrize(("name", "seed"), [("red", 1), ("green-3090", 1), ("green-3090", 9), ("green", 1)])
def test_a_hair_dryer_is_found_beside_a_load_that_swings(name: str, seed: int, on_s: float, off_s: float) -> None:
    beats = [round(1.2 + (on_s + off_s) * i, 3) for i in range(round(60 / (on_s + off_s)))]
    trace = Trace.of([Row(at_s, index, "train", 1.0, on_s) for at_s in beats for index in range(6)])
    outcome, _ = Case(name, seed, trace, events=hair_dryer()).run()
    assert_no_harm(outcome, heat=0.81)


@pytest.mark.parametrize("what", ["psus frozen", "psus silent", "gpu silent", "gpu 10"])
def test_a_sensor_that_fails_is_said(what: str) -> None:
    outcome, governor = Case("red", None, Trace.of(beating()), distort=Lie(what, 12.0)).run()
    assert_no_harm(outcome)
    assert said(governor, from_s=12.0) - said(governor, until_s=12.0)


def test_a_controller_that_falls_silent_is_not_missed_while_the_supplies_speak() -> None:
    outcome, governor = Case("red", None, Trace.of(beating()), distort=Lie("bmc silent", 12.0)).run()
    assert_no_harm(outcome)
    assert outcome.referee.promise_broken_s == 0
    late = [decision.power.wall_source for time_s, decision in governor.decisions if time_s >= 12.0]
    assert set(late) == {WallSource.PSU}


def beating() -> list[Row]:
    """Full load, then a beat that moves everything."""
    rows = everything(0.0, 6.0, kind="train")
    return rows + [Row(float(i), index, "train", 1.0, 0.6) for i in range(6, 20) for index in range(6)]


def said(governor: Watched, *, from_s: float = 0.0, until_s: float = math.inf) -> set[str]:
    """Every word about sensors in that time, without its figures."""
    return {
        re.sub(r"\d+", "", alert.reason)
        for time_s, decision in governor.decisions
        if from_s <= time_s < until_s
        for alert in decision.alerts
        if alert.id in ("power", "gpu/0", "psu/0", "psu/1")
    }
