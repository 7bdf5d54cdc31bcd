"""What is worth a message, by what flaps, lasts, worsens and ends."""

import itertools
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tinybox.core.decision import Alert
from tinybox.core.health import Ack, Finding, Status, Trouble
from tinybox.core.snapshot import Severity
from tinybox.policy.health import TOLD_BY_DRIVERS, alerts_of
from tinybox.policy.telling import EVERY_S, LASTS_S, MOST_IDS, OVER_S, Change, TellingMemory, changes, tellable

INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL


def told(*stretches: tuple[float, Severity | None]) -> list[tuple[float, bool, Severity]]:
    """(second, raised, severity) of every message, of one alert that is so bad for so many seconds each."""
    memory: TellingMemory = {}
    found, now_s = [], 0.0
    for seconds, severity in stretches:
        for _ in range(round(seconds)):
            alerts = [] if severity is None else [Alert("gpu/3", severity, "why")]
            new, memory = changes(alerts, now_s, memory)
            found += [(now_s, change.is_raised, change.severity) for change in new]
            now_s += 1.0
    return found


def test_what_lasts_is_told_once_and_its_end_once() -> None:
    assert told((600, WARNING), (60, None)) == [(LASTS_S, True, WARNING), (600 + OVER_S, False, WARNING)]


def test_what_passes_at_once_and_what_is_only_good_to_know_is_not_told() -> None:
    assert told((1, CRITICAL), (60, None), (60, INFO)) == []


def test_what_becomes_worse_is_told_at_once_and_better_is_told_as_what_is_left() -> None:
    assert told((10, WARNING), (100, CRITICAL), (100, WARNING), (100, None)) == [
        (LASTS_S, True, WARNING),
        (10 + LASTS_S, True, CRITICAL),
        (110 + OVER_S, True, WARNING),
        (210 + OVER_S, False, WARNING),
    ]


def test_what_flaps_is_told_seldom_and_rightly_in_the_end() -> None:
    flapping = [(40, WARNING), (40, None)] * 20
    messages = told(*flapping, (600, WARNING))
    raised = [second for second, is_raised, _ in messages if is_raised]
    assert all(after - before >= EVERY_S for before, after in itertools.pairwise(raised))
    assert messages[-1][1]


def test_the_worst_of_what_one_device_has_is_what_is_told() -> None:
    alerts = [Alert("gpu/3", WARNING, "a little"), Alert("gpu/3", CRITICAL, "very"), Alert("gpu/3", INFO, "by the way")]
    _, memory = changes(alerts, 0.0, {})
    assert changes(alerts, LASTS_S, memory)[0] == (Change("gpu/3", True, CRITICAL, "very"),)


def test_what_is_remembered_is_bounded_and_forgotten() -> None:
    _, memory = changes([Alert(f"x/{i}", WARNING, "") for i in range(2 * MOST_IDS)], 0.0, {})
    assert len(memory) == MOST_IDS
    _, memory = changes([], 1.0, memory)
    assert changes([], 1.0 + EVERY_S, memory)[1] == {}


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([None, INFO, WARNING, CRITICAL]), st.integers(1, 200))
    )
)
def test_messages_are_few_and_the_last_is_true(steps: list[tuple[str, Severity | None, int]]) -> None:
    memory: TellingMemory = {}
    state: dict[str, Severity | None] = {"a": None, "b": None}
    known: dict[str, Severity | None] = {"a": None, "b": None}
    sent: list[tuple[float, Change]] = []
    now_s = 0.0
    for name, severity, seconds in [*steps, ("a", None, round(EVERY_S + OVER_S + 10))]:
        state[name] = severity
        for _ in range(seconds):
            alerts = [Alert(one, so, "") for one, so in state.items() if so is not None]
            new, memory = changes(alerts, now_s, memory)
            for change in new:
                known[change.id] = change.severity if change.is_raised else None
                sent.append((now_s, change))
            now_s += 1.0
    for second, _ in sent:
        window = Counter(change.id for then_s, change in sent if second <= then_s < second + EVERY_S)
        assert max(window.values()) <= 4
    assert known == {name: None if so is INFO else so for name, so in state.items()}


def finding(check_id: str, status: Status, **changes: object) -> Finding:
    trouble = Trouble("gpu/3", status, "gpu/3 is not there", "reseat it")
    found = Finding(check_id, status, CRITICAL, "gpu/3 is not there", "6", "reseat it", 1e9, (trouble,))
    return replace(found, **changes)  # type: ignore[arg-type]


def test_a_check_of_health_is_told_once_under_its_own_id() -> None:
    findings = (finding("gpu.count", Status.CRIT), finding("gpu.fan", Status.OK, troubles=(), since_unix_s=None))
    governors = Alert("circuit", WARNING, "something else draws")
    assert tellable([governors, *alerts_of(findings)], findings) == [
        Alert("gpu.count", CRITICAL, "gpu/3 is not there: reseat it"),
        governors,
    ]


def test_what_its_owner_acknowledged_or_a_driver_says_is_not_told_twice() -> None:
    ack = Ack("gpu.count", ("gpu/3",), Status.CRIT, "ada", 1e9, "ordered")
    known = finding("gpu.count", Status.CRIT, ack=ack)
    by_driver = finding(min(TOLD_BY_DRIVERS), Status.WARN)
    assert tellable(alerts_of((known, by_driver)), (known, by_driver)) == []
