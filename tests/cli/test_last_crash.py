"""`tinybox health last-crash` on files of the real recorder, and on what is left of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.core.test_flight import turn
from tests.daemon.serving import serving
from tests.daemon.test_flight import fly
from tinybox.cli.health import health
from tinybox.cli.health_crash import picture
from tinybox.core.errors import TinyboxError
from tinybox.core.flight import CRASH_FILE, NOW_FILE, Flight, Sample, boot_id, pack_record, unpack_record
from tinybox.daemon.api import Board
from tinybox.daemon.flight import keep_crash
from tinybox.daemon.loop import Tick


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files are, for the command as well."""
    monkeypatch.setenv("TINYBOX_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("TINYBOX_RUN_DIR", str(tmp_path))
    return tmp_path


def said(*words: str) -> str:
    done = CliRunner().invoke(health, ("last-crash", *words))
    if isinstance(done.exception, TinyboxError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def crash() -> dict[str, Any] | None:
    loaded = json.loads(said("--json"))["crash"]
    assert loaded is None or isinstance(loaded, dict)
    return loaded


def test_a_box_that_never_fell_has_nothing_to_show(state: Path) -> None:
    assert crash() is None
    fly(state, "one", turns=5, is_clean=True)
    assert crash() is None
    assert "ended without a clean stop" in said()


def test_a_crash_that_was_put_aside_is_shown_to_its_end(state: Path) -> None:
    fly(state, "one", turns=50, is_clean=False)
    keep_crash(state, "two")
    found = crash()
    assert found is not None
    assert (found["box"], found["has_whole_machine_stopped"], found["reason"]) == ("red", True, "turn 50")
    assert [sample["wall_w"] for sample in found["samples"]] == [101.0 + n for n in range(50)]
    assert found["samples"][-1]["before_end_s"] == 0
    assert found["samples"][-1]["gpus"][0] == {
        "id": "gpu/0",
        "state": "awake",
        "power_w": 150.0,
        "clock_mhz": 1900.0,
        "junction_c": 70.0,
        **dict.fromkeys(("cap_w", "clock_limit_mhz", "edge_c", "memory_c", "fan_rpm", "busy_pct")),
    }
    assert found["samples"][-1]["gpus"][1]["state"] == "gone"
    shown = said()
    assert "the whole machine stopped" in shown and "last decided: turn 50" in shown
    assert len(json.loads(said("--seconds", "0.95", "--json"))["crash"]["samples"]) == 10


def test_a_daemon_that_is_dead_now_needs_no_successor_to_be_shown(state: Path) -> None:
    fly(state, boot_id(), turns=5, is_clean=False)
    found = crash()
    assert found is not None and not found["has_whole_machine_stopped"]
    assert "tinyboxd alone ended" in said()


def test_the_run_of_a_daemon_that_answers_is_no_crash(state: Path) -> None:
    fly(state, boot_id(), turns=5, is_clean=False)
    board = Board("red")
    board.publish(Tick(*turn(1)))
    with serving(board, state / "tinyboxd.sock"):
        assert crash() is None


def test_a_run_too_short_to_tell_anything_says_so(state: Path) -> None:
    fly(state, "one", turns=0, is_clean=False)
    with pytest.raises(TinyboxError, match="can be read"):
        crash()


def test_a_torn_file_shows_what_is_left(state: Path) -> None:
    fly(state, "one", turns=20, is_clean=False)
    (state / NOW_FILE).rename(state / CRASH_FILE)
    data = (state / CRASH_FILE).read_bytes()
    (state / CRASH_FILE).write_bytes(data[:9000])
    found = crash()
    assert found is not None
    assert 0 < len(found["samples"]) < 20


def samples(count: int, apart_s: float) -> tuple[Flight, list[Sample]]:
    """So many, that far apart, with watts that rise; the third quarter is missing."""
    flight = Flight("red", "one", 1e9, 2, 2)
    found = []
    for number in range(1, count + 1):
        snapshot, decision = turn(1, 100.0 + number)
        told = unpack_record(flight, pack_record(flight, number, replace(snapshot, time_s=number * apart_s), decision))
        assert told is not None
        if not count / 2 < number <= 3 * count / 4:
            found.append(told)
    return flight, found


@pytest.mark.parametrize("columns", [1, 80, 200])
@pytest.mark.parametrize(("count", "apart_s"), [(1, 0.1), (2, 0.1), (9000, 0.1), (100, 1.0)])
def test_the_picture_is_as_wide_as_the_terminal_and_has_a_gap_where_nothing_was_seen(
    columns: int, count: int, apart_s: float
) -> None:
    flight, told = samples(count, apart_s)
    lines = picture(flight, told, columns).splitlines()
    curves = [line for line in lines if line.startswith("wall ")]
    assert curves and all(len(line) <= max(columns, 56) for line in curves)
    bars = curves[0][14:].rpartition("  ")[0]
    assert bars.strip() and (" " in bars.strip()) == (count > 2)
    assert not any(line.startswith("processor") and "nan" in line for line in lines)
