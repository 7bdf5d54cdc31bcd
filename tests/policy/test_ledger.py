"""Amp-seconds of the promise's window: exact at any horizon, and never fewer for a clock that jumps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinybox.policy.ledger import WINDOW_S, Ledger, note, spent_as


def filled(amps: list[float], period_s: float) -> Ledger:
    """A first look, then one after each so many seconds at so many amps."""
    ledger = note((), 0.0, amps[0])
    for i, one in enumerate(amps, start=1):
        ledger = note(ledger, i * period_s, one)
    return ledger


def test_steady_amps_are_amps_times_seconds_at_every_horizon() -> None:
    ledger = filled([10.0] * 200, 0.1)
    for seconds in (0.05, 0.1, 0.77, 3.3, 9.99, 10.0):
        assert spent_as(ledger, seconds) == pytest.approx(10.0 * seconds)


@settings(max_examples=60, deadline=None)
@given(
    amps=st.lists(st.floats(0, 40), min_size=110, max_size=260),
    horizons=st.lists(st.integers(1, 100), min_size=1, max_size=8),
)
def test_at_ten_looks_a_second_every_tenth_is_exact(amps: list[float], horizons: list[int]) -> None:
    ledger = filled(amps, 0.1)
    for tenths in horizons:
        assert spent_as(ledger, tenths / 10) == pytest.approx(sum(amps[-tenths:]) * 0.1, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0.02, 2.0), st.floats(0, 40)), min_size=80, max_size=200),
    seconds=st.floats(0, 10),
)
def test_at_any_rate_the_sum_is_exact_where_entries_are_and_between_its_neighbours_elsewhere(
    steps: list[tuple[float, float]], seconds: float
) -> None:
    now_s, charge_as = 0.0, 0.0
    truth = [(0.0, 0.0)]
    ledger = note((), 0.0, 0.0)
    for period_s, amps in steps:
        now_s += period_s
        charge_as += period_s * amps
        truth.append((now_s, charge_as))
        ledger = note(ledger, now_s, amps)
    if now_s < WINDOW_S:
        return
    at_s = now_s - seconds
    before = max((one for one in truth if one[0] <= at_s + 1e-9), default=truth[0])
    after = min((one for one in truth if one[0] >= at_s - 1e-9), default=truth[-1])
    # Looks closer than the entries' spacing are merged: up to one spacing of the most amps may move across the edge.
    slack_as = 0.1 * 40.0
    spent = spent_as(ledger, seconds)
    assert charge_as - after[1] - slack_as <= spent <= charge_as - before[1] + slack_as


@settings(max_examples=30, deadline=None)
@given(amps=st.floats(1, 40), period_s=st.sampled_from([0.02, 0.1, 0.2, 1.0, 3.2]))
def test_the_ledger_stays_small_and_reaches_a_window_back(amps: float, period_s: float) -> None:
    ledger = filled([amps] * round(60 / period_s), period_s)
    assert len(ledger) <= 140
    assert ledger[0][0] <= ledger[-1][0] - WINDOW_S + 1e-6


def test_the_whole_window_is_never_more_than_its_amps() -> None:
    ledger = filled([0.0] * 50 + [12.0] * 50, 0.1)
    assert spent_as(ledger, WINDOW_S) == pytest.approx(60.0)


@pytest.mark.parametrize("jump_s", [-1000.0, -0.5, -0.001, 10.5, 3600.0])
def test_a_clock_that_jumps_counts_as_if_all_was_spent(jump_s: float) -> None:
    ledger = note(filled([12.0] * 120, 0.1), 12.0 + jump_s, 12.0)
    for seconds in (1.0, 5.0, 10.0):
        assert spent_as(ledger, seconds) == pytest.approx(12.0 * seconds)


@pytest.mark.parametrize("jump_s", [-1000.0, -0.5])
def test_a_clock_that_jumps_in_a_pause_forgets_nothing_that_was_spent(jump_s: float) -> None:
    """Ten amps on the mean, and the jump comes in a moment of two."""
    ledger = note(filled([12.5] * 80 + [0.0] * 20, 0.1), 10.0 + jump_s, 2.0)
    assert spent_as(ledger, WINDOW_S) >= 100.0 - 1e-6


def test_a_ledger_that_begins_under_load_does_not_take_the_past_for_a_rest() -> None:
    """A daemon that was restarted while cards worked."""
    ledger = note((), 500.0, 12.0)
    assert spent_as(ledger, WINDOW_S) == pytest.approx(120.0)
    ledger = note(ledger, 500.1, 12.0)
    assert spent_as(ledger, WINDOW_S) == pytest.approx(120.0)


def test_a_jump_back_leaves_a_ledger_that_goes_on() -> None:
    ledger = note(filled([12.0] * 120, 0.1), 2.0, 12.0)
    for i in range(1, 200):
        ledger = note(ledger, 2.0 + i / 10, 6.0)
    assert spent_as(ledger, WINDOW_S) == pytest.approx(60.0)


def test_the_same_time_twice_spends_nothing() -> None:
    ledger = filled([12.0] * 120, 0.1)
    assert spent_as(note(ledger, 12.0, 30.0), WINDOW_S) == pytest.approx(spent_as(ledger, WINDOW_S))
