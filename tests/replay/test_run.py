"""A trace through a plant under a policy: what happens when, what is counted, and what is called needless."""

from dataclasses import dataclass, field, replace

import pytest

from tinybox.core.actions import Action, FreezeWork, PowerOff, SetCap, SetClockLimit
from tinybox.core.box import load_box
from tinybox.core.circuit import circuit_of
from tinybox.core.config import Config, GpuConfig
from tinybox.core.snapshot import GpuState, Snapshot
from tinybox.replay.commission import commission
from tinybox.replay.instruments import Instruments
from tinybox.replay.policies import NAMES, Governor, fixed_clock, policy_of
from tinybox.replay.run import Event, Outcome, Scenario, run, start_plant
from tinybox.replay.trace import Row, Trace
from tinybox.twin.constants import load_plant

BOX = load_box("red")
KIND = load_plant(BOX)
MEASURED = commission(BOX, KIND)
CONFIG = Config(box="red")


def everything(seconds: float, *, kind: str = "train") -> Trace:
    return Trace.of([Row(0.0, index, kind, 1.0, seconds) for index in range(6)])


def under(name: str, scenario: Scenario, *, config: Config = CONFIG) -> Outcome:
    policy = policy_of(name, BOX, config, MEASURED)
    return run(scenario, BOX, KIND, config, policy, is_strict=name == "strict")


@dataclass(slots=True)
class Script(Governor):
    """Actions at given times, and nothing else; what it was shown."""

    at: dict[float, tuple[Action, ...]] = field(default_factory=dict)
    seen: list[Snapshot] = field(default_factory=list)

    def turn(self, snapshot: Snapshot) -> tuple[tuple[Action, ...], float]:
        """What the script says is due."""
        self.seen.append(snapshot)
        due = [time_s for time_s in self.at if time_s <= snapshot.time_s + 1e-9]
        return tuple(action for time_s in due for action in self.at.pop(time_s)), 0.1


def script(at: dict[float, tuple[Action, ...]]) -> Script:
    made = Script.of(BOX, CONFIG, None)
    assert isinstance(made, Script)
    made.at = at
    return made


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_runs_a_trace_to_its_end(name: str) -> None:
    outcome = under(name, Scenario(everything(4.0)))
    assert outcome.seconds == pytest.approx(4.0)
    assert 0 < outcome.demand.work_s <= 24.0 + 1e-6
    assert len(outcome.referee.wall_w) == 40


def test_ours_keep_the_promises_and_the_others_are_what_an_owner_has_today() -> None:
    long = Scenario(everything(30.0))
    done = {name: under(name, long) for name in NAMES}
    for name in ("governor", "bounded", "strict"):
        assert done[name].referee.promise_broken_s == 0
        assert done[name].trips == done[name].interventions == 0
    assert done["governor"].demand.work_s == done["bounded"].demand.work_s
    assert done["none"].referee.continuous_broken_s > 10.0
    assert done["none"].writes == [0] * 6
    assert done["strict"].demand.work_s < done["bounded"].demand.work_s < done["none"].demand.work_s


def test_without_any_limit_the_fastest_breaker_would_trip() -> None:
    outcome = under("none", Scenario(everything(60.0)))
    assert outcome.referee.heat_max > 1.0


def test_the_same_run_twice_is_the_same_to_the_digit() -> None:
    first, second = (under("bounded", Scenario(everything(5.0))) for _ in range(2))
    assert first.referee.wall_w == second.referee.wall_w
    assert first.writes == second.writes


def test_events_happen_at_their_time_whatever_their_order() -> None:
    seen: list[tuple[str, float]] = []
    events = (
        Event(2.0, lambda plant: seen.append(("late", plant.time_s))),
        Event(0.5, lambda plant: seen.append(("early", plant.time_s))),
    )
    under("none", Scenario(everything(3.0), events))
    assert [name for name, _ in seen] == ["early", "late"]
    assert [time_s for _, time_s in seen] == pytest.approx([0.5, 2.0], abs=0.011)


def test_distortion_is_seen_by_the_policy_and_not_by_the_plant() -> None:
    policy = script({})
    blind = Scenario(everything(2.0), distort=lambda snapshot: replace(snapshot, psus=()))
    outcome = run(blind, BOX, KIND, CONFIG, policy)
    assert all(snapshot.psus == () for snapshot in policy.seen)
    assert outcome.referee.wall_w[-1] > 1500


def test_a_card_that_refuses_is_not_written_and_goes_on() -> None:
    limits: tuple[Action, ...] = tuple(SetClockLimit(f"gpu/{index}", 500) for index in range(6))
    policy = script({0.0: limits})
    outcome = run(Scenario(everything(2.0), refuses=frozenset({"gpu/3"})), BOX, KIND, CONFIG, policy)
    assert outcome.writes == [1, 1, 1, 0, 1, 1]
    assert [gpu.clock_limit_mhz for gpu in policy.seen[-1].gpus] == [500, 500, 500, 2965, 500, 500]


def test_writes_a_minute_are_of_the_card_that_got_most_and_not_blown_up_by_a_short_run() -> None:
    acts: dict[float, tuple[Action, ...]] = {i / 10: (SetCap("gpu/1", 300.0 + i),) for i in range(12)}
    outcome = run(Scenario(everything(2.0)), BOX, KIND, CONFIG, script(acts))
    assert outcome.writes == [0, 12, 0, 0, 0, 0]
    assert outcome.writes_per_min == 12


def test_freezing_a_box_that_would_have_kept_its_promises_is_needless() -> None:
    limits: tuple[Action, ...] = tuple(SetClockLimit(f"gpu/{index}", 500) for index in range(6))
    policy = script({0.0: limits, 1.0: (FreezeWork(is_frozen=True),)})
    outcome = run(Scenario(everything(3.0)), BOX, KIND, CONFIG, policy)
    assert (outcome.interventions, outcome.needless) == (1, 1)
    assert outcome.first_freeze_s == pytest.approx(1.0)


def test_freezing_a_box_that_would_have_broken_them_is_not() -> None:
    policy = script({3.0: (FreezeWork(is_frozen=True),)})
    trace = everything(70.0)
    outcome = run(Scenario(trace), BOX, KIND, CONFIG, policy)
    assert (outcome.interventions, outcome.needless) == (1, 0)


def test_a_freeze_that_is_repeated_counts_once_and_a_thaw_not_at_all() -> None:
    frozen, thawed = FreezeWork(is_frozen=True), FreezeWork(is_frozen=False)
    policy = script({1.0: (frozen,), 1.5: (frozen,), 2.0: (thawed,), 2.5: (frozen,)})
    assert run(Scenario(everything(3.0)), BOX, KIND, CONFIG, policy).interventions == 2


def test_a_box_that_is_switched_off_draws_nothing_any_more() -> None:
    policy = script({1.0: (PowerOff(),)})
    outcome = run(Scenario(everything(3.0)), BOX, KIND, CONFIG, policy)
    assert outcome.referee.wall_w[5] > 500
    assert outcome.referee.wall_w[-1] < 1.0
    assert outcome.trips == 0


def test_a_card_that_left_is_gone_and_one_that_is_back_has_its_factory_limits() -> None:
    plant = start_plant(BOX, KIND, circuit_of(BOX, CONFIG))
    instruments = Instruments(plant)
    instruments.apply((SetClockLimit("gpu/2", 700), SetCap("gpu/2", 270.0)))
    plant.gpus[2].is_present = False
    gone = instruments.read().gpus[2]
    assert gone.state is GpuState.GONE
    assert gone.power_w is None
    plant.gpus[2].is_present = True
    plant.gpus[2].factory_limits()
    assert instruments.read().gpus[2].clock_limit_mhz == BOX.gpu.clock_max_mhz


def test_the_commission_of_a_drawn_plant_covers_its_own_cards() -> None:
    kind = load_plant(BOX, 4)
    measured = commission(BOX, kind)
    plant = start_plant(BOX, kind, circuit_of(BOX, CONFIG))
    for index, card in enumerate(measured.cards):
        silicon = plant.gpus[index].silicon
        for point in card.clock_table:
            assert point.board_power_max_w * measured.margin >= silicon.board_w(1.0, point.clock_mhz)


def test_a_fixed_clock_is_written_once() -> None:
    outcome = run(Scenario(everything(3.0)), BOX, KIND, CONFIG, fixed_clock(900))
    assert outcome.writes == [1] * 6


def test_an_owners_limit_of_a_card_is_kept_through_a_whole_run() -> None:
    config = Config(box="red", gpus=(GpuConfig("gpu/0", limit_w=120.0),))
    policy = policy_of("bounded", BOX, config, MEASURED)
    most: list[float] = []

    def watched(snapshot: Snapshot) -> Snapshot:
        if snapshot.time_s > 3.0:
            most.append((snapshot.gpus[0].power_w or 0.0) / BOX.gpu.socket_to_board)
        return snapshot

    run(Scenario(everything(12.0), distort=watched), BOX, KIND, config, policy)
    assert max(most) <= 120.0 * 1.02


@pytest.mark.parametrize("name", ["bounded", "strict"])
@pytest.mark.parametrize("box_name", ["mixed", "green-v2"])
def test_four_large_cards_or_cards_of_three_vendors_share_one_outlet(box_name: str, name: str) -> None:
    box = load_box(box_name)
    kind, config = load_plant(box), Config(box=box_name)
    measured = commission(box, kind)

    def replayed(policy: str) -> Outcome:
        scenario = Scenario(Trace.of([Row(0.0, index, "train", 1.0, 25.0) for index in range(len(box.slots))]))
        return run(scenario, box, kind, config, policy_of(policy, box, config, measured), is_strict=policy == "strict")

    outcome, free = replayed(name), replayed("none")
    assert outcome.trips == outcome.interventions == 0
    assert outcome.referee.promise_broken_s == 0.0
    assert free.referee.promise_broken_s > 0
    assert outcome.demand.work_s > 0.35 * free.demand.work_s
