"""The last resorts: taken by heat, each with its switch, repeated, and climbed down again."""

from dataclasses import dataclass, field, replace

import pytest

from tests.policy.conftest import machine
from tinybox.core.actions import Action, EndWork, FreezeWork, PowerOff
from tinybox.core.box import Box
from tinybox.core.config import PowerConfig
from tinybox.core.decision import Alert
from tinybox.core.snapshot import Severity
from tinybox.policy.ladder import Heat, Hopes, LadderMemory, Step, climb

FREEZE, THAW = FreezeWork(is_frozen=True), FreezeWork(is_frozen=False)
# At its lowest clocks already, and the breaker does not cool; thawed and cool, they would fit again.
HOPELESS = Hopes(floors_fit=True, floor_is_too_hot=True, still_draws=True)


@dataclass(slots=True)
class Climber:
    """A ladder, tenth by tenth, with work that freezes when told."""

    box: Box
    config: PowerConfig = field(default_factory=PowerConfig)
    memory: LadderMemory = field(default_factory=LadderMemory)
    is_frozen: bool = False
    time_s: float = 100.0
    alerts: list[Alert] = field(default_factory=list)
    reason: str | None = None

    def turn(self, share: float, *, sure: float | None = None, hopes: Hopes = HOPELESS) -> tuple[Action, ...]:
        """One look."""
        snapshot = machine(self.box, self.time_s, is_work_frozen=self.is_frozen)
        heat = Heat(share, share if sure is None else sure)
        actions, self.alerts, self.reason, self.memory = climb(snapshot, heat, hopes, self.config, self.memory)
        for action in actions:
            if isinstance(action, FreezeWork):
                self.is_frozen = action.is_frozen
        self.time_s += 0.1
        return actions

    def run(self, share: float, seconds: float, *, sure: float | None = None, hopes: Hopes = HOPELESS) -> list[Action]:
        """Some looks."""
        turns = range(round(seconds * 10))
        return [action for _ in turns for action in self.turn(share, sure=sure, hopes=hopes)]


@pytest.fixture
def climber(red: Box) -> Climber:
    return Climber(red)


def test_below_sixty_percent_nothing_happens(climber: Climber) -> None:
    assert climber.run(0.599, 60) == []
    assert climber.alerts == []


@pytest.mark.parametrize(
    ("share", "action", "words"),
    [
        (0.60, FREEZE, "work is frozen"),
        (0.70, EndWork(), "work was asked to end"),
        (0.78, PowerOff(), "the box switches off"),
    ],
)
def test_each_step_comes_at_its_heat_at_once_and_says_why(
    climber: Climber, share: float, action: Action, words: str
) -> None:
    assert climber.run(share - 0.001, 1) == [] or action not in climber.run(share - 0.001, 1)
    assert climber.turn(share) == (action,)
    assert climber.reason == f"{words}: the breaker is modelled at {share:.0%} of its trip"
    assert [alert.severity for alert in climber.alerts] == [Severity.CRITICAL]


def test_as_long_as_lower_clocks_may_help_nothing_is_frozen(climber: Climber) -> None:
    assert climber.run(0.65, 20, hopes=replace(HOPELESS, floor_is_too_hot=False)) == []


def test_where_the_floors_do_not_fit_nothing_is_waited_for(climber: Climber) -> None:
    hopes = Hopes(floors_fit=False, floor_is_too_hot=False, still_draws=True)
    assert climber.turn(0.60, hopes=hopes) == (FREEZE,)


def test_freezing_is_repeated_for_processes_that_are_new(climber: Climber) -> None:
    actions = climber.run(0.62, 5)
    assert set(actions) == {FREEZE}
    assert 4 <= len(actions) <= 6


def test_frozen_work_thaws_once_it_is_cool_and_the_floors_fit(climber: Climber) -> None:
    climber.run(0.62, 1)
    assert THAW not in climber.run(0.58, 5)
    assert climber.turn(0.56) == (THAW,)
    assert climber.reason is not None and climber.reason.startswith("work goes on")
    assert climber.run(0.56, 5) == []


def test_while_the_floors_do_not_fit_work_stays_frozen_however_cool_it_is(climber: Climber) -> None:
    climber.run(0.62, 1)
    assert THAW not in climber.run(0.30, 30, hopes=replace(HOPELESS, floors_fit=False))
    assert climber.is_frozen
    assert climber.turn(0.30) == (THAW,)


def test_work_that_a_daemon_before_us_froze_is_thawed(red: Box) -> None:
    assert Climber(red, is_frozen=True).turn(0.40) == (THAW,)


def test_work_that_a_daemon_before_us_froze_stays_so_while_it_is_hot(red: Box) -> None:
    climber = Climber(red, is_frozen=True)
    assert set(climber.run(0.59, 3)) == {FREEZE}
    assert climber.is_frozen


@pytest.mark.parametrize(
    ("switch", "share", "action"),
    [("may_freeze", 0.65, FREEZE), ("may_end", 0.75, EndWork()), ("may_power_off", 0.95, PowerOff())],
)
def test_each_step_has_the_owners_switch_and_it_is_said_what_it_forbids(
    red: Box, switch: str, share: float, action: Action
) -> None:
    config = replace(PowerConfig(), **{switch: False})  # type: ignore[arg-type]
    climber = Climber(red, config)
    assert action not in climber.run(share, 12)
    assert any(f"is forbidden by power.{switch}" in alert.reason for alert in climber.alerts)


def test_with_every_switch_off_nothing_is_ever_done(red: Box) -> None:
    climber = Climber(red, PowerConfig(may_freeze=False, may_end=False, may_power_off=False))
    assert climber.run(0.95, 30) == []
    assert len(climber.alerts) == 3


def test_work_that_must_not_be_frozen_is_never_left_frozen(red: Box) -> None:
    """The switch was turned while work stood still."""
    climber = Climber(red, PowerConfig(may_freeze=False), is_frozen=True)
    assert climber.run(0.58, 2) == [THAW]


def test_the_owners_switch_of_the_end_leaves_the_work_frozen(red: Box) -> None:
    climber = Climber(red, PowerConfig(may_end=False))
    assert set(climber.run(0.75, 5)) == {FREEZE}


def test_after_the_end_it_is_climbed_down_again(climber: Climber) -> None:
    climber.run(0.72, 1)
    assert climber.memory.step is Step.ENDED
    climber.run(0.58, 20)
    actions = climber.run(0.50, 1)
    assert actions == [THAW]
    assert climber.memory.step is Step.NONE
    assert climber.run(0.50, 5) == []


def test_a_box_that_is_switching_off_is_not_talked_out_of_it_while_it_is_hot(climber: Climber) -> None:
    climber.run(0.79, 1)
    assert set(climber.run(0.60, 30)) == {PowerOff()}


def test_a_neighbour_of_whom_nobody_is_sure_only_freezes(climber: Climber) -> None:
    assert set(climber.run(0.79, 10, sure=0.62)) == {FREEZE}


def test_frozen_work_that_no_longer_draws_is_not_ended_as_well(climber: Climber) -> None:
    climber.run(0.65, 1)
    assert set(climber.run(0.75, 20, hopes=replace(HOPELESS, still_draws=False))) == {FREEZE}


def test_work_that_must_not_be_frozen_is_ended_whether_it_draws_or_not(red: Box) -> None:
    climber = Climber(red, PowerConfig(may_freeze=False))
    assert climber.turn(0.72, hopes=replace(HOPELESS, still_draws=False)) == (EndWork(),)


def test_ending_is_asked_again_but_not_every_turn(climber: Climber) -> None:
    assert climber.run(0.72, 25) == [EndWork()] * 3
