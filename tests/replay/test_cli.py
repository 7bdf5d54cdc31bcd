"""The contract of `tinybox-governor-replay`: its keys, its errors, its policies and its seeds."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tinybox.core.box import load_box
from tinybox.core.config import Config
from tinybox.replay.cli import report_of, text_of
from tinybox.replay.policies import NAMES
from tinybox.replay.trace import read_trace
from tinybox.twin.constants import load_plant

REPLAY = str(Path(sys.executable).parent / "tinybox-governor-replay")
# Every key that the issue names.
PROMISED_KEYS = (
    *("policy", "box", "work_vs_optimum", "work_vs_bound", "work_vs_fixed150", "trips", "promise_broken_s"),
    *("needless_interventions", "wall_w_mean", "wall_w_p99", "wall_w_max", "breaker_heat_max", "writes_per_min"),
    *("decision_us_p50", "decision_us_p99"),
)
HEADER = "time_s,gpu,kind,load_pct,duration_s\n"
SHORT = (
    HEADER
    + "".join(f"0.000,{gpu},train,100,3.000\n" for gpu in range(6))
    + "3.500,0,decode,50,1.500\n3.500,1,prefill,100,0.300\n4.000,1,mixed,80,1.000\n"
)


def replayed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([REPLAY, *words], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def short(tmp_path: Path) -> Path:
    path = tmp_path / "short.csv"
    path.write_text(SHORT)
    return path


def answer(path: Path, *words: str) -> dict[str, Any]:
    done = replayed(str(path), *words, "--json")
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert isinstance(loaded, dict)
    return loaded


def test_it_answers_with_every_key_and_bounded_is_what_it_runs_by_itself(short: Path) -> None:
    found = answer(short, "--box", "red")
    assert set(PROMISED_KEYS) <= set(found)
    assert (found["policy"], found["box"]) == ("governor", "red")
    assert found["trips"] == found["promise_broken_s"] == found["needless_interventions"] == 0
    assert found["work_vs_optimum"] > 0.5
    assert found["work_vs_bound"] <= 1.0
    assert found["work_vs_fixed150"] > 0.9
    assert 100 < found["wall_w_mean"] <= found["wall_w_p99"] <= found["wall_w_max"] < 3000
    assert 0.5 < found["breaker_heat_max"] < 0.8
    assert 0 < found["decision_us_p50"] <= found["decision_us_p99"]
    assert found["work_s"] <= found["demand_s"] == pytest.approx(3.0 * 6 + 0.75 + 0.3 + 0.8)
    same = answer(short, "--box", "red", "--policy", "bounded")
    assert same["work_s"] == found["work_s"]


@pytest.mark.parametrize("box", ["red", "green", "green-3090", "blue"])
def test_every_box_has_a_plant(short: Path, box: str) -> None:
    found = answer(short, "--box", box, "--policy", "strict")
    assert found["box"] == box
    assert found["promise_broken_s"] == 0


@pytest.mark.parametrize("policy", NAMES)
def test_every_policy_has_its_report(short: Path, policy: str) -> None:
    box = load_box("red")
    trace = read_trace(short)
    report = report_of(trace, box, load_plant(box, 3), Config(box="red"), policy, seed=3)
    assert (report.policy, report.seed) == (policy, 3)
    assert report.work_vs_bound <= 1.0 or report.promise_broken_s > 0
    if policy == "fixed150":
        assert report.work_vs_fixed150 == 1.0
    text = text_of(report)
    assert f"{policy} on red, plant 3" in text
    assert "every promise kept" in text or "promises broken" in text


def test_a_seed_draws_another_plant_and_the_same_seed_the_same(short: Path) -> None:
    first, again, other, nominal = (
        answer(short, "--box", "red", *words) for words in (("--seed", "1"), ("--seed", "1"), ("--seed", "2"), ())
    )
    timed = ("decision_us_p50", "decision_us_p99")
    assert {k: v for k, v in first.items() if k not in timed} == {k: v for k, v in again.items() if k not in timed}
    assert len({one["wall_w_mean"] for one in (first, other, nominal)}) == 3
    assert (first["seed"], nominal["seed"]) == (1, None)


def test_people_get_words_instead(short: Path) -> None:
    done = replayed(str(short), "--box", "red")
    assert done.returncode == 0
    assert done.stdout.startswith("governor on red, nominal plant: every promise kept, no trip\n")
    assert "of the best without banking" in done.stdout


def test_another_outlet_gives_more(short: Path) -> None:
    small, large = (answer(short, "--box", "red", *words) for words in ((), ("--outlet", "240V/30A")))
    assert large["work_s"] > small["work_s"]


BAD = [
    (HEADER + "1.0,0,train,100,1.0\n0.5,1,train,100,1.0\n", "time_s 0.5 comes after 1"),
    ("time_s,gpu,kind,load_pct\n0,0,train,100\n", "column 'duration_s' is missing"),
    (HEADER.replace("kind", "sort") + "0,0,train,100,1\n", "unknown column 'sort'"),
    ("time_s,gpu,kind,load_pct,duration_s,colour\n0,0,train,100,1,red\n", "unknown column 'colour'"),
    (HEADER + "0,6,train,100,1\n", "gpu is 6"),
    (HEADER + "0,0,games,100,1\n", "kind is 'games'"),
    (HEADER + "0,0,train,nan,1\n", "load_pct is nan"),
    (HEADER + "0,0,train,-5,1\n", "load_pct is -5"),
    (HEADER + "0,0,train,100,0\n", "duration_s is 0"),
    (HEADER + "0,0,train,100,2\n1,0,train,100,2\n", "while its last row lasts another 1.000 s"),
    (HEADER, "no rows"),
    ("", "the file is empty"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_trace_that_cannot_be_meant_is_two_lines_and_exit_1(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    done = replayed(str(path), "--box", "red")
    assert done.returncode == 1
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("tinybox-governor-replay: ") and words in first
    assert second.startswith("  ")


def test_a_trace_that_is_not_there_is_the_same(tmp_path: Path) -> None:
    done = replayed(str(tmp_path / "none.csv"), "--box", "red")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2)


def test_a_box_that_is_none_is_an_error_and_a_policy_that_is_none_a_wrong_call(short: Path) -> None:
    done = replayed(str(short), "--box", "pink")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2)
    assert replayed(str(short), "--box", "red", "--policy", "magic").returncode == 2
    assert replayed(str(short)).returncode == 2


def test_what_the_report_says_of_a_box_that_trips_is_not_hidden(short: Path) -> None:
    box = load_box("red")
    report = report_of(read_trace(short), box, load_plant(box), Config(box="red"), "none", seed=None)
    words = text_of(replace(report, trips=1, promise_broken_s=3.0))
    assert "THE BREAKER TRIPPED" in words
    assert "promises broken for 3.0 s" in words
