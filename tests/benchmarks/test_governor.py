"""The governor's benchmark: its workloads are what they say, and its reports hold everything that was measured."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.governor import report
from benchmarks.governor.command import Order, measured, written
from benchmarks.governor.faults import FROM_S, TO_S
from benchmarks.governor.matrix import Workers, setting
from benchmarks.governor.report import BEGIN, END, TITLES, Results
from benchmarks.governor.series import Series
from benchmarks.governor.targets import targets_of
from benchmarks.governor.workloads import (
    DRYER_LENGTH_S,
    REPORT,
    REPORT_SEEDS,
    TUNING,
    TUNING_SEEDS,
    Tag,
    Workload,
    workload,
)
from tinybox.core.errors import TinyboxError
from tinybox.replay.instruments import Instruments
from tinybox.replay.run import start_plant

ROOT = Path(__file__).parent.parent.parent
ORDER = Order(("red",), (workload("train-six"), workload("hair-dryer")), (1, 1), REPORT_SEEDS, "test")


@pytest.fixture(scope="module")
def measurement() -> tuple[Results, list[Series]]:
    return measured(ORDER, Workers(1))


@pytest.mark.parametrize("work", [*REPORT, *TUNING], ids=lambda work: work.name)
def test_a_workload_is_a_valid_trace_and_the_same_for_the_same_seed(work: Workload) -> None:
    trace = work.trace(7)
    assert trace == work.trace(7)
    assert 45.0 <= trace.end_s <= 121.0
    assert trace.end_s <= DRYER_LENGTH_S or work.name.startswith("square")
    assert work.tags
    assert work.about


def test_what_is_tuned_on_is_not_reported() -> None:
    assert not set(TUNING_SEEDS) & set(REPORT_SEEDS)
    names = [work.name for work in (*REPORT, *TUNING)]
    assert len(set(names)) == len(names)


def test_the_workloads_cover_every_tag_and_twelve_square_waves() -> None:
    assert {tag for work in REPORT for tag in work.tags} == set(Tag)
    assert sum(work.name.startswith("square-") for work in REPORT) == 12


def test_loads_that_dwell_hold_for_a_second() -> None:
    for work in REPORT:
        if Tag.DWELL in work.tags:
            trace = work.trace(3)
            assert all(row.duration_s >= 1.0 or row.end_s > trace.end_s - 1e-6 for row in trace.rows), work.name


@pytest.mark.parametrize("work", [work for work in REPORT if work.distort], ids=lambda work: work.name)
def test_a_distortion_begins_and_ends(work: Workload) -> None:
    place = setting("red", None)
    plant = start_plant(place.box, place.kind, place.circuit)
    snapshot = replace(Instruments(plant).read(), time_s=0.0)
    distort = work.scenario(work.trace(0)).distort
    assert distort is not None
    assert distort(snapshot) == snapshot
    during = replace(snapshot, time_s=FROM_S)
    gpus = tuple(replace(gpu, power_w=200.0) for gpu in during.gpus)
    moved = replace(during, gpus=gpus, psus=tuple(replace(psu, in_w=700.0) for psu in during.psus))
    distort(during)  # what is frozen is what was read first
    assert distort(moved) != moved
    after = replace(snapshot, time_s=TO_S)
    assert distort(after) == after


def test_the_mains_return_to_what_they_were() -> None:
    place = setting("red", None)
    work = workload("hair-dryer")
    plant = start_plant(place.box, place.kind, place.circuit)
    seen = []
    for event in work.scenario(work.trace(0)).events:
        event.change(plant)
        seen.append((event.time_s, plant.other_a, plant.line_scale))
    assert seen == [(0.0, 0.0, 1.0), (20.0, 12.5, 1.0), (80.0, 0.0, 1.0)]


def test_every_policy_ran_on_every_workload(measurement: tuple[Results, list[Series]]) -> None:
    results, series = measurement
    ran = {(cell.workload, cell.policy) for cell in results.cells}
    assert ran == {(work.name, policy) for work in ORDER.workloads for policy in TITLES}
    highest = [cell for cell in results.cells if cell.policy == "highest" and cell.workload == "train-six"]
    assert [cell.promise_broken_s for cell in highest] == [0.0]
    assert {one.watch.workload for one in series} == {work.name for work in ORDER.workloads}


def test_nobody_who_keeps_the_promises_exceeds_the_bound(measurement: tuple[Results, list[Series]]) -> None:
    kept = [cell for cell in measurement[0].cells if not cell.promise_broken_s and cell.workload != "hair-dryer"]
    assert kept
    assert all(cell.vs_bound <= 1.0 for cell in kept)


def test_the_report_holds_every_row_and_needs_nothing_else(
    measurement: tuple[Results, list[Series]], tmp_path: Path
) -> None:
    results, series = measurement
    words = report.console(results)
    html = written(results, series, tmp_path).read_text()
    for work in ORDER.workloads:
        assert work.name in words
        assert html.count(f">{work.name}</text>") == 2
        assert f"{work.name}, bounded</b>" in html
    for target in results.targets("red"):
        assert target.what in words
        assert target.what.replace("'", "&#x27;") in html
    assert all(title in words for title in TITLES.values())
    assert "http" not in html
    assert (tmp_path / "governor.json").exists()


@pytest.mark.parametrize(
    ("figures", "missed"),
    [
        ({"vs_steady": 0.5}, "the same, each workload and plant"),
        ({"trips": 1}, "bounded: breaker trips"),
        ({"promise_broken_s": 0.1}, "bounded: promises broken"),
        ({"writes_per_min": 61.0}, "writes per card and minute"),
        ({"use": 0.9}, "use of the continuous budget under lasting demand"),
    ],
)
def test_a_target_is_missed_by_its_worst_cell(
    measurement: tuple[Results, list[Series]], figures: dict[str, float], missed: str
) -> None:
    results = measurement[0]
    good = replace(results.of("red", "train-six", "bounded")[0], vs_steady=0.99, promise_broken_s=0.0, use=0.99)
    cells = [replace(good, seed=seed, writes_per_min=10.0) for seed in range(3)]
    found = {target.what: target for target in targets_of(cells, results.speeds[0])}
    assert found[missed].passes is True
    cells[1] = replace(cells[1], **figures)  # type: ignore[arg-type]
    found = {target.what: target for target in targets_of(cells, results.speeds[0])}
    assert found[missed].passes is False
    assert found[missed].where == "train-six, seed 1"


def test_a_dryer_that_nothing_answers_is_a_miss(measurement: tuple[Results, list[Series]]) -> None:
    results = measurement[0]
    cell = replace(results.of("red", "hair-dryer", "bounded")[0], first_freeze_s=None)
    rows = [target for target in targets_of([cell], results.speeds[0]) if target.what.endswith("frozen after")]
    assert [(row.passes, row.measured) for row in rows] == [(False, "never in 1 of 1 runs")]


def test_the_table_replaces_what_is_between_its_markers_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "governor.md"
    path.write_text(f"# Title\n\nbefore\n{BEGIN}\nold\n{END}\n\nafter <!-- /table -->\n")
    for text in ("| new |", "| newer |"):
        report.write_between(path, text)
        assert path.read_text() == f"# Title\n\nbefore\n{BEGIN}\n\n{text}\n\n{END}\n\nafter <!-- /table -->\n"


@pytest.mark.parametrize("text", ["nothing", f"{END} {BEGIN}", BEGIN, f"{BEGIN} {BEGIN} {END}"])
def test_a_document_without_a_place_for_the_table_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "governor.md"
    path.write_text(text)
    with pytest.raises(TinyboxError, match="no place"):
        report.write_between(path, "| new |")
    assert path.read_text() == text


def test_the_proof_is_dated_and_names_no_machine(measurement: tuple[Results, list[Series]], tmp_path: Path) -> None:
    results = measurement[0]
    text = report.write_proof(tmp_path / "proof", results).read_text()
    assert results.day.isoformat() in text
    assert str(ROOT) not in text
    assert "| bounded: breaker trips | 0 | worst 0, median 0 | pass |" in text


def test_workers_of_their_own_give_results_in_order() -> None:
    assert list(Workers(2).map(len, ["a", "bbb", "cc"])) == [1, 3, 2]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("governor", "--workload", "nap"), 1, "no workload is called 'nap'"),
        (("governor", "--plants", "0"), 2, "--plants"),
        (("governor", "--tuning", "--write"), 1, "prove nothing"),
        (("cli", "--long"), 2, "only 'governor' has options"),
        (("nap",), 2, "no benchmark is called nap"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(words: tuple[str, ...], code: int, said: str) -> None:
    command = [sys.executable, "-m", "benchmarks", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
