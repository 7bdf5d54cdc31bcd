"""The clairvoyants against brute force, by hand, and against each other."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinybox.core.box import Box, load_box
from tinybox.replay.bound import Hulls, bound
from tinybox.replay.demand import Demand
from tinybox.replay.frontier import TOLERANCE, Card, Frontier, allocate, pareto
from tinybox.replay.optimum import steady, strict_optimum
from tinybox.replay.supply import Promise, Supply, promises_of
from tinybox.replay.trace import KINDS, Row, Trace
from tinybox.twin.constants import load_plant
from tinybox.twin.gpu import CLOCK_STEP_MHZ, Silicon
from tinybox.twin.plant import Plant

RED, GREEN = load_box("red"), load_box("green-3090")
EXACT = 3e-4


def supply_of(box: Box, seed: int | None = None) -> Supply:
    return Supply(box, load_plant(box, seed), cpu_w=60.0, rest_w=60.0)


def promise_of(supply: Supply, spare_w: float) -> tuple[Promise, ...]:
    """So many amps that the cards have `spare_w` above idle."""
    return (Promise(0.0, supply.amps(supply.idle_w + spare_w)),)


def options(supply: Supply, gpu: int, kind: str, load: float, step: int = 1) -> list[tuple[float, float]]:
    """(watts, rate) of a card left out and at every `step`th level, straight from the plant's curves."""
    silicon, box = Silicon.of(supply.kind.gpus[gpu], supply.box.gpu), supply.box.gpu
    curve, idle_w = silicon.curves[kind], silicon.kind.idle_w
    found = [(0.0, 0.0)]
    for clock_mhz in range(box.clock_min_mhz, box.clock_max_mhz + 1, step * CLOCK_STEP_MHZ):
        watts = silicon.board_w(load, clock_mhz, kind) - idle_w
        if curve.active_w[clock_mhz // CLOCK_STEP_MHZ] + idle_w <= box.cap_default_w / silicon.kind.socket_to_board:
            found.append((watts, min(load, curve.speed[clock_mhz // CLOCK_STEP_MHZ])))
    return found


def brute(choices: Sequence[Sequence[tuple[float, float]]], budget_w: float) -> float:
    return max(
        sum(rate for _, rate in one)
        for one in itertools.product(*choices)
        if sum(watts for watts, _ in one) <= budget_w + 1e-9
    )


def straight(floor_w: float, per_mhz: float, clock_mhz: float) -> float:
    """An envelope without bends."""
    return floor_w + per_mhz * clock_mhz


steps = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 40)), min_size=1, max_size=5)


@given(st.lists(steps, min_size=1, max_size=4), st.integers(0, 400))
def test_allocation_is_that_of_brute_force(shapes: list[list[tuple[int, int]]], budget_w: int) -> None:
    fronts, choices = [], []
    for shape in shapes:
        watts = [0.0, *itertools.accumulate(float(w) for w, _ in shape)]
        rates = [0.0, *itertools.accumulate(r / 10 for _, r in shape)]
        fronts.append(Frontier(tuple(watts), tuple(rates), (False,) * len(shape)))
        choices.append(list(zip(watts, rates, strict=True)))
    fronts.append(fronts[0])  # interchangeable ones have a rule of their own
    choices.append(choices[0])
    best = brute(choices, budget_w)
    assert best * (1 - TOLERANCE) - 1e-9 <= sum(allocate(fronts, budget_w)) <= best + 1e-9


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 40)), min_size=2, max_size=4), st.integers(0, 300))
def test_between_linked_points_everything_is_possible(shape: list[tuple[int, int]], budget_w: int) -> None:
    watts = [0.0, *itertools.accumulate(w for w, _ in shape)]
    rates = [0.0, *itertools.accumulate(r / 10 for _, r in shape)]
    one = Frontier(tuple(watts), tuple(rates), (False, *[True] * (len(shape) - 1)))
    grid = [(float(w), one.rate_at(w)) for w in range(int(watts[1]), int(watts[-1]) + 1)]
    best = brute([[(0.0, 0.0), *grid]] * 2, budget_w)
    assert sum(allocate([one, one], budget_w)) >= best * (1 - TOLERANCE)


def test_points_that_a_cheaper_one_beats_are_gone() -> None:
    front = pareto([(0.0, 0.0, False), (5.0, 1.0, True), (9.0, 2.0, True), (7.0, 3.0, True)])
    assert (front.watts, front.rate, front.linked) == ((0.0, 5.0, 7.0), (0.0, 1.0, 3.0), (False, False))


@pytest.mark.parametrize("box", [RED, GREEN], ids=lambda box: box.name)
@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("spare_w", [60, 150, 260, 330, 450])
def test_two_cards_get_what_brute_force_over_every_level_gets(box: Box, seed: int | None, spare_w: float) -> None:
    supply = supply_of(box, seed)
    for kinds, loads in ((("decode", "decode"), (1.0, 1.0)), (("train", "prefill"), (0.9, 0.35))):
        rows = [Row(0, i, kind, load, 1.0) for i, (kind, load) in enumerate(zip(kinds, loads, strict=True))]
        choices = [options(supply, i, kind, load) for i, (kind, load) in enumerate(zip(kinds, loads, strict=True))]
        best = brute(choices, spare_w)
        found = steady(Trace.of(rows), supply, promise_of(supply, spare_w)).work_s
        # Levels lie 5 MHz apart; between them the frontier goes on.
        assert best * (1 - EXACT) <= found <= best + 0.012


@pytest.mark.parametrize("spare_w", [150, 330, 520])
def test_three_cards_get_at_least_what_brute_force_over_coarse_levels_gets(spare_w: float) -> None:
    supply = supply_of(GREEN, 7)
    wants = [("decode", 1.0), ("train", 0.8), ("mixed", 0.5)]
    rows = [Row(0, i, kind, load, 1.0) for i, (kind, load) in enumerate(wants)]
    choices = [options(supply, i, kind, load, step=6) for i, (kind, load) in enumerate(wants)]
    best = brute(choices, spare_w)
    assert best * (1 - EXACT) <= steady(Trace.of(rows), supply, promise_of(supply, spare_w)).work_s <= best + 0.06


@pytest.mark.parametrize("spare_w", [100, 200, 330, 480])
def test_a_synchronous_job_is_brute_force_over_the_levels_of_its_members(spare_w: float) -> None:
    supply, loads = supply_of(GREEN, 5), (1.0, 0.6)
    silicon = [Silicon.of(one, GREEN.gpu) for one in supply.kind.gpus]
    levels = range(GREEN.gpu.clock_min_mhz // CLOCK_STEP_MHZ, GREEN.gpu.clock_max_mhz // CLOCK_STEP_MHZ + 1)
    curves = [one.curves["train"] for one in silicon[:2]]
    best = 0.0
    for pair in itertools.product(levels, repeat=2):
        speeds = [curve.speed[level] for curve, level in zip(curves, pair, strict=True)]
        progress = min(1.0, *(speed / load for speed, load in zip(speeds, loads, strict=True)))
        busy = [min(1.0, load * progress / speed) for speed, load in zip(speeds, loads, strict=True)]
        if sum(curve.active_w[level] * b for curve, level, b in zip(curves, pair, busy, strict=True)) <= spare_w:
            best = max(best, progress)
    trace = Trace.of([Row(0, i, "train", load, 1.0) for i, load in enumerate(loads)])
    served_s = steady(trace, supply, promise_of(supply, spare_w)).served_s
    assert served_s[0] / loads[0] == pytest.approx(served_s[1] / loads[1])
    assert served_s[0] == pytest.approx(best, abs=0.005)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(5, 100), min_size=2, max_size=6), st.floats(0, 1200), st.sampled_from([None, 1, 2]))
def test_a_synchronous_job_is_never_split(loads: list[int], spare_w: float, seed: int | None) -> None:
    supply = supply_of(RED, seed)
    trace = Trace.of([Row(0, i, "train", load / 100, 1.0) for i, load in enumerate(loads)])
    served_s = steady(trace, supply, promise_of(supply, spare_w)).served_s
    progress = [one / row.load for one, row in zip(served_s, trace.rows, strict=True)]
    assert max(progress) - min(progress) < 1e-9


def test_parking_beats_equal_shares_at_dense_decode_on_3090s_and_not_on_7900s() -> None:
    trace = Trace.of([Row(0, i, "decode", 1.0, 1.0) for i in range(6)])
    parked = {}
    for box in (RED, GREEN):
        supply = supply_of(box)
        promises = promises_of(12.0)
        spare_w = supply.spare_w(promises[0])
        equal = 6 * max(rate for watts, rate in options(supply, 0, "decode", 1.0) if watts <= spare_w / 6)
        optimum = steady(trace, supply, promises)
        parked[box.name] = sum(one == 0 for one in optimum.served_s)
        assert optimum.work_s >= equal * (1 - EXACT)
        assert (optimum.work_s > equal * 1.1) == (box is GREEN)
    assert parked == {"red": 0, "green-3090": 2}


def test_a_chain_by_hand() -> None:
    supply, spare_w = supply_of(RED), 150.0
    speed = max(rate for watts, rate in options(supply, 0, "decode", 1.0) if watts <= spare_w)
    rows = [
        Row(0.0, 0, "decode", 1.0, 1.0, "a"),
        Row(0.0, 1, "decode", 1.0, 1.0, "b", "a"),
        Row(0.0, 0, "decode", 1.0, 1.0, "c", "b"),
    ]
    optimum = steady(Trace.of(rows), supply, promise_of(supply, spare_w))
    # One card at a time, three seconds in all: the third task is still at it when the trace ends.
    assert optimum.served_s == pytest.approx([1.0, 1.0, 3 * speed - 2], abs=0.01)
    free = steady(Trace.of(rows), supply, promise_of(supply, 400.0))
    assert free.served_s == pytest.approx([1.0, 1.0, 1.0], abs=1e-3)


def test_the_promise_is_followed_where_it_changes() -> None:
    supply = supply_of(RED)
    trace = Trace.of([Row(0, i, "decode", 1.0, 4.0) for i in range(6)])
    before, after = (steady(trace, supply, promises_of(amps)).work_s for amps in (12.0, 5.0))
    both = steady(trace, supply, promises_of(12.0, other=[(0.0, 0.0), (1.0, 7.0)]))
    sagged = steady(trace, supply, [Promise(0.0, 5.0, other_a=7.0)]).work_s
    assert sagged < after
    assert both.work_s == pytest.approx(before / 4 + sagged * 3 / 4)


def test_grants_are_held_by_idle_cards_too() -> None:
    supply, loads = supply_of(GREEN, 3), (1.0, 0.7, 0.4)
    envelopes = [partial(straight, 100 + i, 0.15) for i in range(6)]
    silicon = [Silicon.of(one, GREEN.gpu) for one in supply.kind.gpus]
    clocks = range(GREEN.gpu.clock_min_mhz, GREEN.gpu.clock_max_mhz + 1, 30)
    floor_w = [envelope(GREEN.gpu.clock_min_mhz) for envelope in envelopes]
    choices = [
        [
            (envelopes[i](mhz) - floor_w[i], min(load, silicon[i].curves["decode"].speed[mhz // CLOCK_STEP_MHZ]))
            for mhz in clocks
        ]
        for i, load in enumerate(loads)
    ]
    trace = Trace.of([Row(0, i, "decode", load, 1.0) for i, load in enumerate(loads)])
    for spare_w in (0.0, 120.0, 300.0, 900.0):
        best = brute(choices, spare_w)
        pool_w = sum(floor_w) + spare_w
        found = strict_optimum(trace, GREEN, supply.kind, envelopes=envelopes, pool_w=pool_w).work_s
        assert best * (1 - EXACT) <= found <= best + 0.06


def test_a_synchronous_job_under_grants_goes_as_fast_as_its_slowest() -> None:
    supply = supply_of(RED, 3)
    trace = Trace.of([Row(0, i, "train", load, 1.0) for i, load in enumerate((1.0, 0.5))])
    envelopes = [partial(straight, 0, 0.1)] * 6
    served_s = strict_optimum(trace, RED, supply.kind, envelopes=envelopes, pool_w=6 * 50 + 150).served_s
    assert served_s[0] == pytest.approx(2 * served_s[1])
    curves = [Silicon.of(one, RED.gpu).curves["train"].speed for one in supply.kind.gpus[:2]]
    best = max(min(curves[0][100 + i], curves[1][100 + 300 - i] / 0.5) for i in range(301))
    assert served_s[0] == pytest.approx(best, abs=0.01)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_amps_are_those_of_the_plant_once_settled(seed: int | None) -> None:
    plant = Plant.of(RED, load_plant(RED, seed))
    plant.other_a, plant.line_scale = 2.0, 0.98
    for i, gpu in enumerate(plant.gpus):
        gpu.load, gpu.clock_limit_mhz = 1.0, 700 + 200 * i
    plant.advance(5)
    supply = Supply(RED, plant.kind, plant.cpu_w, plant.dc_w() - plant.cpu_w - sum(gpu.board_w for gpu in plant.gpus))
    assert supply.amps(plant.dc_w(), 0.98, 2.0) == pytest.approx(plant.line_a, rel=1e-4)
    for amps in (2.5, 7.0, 12.0, 16.0):
        assert supply.amps(supply.dc_w(amps, 0.98, 2.0), 0.98, 2.0) == pytest.approx(amps, abs=1e-6)
    assert supply.amps(2e4) == math.inf


def test_thinned_levels_tell_no_more_than_a_straight_line_would() -> None:
    silicon = Silicon.of(load_plant(GREEN).gpu, GREEN.gpu)
    curve = silicon.curves["decode"]
    watts, speeds = curve.active_w[42:340], curve.speed[42:340]
    card = Card.of(watts, speeds)
    assert len(card.watts) < len(watts) / 3
    for watt, speed in zip(watts, speeds, strict=True):
        assert card.frontier(1.0).rate_at(watt) == pytest.approx(speed, abs=1.1e-4)


def test_a_hull_lies_on_or_above_every_level() -> None:
    supply = supply_of(GREEN, 2)
    for kind in KINDS:
        found = Hulls(supply).hull(0, kind)
        curve = Silicon.of(supply.kind.gpus[0], GREEN.gpu).curves[kind]
        for watts, speed in zip(curve.active_w, curve.speed, strict=True):
            assert found.least_w(speed) <= watts + 1e-6
            assert found.least_w(speed / 2) <= watts / 2 + 1e-6


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    rows = []
    ids: list[str] = []
    for gpu in range(draw(st.integers(1, 6))):
        time_ms = draw(st.integers(0, 3000))
        for _ in range(draw(st.integers(1, 4))):
            kind, load = draw(st.sampled_from(KINDS)), draw(st.integers(1, 100)) / 100
            last_ms = draw(st.sampled_from([20, 700, 3000, 9000]))
            rows.append(Row(time_ms / 1000, gpu, kind, load, last_ms / 1000))
            time_ms += last_ms + draw(st.sampled_from([0, 0, 1500]))
    rows.sort(key=lambda row: row.time_s)
    chained = draw(st.booleans())
    for i, row in enumerate(rows):
        if chained and draw(st.booleans()):
            after = draw(st.sampled_from(["", *ids]))
            rows[i] = replace(row, id=f"r{i}", after=after)
            ids.append(f"r{i}")
    return Trace.of(rows)


changes = st.lists(st.floats(0, 6), min_size=0, max_size=2)


@settings(max_examples=40, deadline=None)
@given(traces(), st.sampled_from(["red", "green-3090"]), st.sampled_from([None, 1, 2]), st.floats(3, 14), changes)
def test_the_bound_is_never_below_steady(
    trace: Trace, name: str, seed: int | None, limit_a: float, others_a: list[float]
) -> None:
    supply = supply_of(load_box(name), seed)
    other = [(0.0, 0.0), *((4.0 + 7 * i, amps) for i, amps in enumerate(others_a))]
    promises = promises_of(limit_a, other=other)
    optimum = steady(trace, supply, promises)
    assert optimum.work_s <= bound(trace, supply, promises) + 1e-6
    for served_s, row in zip(optimum.served_s, trace.rows, strict=True):
        assert served_s <= row.work_s + 1e-6


@pytest.mark.parametrize("box", [RED, GREEN], ids=lambda box: box.name)
@pytest.mark.parametrize(("on_s", "off_s"), [(0.02, 0.02), (0.3, 0.1), (2.0, 3.0), (12.0, 8.0), (40.0, 0.0)])
def test_limits_that_keep_the_promise_on_the_plant_stay_below_the_bound(box: Box, on_s: float, off_s: float) -> None:
    rows, time_s = [], 0.0
    while time_s < 40:
        rows += [Row(round(time_s, 3), i, "decode", 1.0, on_s) for i in range(6)]
        time_s += on_s + off_s
    trace, kind = Trace.of(rows), load_plant(box, 5)
    reached = []
    for clock_mhz in (700, 1300, 1900):
        plant, demand = Plant.of(box, kind), Demand(trace)
        for gpu in plant.gpus:
            gpu.clock_limit_mhz = clock_mhz
        amps = []
        for i in range(round(trace.end_s / 0.01)):
            demand.apply(plant, i * 0.01, 0.01)
            plant.step(0.01)
            amps.append(plant.line_a)
        windows_a = [sum(amps[i : i + 1000]) / 1000 for i in range(0, len(amps) - 999, 25)]
        supply = Supply(box, kind, plant.cpu_w, plant.dc_w() - plant.cpu_w - sum(g.board_w for g in plant.gpus))
        most = bound(trace, supply, [Promise(0.0, max(windows_a))])
        reached.append(demand.work_s / most)
        assert reached[-1] <= 1
    assert max(reached) > 0.8
