"""What is a figure, and what only looks like one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinybox.hw.figures import positive, whole


@given(st.integers(0, 2**64 - 1))
def test_every_count_of_64_bits_is_read(count: int) -> None:
    assert whole(f" {count}\n") == count


@pytest.mark.parametrize("text", [None, "", "-1", "+1", "--5", "1.0", "0x10", "1_000", "²", "٣", "9" * 5000, "1 2"])
def test_what_is_no_count_is_none(text: str | None) -> None:
    assert whole(text) is None


@given(st.text())
def test_no_text_raises_or_is_a_figure_beyond_reason(text: str) -> None:
    count, figure = whole(text), positive(text)
    assert count is None or 0 <= count < 10**20
    assert figure is None or 0 < figure < math.inf


@pytest.mark.parametrize("text", [None, "", "Unknown", "nan", "inf", "-inf", "1e999", "-5", "0", "9" * 5000])
def test_what_is_no_figure_above_zero_is_none(text: str | None) -> None:
    assert positive(text) is None


def test_the_first_word_is_the_figure() -> None:
    assert positive("16.0 GT/s PCIe") == 16.0
    assert positive("90123.45 1000.00") == 90123.45
