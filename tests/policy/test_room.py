"""The room as a limit: slow, without swinging, and never a reason to draw more."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinybox.core.box import load_box
from tinybox.core.config import Config, ThermalConfig
from tinybox.policy.room import LEAST, room_alerts, room_share
from tinybox.replay.commission import commission
from tinybox.replay.policies import policy_of
from tinybox.replay.run import Event, Outcome, Scenario, run
from tinybox.replay.trace import Row, Trace
from tinybox.twin.constants import load_plant
from tinybox.twin.plant import Plant

BOX = load_box("red")


def after_hours(ambient_c: float, room_max_c: float, *, hours: float = 12.0) -> list[tuple[float, float]]:
    """(inlet, share), once a second: 1,400 W at share 1 in a case of four minutes and a room of an hour and a half."""
    case_k = room_k = 0.0
    share, seen = 1.0, []
    for _ in range(int(hours * 3600)):
        watts = 1400 * share
        case_k += (watts * 0.006 - case_k) / 240
        room_k += (watts * 0.007 - room_k) / 5400
        inlet_c = ambient_c + case_k + room_k
        share = room_share(inlet_c, room_max_c, share, 1.0)
        seen.append((inlet_c, share))
    return seen


@pytest.mark.parametrize(("ambient_c", "room_max_c"), [(25.0, 38.0), (28.0, 38.0), (22.0, 30.0), (30.0, 45.0)])
def test_the_air_settles_at_what_is_allowed_without_swinging(ambient_c: float, room_max_c: float) -> None:
    seen = after_hours(ambient_c, room_max_c)
    last = seen[-3600:]
    assert max(inlet for inlet, _ in seen) < room_max_c + 3.0
    assert all(room_max_c - 1.0 <= inlet <= room_max_c + 0.2 for inlet, _ in last)
    assert max(share for _, share in last) - min(share for _, share in last) < 0.02


def test_a_cool_room_costs_nothing() -> None:
    assert {share for _, share in after_hours(15.0, 38.0, hours=3)} == {1.0}


def test_what_was_lowered_comes_back_when_the_window_is_opened() -> None:
    share = 0.5
    for _ in range(3600):
        share = room_share(30.0, 38.0, share, 1.0)
    assert share == 1.0


@given(st.one_of(st.none(), st.floats(-60, 120)), st.floats(15, 60), st.floats(LEAST, 1.0), st.floats(0, 1e6))
def test_it_is_a_share_whatever_is_read(
    inlet_c: float | None, room_max_c: float, share: float, elapsed_s: float
) -> None:
    now = room_share(inlet_c, room_max_c, share, elapsed_s)
    assert LEAST <= now <= 1.0 and math.isfinite(now)
    if inlet_c is None or inlet_c >= room_max_c - 0.5:
        assert now <= share
    assert room_share(inlet_c, None, share, elapsed_s) == 1.0


def test_an_owner_who_set_a_limit_is_told_when_nobody_measures() -> None:
    (alert,) = room_alerts(None, 38.0, 1.0)
    assert "not told" in alert.reason
    assert room_alerts(None, None, 1.0) == room_alerts(30.0, 38.0, 1.0) == []


@pytest.mark.parametrize("name", ["bounded", "strict"])
def test_a_hot_room_lowers_what_the_box_draws_and_breaks_nothing(name: str) -> None:
    kind = load_plant(BOX)
    measured = commission(BOX, kind)

    def in_room(room_max_c: float | None) -> Outcome:
        def warm(plant: Plant) -> None:
            plant.ambient_c = 45.0

        scenario = Scenario(Trace.of([Row(0.0, i, "train", 1.0, 90.0) for i in range(6)]), events=(Event(0.0, warm),))
        config = Config(thermal=ThermalConfig(room_max_c))
        return run(scenario, BOX, kind, config, policy_of(name, BOX, config, measured), is_strict=name == "strict")

    free, limited = in_room(None), in_room(20.0)
    assert limited.interventions == limited.trips == 0
    assert limited.referee.promise_broken_s == 0.0
    late_w = [sum(outcome.referee.wall_w[-100:]) / 100 for outcome in (free, limited)]
    assert late_w[1] < 0.8 * late_w[0]
