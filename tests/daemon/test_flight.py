"""The flight recorder at work: what a run that was cut short leaves behind, and what never displaces it."""

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Rig
from tests.core.test_flight import turn
from tinybox.core.box import load_box
from tinybox.core.flight import CRASH_FILE, NOW_FILE, read_flight, read_header
from tinybox.daemon.flight import SHORT_S, Recorder, keep_crash
from tinybox.daemon.loop import Tick

RED = load_box("red")


def fly(folder: Path, boot: str, *, turns: int, is_clean: bool, first: int = 1) -> None:
    """A whole run of so many tenths of a second."""
    recorder = Recorder(folder, RED, boot)
    for number in range(first, first + turns):
        recorder.note(Tick(*turn(number, 100.0 + number, reason=f"turn {number}")))
    recorder.start()
    recorder.stop(is_clean=is_clean)


def test_a_clean_run_is_nobodys_crash(tmp_path: Path) -> None:
    fly(tmp_path, "one", turns=5, is_clean=True)
    keep_crash(tmp_path, "two")
    assert not (tmp_path / CRASH_FILE).exists()
    flight, samples = read_flight(tmp_path / NOW_FILE)
    assert (flight.box, flight.boot, flight.is_clean, len(samples)) == ("red", "one", True, 5)


def test_a_run_without_an_end_is_put_aside_with_who_found_it(tmp_path: Path) -> None:
    fly(tmp_path, "one", turns=5, is_clean=False)
    fly(tmp_path, "two", turns=3, is_clean=True)
    flight, samples = read_flight(tmp_path / CRASH_FILE)
    assert flight.has_whole_machine_stopped
    assert (samples[-1].reason, samples[-1].machine["wall_w"]) == ("turn 5", 105.0)
    assert len(read_flight(tmp_path / NOW_FILE)[1]) == 3


def test_a_row_of_short_runs_does_not_displace_the_first_of_them(tmp_path: Path) -> None:
    fly(tmp_path, "one", turns=100, is_clean=False)
    fly(tmp_path, "one", turns=5, is_clean=False, first=200)
    fly(tmp_path, "one", turns=0, is_clean=False)
    fly(tmp_path, "one", turns=1, is_clean=True, first=300)
    flight, samples = read_flight(tmp_path / CRASH_FILE)
    assert (samples[-1].reason, flight.has_whole_machine_stopped) == ("turn 100", False)


def test_a_long_run_displaces_the_crash_before_it(tmp_path: Path) -> None:
    fly(tmp_path, "one", turns=5, is_clean=False)
    fly(tmp_path, "one", turns=round(10 * SHORT_S) + 10, is_clean=False, first=200)
    keep_crash(tmp_path, "one")
    assert len(read_flight(tmp_path / CRASH_FILE)[1]) == round(10 * SHORT_S) + 10


@pytest.mark.parametrize("content", [b"", b"TBFLIGHT", os.urandom(5000)])
def test_a_broken_file_is_written_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NOW_FILE).write_bytes(content)
    (tmp_path / CRASH_FILE).write_bytes(content)
    fly(tmp_path, "one", turns=2, is_clean=True)
    assert len(read_flight(tmp_path / NOW_FILE)[1]) == 2


def test_a_place_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    fly(tmp_path / "file", "one", turns=5, is_clean=True)
    assert "cannot write" in caplog.text


@pytest.mark.twin
def test_a_daemon_that_is_killed_leaves_its_last_seconds(shared_twin: Rig) -> None:
    state = shared_twin.folder / "state"
    daemon = shared_twin.start_daemon()
    shared_twin.call("twin", "load", "gpu/all", "100")
    shared_twin.wait_for(lambda: (state / NOW_FILE).exists() and len(read_flight(state / NOW_FILE)[1]) > 30)
    seen_unix_s = shared_twin.status()["time_unix_s"]
    shared_twin.wait_for(lambda: read_flight(state / NOW_FILE)[1][-1].unix_s >= seen_unix_s)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait(timeout=PATIENCE_S)
    shared_twin.start_daemon()
    shared_twin.wait_for((state / CRASH_FILE).exists)
    flight, samples = read_flight(state / CRASH_FILE)
    assert not flight.has_whole_machine_stopped
    assert samples[-1].unix_s >= seen_unix_s
    assert samples[-1].gpus[5]["power_w"] is not None
    assert samples[-1].reason
    numbers = [sample.number for sample in samples]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    shared_twin.put_back()
    stopped = read_header(state / NOW_FILE)
    assert stopped is not None
    assert stopped.is_clean
