"""The flight recorder's file: what was put in comes out, and whatever is torn in it is left out and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinybox.core.acoustics import Level
from tinybox.core.box import load_box
from tinybox.core.decision import Decision, PowerView, WallSource
from tinybox.core.errors import TinyboxError
from tinybox.core.flight import (
    GPU_FIGURES,
    HEADER_BYTES,
    MACHINE_FIGURES,
    Flight,
    file_bytes,
    pack_header,
    pack_record,
    place_of,
    read_flight,
    record_bytes,
    unpack_header,
    unpack_record,
)
from tinybox.core.snapshot import Bmc, Cpu, Fan, Gpu, GpuState, Snapshot

FLIGHT = Flight("red", "0d5e5e50-0000-4000-8000-000000000001", 1e9, gpus=2, fans=2, records=8)
FIGURE = st.none() | st.floats(allow_nan=False)


def turn(number: int, watts: float | None = None, reason: str = "") -> tuple[Snapshot, Decision]:
    """A machine of two cards, one of them gone, at the second of that number."""
    power = PowerView(watts, WallSource.PSU, 1440.0, 12.0, 120.0, 900.0, amps=10.0 + number, breaker_heat=0.25)
    cards = (
        Gpu("gpu/0", GpuState.AWAKE, "0000:03:00.0", power_w=watts, clock_mhz=1900, junction_c=70.0),
        Gpu("gpu/1", GpuState.GONE, "0000:23:00.0"),
    )
    snapshot = Snapshot(
        number / 10, 1e9 + number / 10, cards, Cpu(power_w=60.0), (Fan("fan/1", 900.0),), bmc=Bmc(inlet_c=25.0)
    )
    return snapshot, Decision((), (), reason, power, Level(31.5, 1.0, False, ()), 0.1)


def recorded(path: Path, count: int) -> bytes:
    """A file in which so many turns were written, the later ones over the first."""
    data = bytearray(file_bytes(FLIGHT))
    header = pack_header(FLIGHT)
    data[: len(header)] = header
    for number in range(1, count + 1):
        place = place_of(FLIGHT, number)
        data[place : place + record_bytes(FLIGHT)] = pack_record(FLIGHT, number, *turn(number, 100.0 + number))
    path.write_bytes(data)
    return bytes(data)


def test_a_record_says_what_the_turn_said() -> None:
    snapshot, decision = turn(7, 300.0, reason="GPU 0 capped: 1,436 of 1,440 W · für alle")
    sample = unpack_record(FLIGHT, pack_record(FLIGHT, 7, snapshot, decision))
    assert sample is not None
    assert (sample.number, sample.time_s, sample.unix_s) == (7, 0.7, 1e9 + 0.7)
    assert sample.reason == decision.reason
    told = {"wall_w": 300.0, "budget_w": 1440.0, "amps": 17.0, "line_v": 120.0, "breaker_heat": 0.25, "cpu_w": 60.0}
    assert {name: sample.machine[name] for name in told} == told
    assert (sample.machine["mean_a"], sample.machine["inlet_c"], sample.machine["noise_dba"]) == (None, 25.0, 31.5)
    assert sample.states == (GpuState.AWAKE, GpuState.GONE)
    assert (sample.gpus[0]["power_w"], sample.gpus[0]["clock_mhz"], sample.gpus[0]["junction_c"]) == (300, 1900, 70)
    assert set(sample.gpus[1].values()) == {None}
    assert sample.fans_rpm == (900.0, None)
    assert set(sample.machine) == set(MACHINE_FIGURES)
    assert set(sample.gpus[0]) == set(GPU_FIGURES)


@given(FIGURE, st.text(max_size=300), st.integers(1, 2**60))
def test_no_reading_is_too_strange_to_be_recorded(watts: float | None, reason: str, number: int) -> None:
    sample = unpack_record(FLIGHT, pack_record(FLIGHT, number, *turn(1, watts, reason=reason)))
    assert sample is not None
    assert (sample.machine["wall_w"] is None) == (watts is None)
    assert reason.startswith(sample.reason.rstrip("?")) or "\0" in reason or not reason.isascii()


def test_cards_that_the_header_does_not_count_are_left_out_and_missing_ones_unreadable() -> None:
    snapshot, decision = turn(1, 100.0)
    many = replace(snapshot, gpus=snapshot.gpus * 3, fans=snapshot.fans * 5)
    none = replace(snapshot, gpus=(), fans=())
    for strange, told in ((many, 100.0), (none, None)):
        sample = unpack_record(FLIGHT, pack_record(FLIGHT, 1, strange, decision))
        assert sample is not None
        assert sample.gpus[0]["power_w"] == told
        assert len(sample.gpus) == len(sample.fans_rpm) == 2


def test_the_ring_keeps_the_newest_in_their_order(tmp_path: Path) -> None:
    recorded(tmp_path / "flight", 20)
    flight, samples = read_flight(tmp_path / "flight")
    assert flight == FLIGHT
    assert [sample.number for sample in samples] == list(range(13, 21))
    assert [sample.machine["wall_w"] for sample in samples] == [100.0 + n for n in range(13, 21)]


def test_fifteen_minutes_of_the_largest_box_fit_a_few_megabytes() -> None:
    box = load_box("mixed")
    assert file_bytes(Flight(box.name, "", 0.0, len(box.slots), box.fans.count)) < 6e6


@settings(max_examples=200)
@given(data=st.data())
def test_what_is_torn_is_left_out_and_the_rest_is_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("torn") / "flight"
    whole = recorded(path, data.draw(st.integers(0, 20)))
    _, intact = read_flight(path)
    if data.draw(st.booleans()):
        start = data.draw(st.integers(HEADER_BYTES, len(whole)))
        garbage = data.draw(st.binary(min_size=1, max_size=2 * record_bytes(FLIGHT)))
        torn = (whole[:start] + garbage + whole[start + len(garbage) :])[: len(whole)]
    else:
        torn = whole[: data.draw(st.integers(HEADER_BYTES, len(whole)))]
    path.write_bytes(torn)
    flight, samples = read_flight(path)
    assert flight == FLIGHT
    touched = {
        place_of(FLIGHT, n)
        for n in range(1, 9)
        if torn[place_of(FLIGHT, n) : place_of(FLIGHT, n) + record_bytes(FLIGHT)]
        != whole[place_of(FLIGHT, n) : place_of(FLIGHT, n) + record_bytes(FLIGHT)]
    }
    assert [s for s in intact if place_of(FLIGHT, s.number) not in touched] == list(samples)


@given(st.binary(max_size=2 * HEADER_BYTES) | st.integers(0, 200).map(lambda n: pack_header(FLIGHT)[:n]))
def test_a_header_that_is_not_whole_is_none(data: bytes) -> None:
    whole = pack_header(FLIGHT)
    assert (unpack_header(data) is None) == (not data.startswith(whole))


def test_another_files_content_and_no_file_are_two_lines_for_people(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("something else\n")
    for name, words in (("other", "no recording"), ("none", "cannot read")):
        with pytest.raises(TinyboxError, match=words) as caught:
            read_flight(tmp_path / name)
        assert caught.value.hint


def test_a_header_keeps_who_it_is_of() -> None:
    for flight in (FLIGHT, replace(FLIGHT, is_clean=True), replace(FLIGHT, found_boot="another")):
        assert unpack_header(pack_header(flight)) == flight
    assert not FLIGHT.has_whole_machine_stopped
    assert replace(FLIGHT, found_boot="another").has_whole_machine_stopped
    assert not replace(FLIGHT, found_boot=FLIGHT.boot).has_whole_machine_stopped
