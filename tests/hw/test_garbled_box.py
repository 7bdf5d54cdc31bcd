"""A box one of whose files says nonsense: nothing raises, and the other devices read as they did."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hw.conftest import RECORDED
from tinybox.core.box import load_box
from tinybox.core.config import Config
from tinybox.hw.hardware import FastReading, Hardware, SlowReading
from tinybox.hw.host import Host

RED = load_box("red")
FILES = sorted(
    str(path.relative_to(RECORDED))
    for path in RECORDED.rglob("*")
    if path.is_file() and not path.is_symlink() and path.name != "expected.json"
)
HUGE = "9" * 5000  # more digits than int() takes
NUMBERS = ["", "-1", "--5", "nan", "inf", "-inf", "1e999", "0x", "²", "٣", HUGE, f"-{HUGE}", f"TOTAL_ERR_COR {HUGE}"]
DOCUMENTS = [
    "{",
    "[]",
    "{}",
    "null",
    '{"temperature": NaN}',
    '{"temperature": 1e999}',
    '{"media_errors": true}',
    "[" * 9000,
]
NONSENSE = st.one_of(st.sampled_from([*NUMBERS, *DOCUMENTS]).map(str.encode), st.binary(max_size=60))


def look(root: Path) -> tuple[FastReading, SlowReading]:
    hardware = Hardware(Host(root), RED, Config())
    try:
        return hardware.read_fast(10.0), hardware.read_slow(10.0)
    finally:
        hardware.release()


def figures(value: Any) -> Iterator[float]:
    """Every number in a reading, however deep."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from figures(getattr(value, field.name))
    elif isinstance(value, tuple):
        for one in value:
            yield from figures(one)
    elif isinstance(value, int | float):
        yield float(value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.sampled_from(FILES), NONSENSE)
def test_one_file_of_nonsense_raises_nothing_and_gives_no_figure_that_is_none(
    copy: Host, name: str, data: bytes
) -> None:
    path = copy.root / name
    said = path.read_bytes()
    path.write_bytes(data)
    try:
        fast, slow = look(copy.root)
    finally:
        path.write_bytes(said)
    assert all(math.isfinite(figure) for figure in (*figures(fast), *figures(slow)))
    assert len(fast.gpus) == len(RED.slots)
