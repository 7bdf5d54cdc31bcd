"""How often the loop looks."""

from dataclasses import replace

from tests.policy.conftest import machine
from tinybox.core.box import Box
from tinybox.core.config import DaemonConfig
from tinybox.core.snapshot import Snapshot
from tinybox.policy.pace import PaceMemory, next_pace, start_pace

TEN_HZ = DaemonConfig()


def busy(box: Box) -> Snapshot:
    idle = machine(box)
    return replace(idle, gpus=tuple(replace(gpu, busy_pct=80.0) for gpu in idle.gpus))


def run(snapshot: Snapshot, memory: PaceMemory, *, turns: int, late_s: float = 0.0) -> tuple[list[float], PaceMemory]:
    """Periods of some turns, each `late_s` later than asked."""
    periods = []
    for _ in range(turns):
        pace, memory = next_pace(snapshot, TEN_HZ, memory)
        periods.append(pace.period_s)
        snapshot = replace(snapshot, time_s=snapshot.time_s + pace.period_s + late_s)
    return periods, memory


def test_it_looks_ten_times_a_second_while_a_card_works(red: Box) -> None:
    assert run(busy(red), start_pace(TEN_HZ), turns=20)[0] == [0.1] * 20


def test_it_looks_once_a_second_when_none_does(red: Box) -> None:
    assert run(machine(red), start_pace(TEN_HZ), turns=20)[0] == [1.0] * 20


def test_a_card_that_cannot_say_counts_as_working(red: Box) -> None:
    silent = machine(red)
    silent = replace(silent, gpus=(replace(silent.gpus[0], busy_pct=None), *silent.gpus[1:]))
    assert run(silent, start_pace(TEN_HZ), turns=3)[0] == [0.1] * 3


def test_it_stays_fast_for_a_while_after_the_last_work(red: Box) -> None:
    _, memory = run(busy(red), start_pace(TEN_HZ), turns=10)
    pace, memory = next_pace(machine(red, time_s=2.0), TEN_HZ, memory)
    assert pace.period_s == 0.1
    pace, _ = next_pace(machine(red, time_s=20.0), TEN_HZ, memory)
    assert pace.period_s == 1.0


def test_a_machine_that_is_always_late_gets_half_the_rate_and_is_told(red: Box) -> None:
    periods, memory = run(busy(red), start_pace(TEN_HZ), turns=12, late_s=0.08)
    assert periods[0] == 0.1
    assert periods[-1] == 0.2
    pace, _ = next_pace(replace(busy(red), time_s=4.0), TEN_HZ, memory)
    assert pace.slow_reason == "this machine cannot look 10 times a second: the loop runs at 5 Hz"


def test_one_late_turn_changes_nothing(red: Box) -> None:
    _, memory = run(busy(red), start_pace(TEN_HZ), turns=5)
    _, memory = run(replace(busy(red), time_s=60.0), memory, turns=5)
    assert memory.working_period_s == 0.1


def test_a_rate_that_was_halved_gets_another_chance(red: Box) -> None:
    _, memory = run(busy(red), start_pace(TEN_HZ), turns=12, late_s=0.08)
    periods, _ = run(replace(busy(red), time_s=3.0), memory, turns=1600)
    assert periods[0] == 0.2
    assert periods[-1] == 0.1
