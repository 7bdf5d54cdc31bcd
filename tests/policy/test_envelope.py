"""What a card may draw under its limits, and which limits hold it."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.conftest import card
from tinybox.core.box import Box, ClockPoint, load_box
from tinybox.core.commission import CardCommission, Commission
from tinybox.core.snapshot import Gpu, GpuState
from tinybox.policy.envelope import (
    CLOCK_STEP_MHZ,
    Envelope,
    board_max_w,
    floor_clock_mhz,
    floor_limits,
    known_of,
    limits_for,
    table_envelope,
)

BOXES = ("red", "green", "green-3090", "blue")


def line_w(box: Box, clock_mhz: float) -> float:
    """The table by the plainest means: linear between the points, flat outside them."""
    points = [(point.clock_mhz, point.board_power_max_w) for point in box.gpu.clock_table]
    if clock_mhz <= points[0][0]:
        return points[0][1]
    for (low, low_w), (high, high_w) in pairwise(points):
        if clock_mhz <= high:
            return low_w + (high_w - low_w) * (clock_mhz - low) / (high - low)
    return points[-1][1]


@settings(max_examples=200)
@given(name=st.sampled_from(BOXES), clock_mhz=st.integers(1, 4000))
def test_a_clock_never_counts_with_less_than_the_table_says(name: str, clock_mhz: int) -> None:
    box = load_box(name)
    envelope = table_envelope(box.gpu)
    true_w = min(line_w(box, clock_mhz) * box.gpu.clock_table_margin, box.gpu.board_power_max_w)
    assert true_w - 1e-9 <= envelope.most_w(clock_mhz) <= box.gpu.board_power_max_w
    if clock_mhz > box.gpu.clock_table[-1].clock_mhz:
        assert envelope.most_w(clock_mhz) == box.gpu.board_power_max_w


@settings(max_examples=200)
@given(name=st.sampled_from(BOXES), first=st.integers(1, 4000), second=st.integers(1, 4000))
def test_a_lower_clock_never_counts_with_more(name: str, first: int, second: int) -> None:
    envelope = table_envelope(load_box(name).gpu)
    low, high = sorted((first, second))
    assert envelope.most_w(low) <= envelope.most_w(high)
    assert envelope.nominal_w(low) <= envelope.nominal_w(high)


@settings(max_examples=200)
@given(name=st.sampled_from(BOXES), share_w=st.floats(1, 700))
def test_the_clock_for_watts_holds_them_and_the_next_step_would_not(name: str, share_w: float) -> None:
    box = load_box(name)
    envelope = table_envelope(box.gpu)
    clock = envelope.clock_for_w(share_w)
    least, most = envelope.clocks_mhz[0], envelope.clocks_mhz[-1]
    assert clock % CLOCK_STEP_MHZ == 0
    if clock > least:
        assert envelope.most_w(clock) <= share_w + 1e-6
    if clock + CLOCK_STEP_MHZ < most and envelope.most_w(clock + CLOCK_STEP_MHZ) < envelope.ceiling_w:
        assert envelope.most_w(clock + CLOCK_STEP_MHZ) > share_w - 1e-6


@settings(max_examples=100)
@given(clock_mhz=st.integers(500, 2965))
def test_watts_of_a_clock_lead_back_to_it(clock_mhz: int) -> None:
    envelope = table_envelope(load_box("red").gpu)
    watts = envelope.most_w(clock_mhz)
    if watts < envelope.ceiling_w:
        assert clock_mhz - CLOCK_STEP_MHZ <= envelope.clock_for_w(watts + 1e-6) <= clock_mhz + CLOCK_STEP_MHZ


@given(name=st.sampled_from(BOXES), share_w=st.floats(0, 500), least_w=st.sampled_from([0.0, 1.0, 100.0, 261.0]))
def test_limits_hold_any_share_that_the_levers_reach(name: str, share_w: float, least_w: float) -> None:
    box = load_box(name)
    gpu = card(0, box, cap_min_w=least_w)
    limits = limits_for(share_w, gpu, box.gpu)
    held_w = board_max_w(replace(gpu, cap_w=limits.cap_w, clock_limit_mhz=limits.clock_mhz), box.gpu)
    floor_w = table_envelope(box.gpu).most_w(box.gpu.clock_min_mhz)
    assert held_w <= max(share_w, floor_w) + 1e-6
    assert limits.cap_w >= 100.0


@pytest.mark.parametrize("name", BOXES)
def test_floor_limits_are_the_lowest_that_a_card_takes(name: str) -> None:
    box = load_box(name)
    gpu = card(0, box)
    limits = floor_limits(gpu, box.gpu)
    assert limits.clock_mhz == floor_clock_mhz(gpu, box.gpu) == box.gpu.clock_min_mhz
    assert limits.cap_w == max(box.gpu.cap_min_w, 100.0)
    assert floor_limits(replace(gpu, has_clock_lever=False), box.gpu).clock_mhz is None


def test_a_coarse_lever_knows_only_its_lowest_clock(red: Box) -> None:
    gpu = card(0, red, clock_lever_is_coarse=True)
    assert limits_for(150.0, gpu, red.gpu).clock_mhz == red.gpu.clock_min_mhz
    assert limits_for(400.0, gpu, red.gpu).clock_mhz == red.gpu.clock_max_mhz


def test_a_limit_that_nobody_could_read_does_not_count(red: Box) -> None:
    blind = Gpu("gpu/0", GpuState.AWAKE, red.gpu.slots[0])
    assert board_max_w(blind, red.gpu) == red.gpu.board_power_max_w


def test_a_cap_of_nothing_counts_as_a_cap_that_is_not_there_and_never_as_no_watts(red: Box) -> None:
    assert board_max_w(card(0, red, cap_w=0.0), red.gpu) >= 100.0


def test_a_measured_card_has_its_own_table_and_the_others_the_kinds(red: Box) -> None:
    table = (ClockPoint(500, 70.0), ClockPoint(2965, 300.0))
    commission = Commission("red", (CardCommission("gpu/2", red.gpu.slots[2], 0.81, table),), margin=1.05)
    known = known_of(red, commission)
    assert known["gpu/2"].envelope.most_w(500) == pytest.approx(70.0 * 1.05)
    assert known["gpu/2"].sensor_to_board == 0.81
    assert known["gpu/1"].envelope == table_envelope(red.gpu)
    assert isinstance(known["gpu/0"].envelope, Envelope)


def test_an_estimate_is_widened_by_fifteen_percent() -> None:
    for name in BOXES:
        box = load_box(name)
        first = box.gpu.clock_table[0]
        assert box.gpu.clock_table_margin == 1.15
        assert table_envelope(box.gpu).most_w(first.clock_mhz) == pytest.approx(first.board_power_max_w * 1.15)
