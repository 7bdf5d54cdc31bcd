"""Each card as the policies see it: what it is believed to draw, what it was granted, and whether its lever works."""

import math
from dataclasses import dataclass, field, replace

import pytest

from tests.policy.conftest import Governed, card, machine, refuse
from tinybox.core.actions import SetCap, SetClockLimit
from tinybox.core.box import Box
from tinybox.core.commission import Commission
from tinybox.core.config import Config, PowerConfig
from tinybox.core.decision import Alert
from tinybox.core.snapshot import Bmc, Gpu, GpuState, Psu, Severity, Snapshot
from tinybox.policy.cards import Card, CardsMemory, observe
from tinybox.policy.envelope import board_max_w, known_of, table_envelope
from tinybox.policy.writes import written
from tinybox.replay.pipe import by_table


@dataclass(slots=True)
class Watching:
    """The cards of a hand-made machine, look by look."""

    box: Box
    period_s: float = 0.1
    commission: Commission | None = None
    memory: CardsMemory = field(default_factory=CardsMemory)
    time_s: float = 50.0
    alerts: list[Alert] = field(default_factory=list)

    def look(self, *gpus: Gpu, turns: int = 1) -> tuple[Card, ...]:
        """Some looks at the same cards; what is known after the last."""
        cards: tuple[Card, ...] = ()
        for _ in range(turns):
            snapshot = machine(self.box, self.time_s, gpus=gpus)
            known = known_of(self.box, self.commission)
            cards, self.alerts = observe(snapshot, self.box, Config(), known, self.memory)
            self.memory = CardsMemory({one.gpu.id: one.memory for one in cards}, self.time_s)
            self.time_s += self.period_s
        return cards

    def critical(self) -> list[str]:
        return [alert.reason for alert in self.alerts if alert.severity is Severity.CRITICAL]


def at_work(box: Box, *, activity: float = 1.0, clock_mhz: int = 1500, index: int = 0, busy_pct: float = 100.0) -> Gpu:
    """A card whose watts are so much of what its kind's table says."""
    idle_w = box.gpu.board_power_idle_w
    board_w = idle_w + activity * busy_pct / 100 * (table_envelope(box.gpu).nominal_w(clock_mhz) - idle_w)
    power_w = board_w * box.gpu.socket_to_board
    return card(index, box, clock_limit_mhz=clock_mhz, clock_mhz=clock_mhz, busy_pct=busy_pct, power_w=power_w)


@pytest.mark.parametrize("activity", [0.5, 0.7, 1.0, 1.1])
def test_it_learns_what_a_load_draws_at_its_clock(red: Box, activity: float) -> None:
    (one,) = Watching(red).look(at_work(red, activity=activity), turns=120)
    assert one.memory.activity == pytest.approx(activity, rel=0.03)


def test_it_believes_in_more_at_once_and_in_less_slowly(red: Box) -> None:
    watching = Watching(red)
    watching.look(at_work(red, activity=0.6), turns=120)
    (rising,) = watching.look(at_work(red, activity=1.0), turns=4)
    assert rising.memory.activity > 0.95
    (falling,) = watching.look(at_work(red, activity=0.6), turns=4)
    assert 0.65 < falling.memory.activity < rising.memory.activity


def test_an_idle_card_teaches_nothing(red: Box) -> None:
    watching = Watching(red)
    watching.look(at_work(red, activity=0.6), turns=120)
    (idle,) = watching.look(card(0, red), turns=100)
    assert idle.memory.activity == pytest.approx(0.6, rel=0.05)


def silent(gpu: Gpu) -> Gpu:
    return replace(gpu, power_w=None)


@pytest.mark.parametrize(("period_s", "periods"), [(0.1, 10), (0.2, 3), (1.0, 3)])
def test_an_awake_card_that_falls_silent_keeps_its_watts_for_so_many_looks_and_then_counts_as_its_grant(
    red: Box, period_s: float, periods: int
) -> None:
    watching = Watching(red, period_s)
    gpu = at_work(red, activity=0.6)
    (before,) = watching.look(gpu, turns=30)
    (still,) = watching.look(silent(gpu), turns=periods)
    assert still.is_known
    assert still.watts == pytest.approx(before.watts)
    (lost,) = watching.look(silent(gpu), turns=2)
    assert not lost.is_known
    assert lost.watts == lost.grant_w == board_max_w(gpu, red.gpu)
    assert any("its watts are unknown" in alert.reason for alert in watching.alerts)


def test_a_card_that_never_told_its_watts_counts_as_its_grant_at_once(red: Box) -> None:
    (one,) = Watching(red).look(silent(at_work(red)))
    assert not one.is_known
    assert one.watts == one.grant_w


@pytest.mark.parametrize("power_w", [-40.0, 5_000.0])
def test_an_impossible_reading_counts_as_none(red: Box, power_w: float) -> None:
    watching = Watching(red)
    gpu = at_work(red, activity=0.6)
    (before,) = watching.look(gpu, turns=30)
    lying = replace(gpu, power_w=power_w)
    (still,) = watching.look(lying, turns=5)
    assert still.watts == pytest.approx(before.watts)
    assert any("cannot be true" in alert.reason for alert in watching.alerts)
    (lost,) = watching.look(lying, turns=10)
    assert not lost.is_known
    assert lost.watts == lost.grant_w


@pytest.mark.parametrize(("cap_w", "clock_mhz"), [(0.0, 2965), (-5.0, 2965), (290.0, 0), (290.0, -100_000)])
def test_a_limit_of_nothing_holds_nothing(red: Box, cap_w: float, clock_mhz: int) -> None:
    (one,) = Watching(red).look(card(0, red, cap_w=cap_w, clock_limit_mhz=clock_mhz))
    assert one.grant_w >= 290.0 / red.gpu.socket_to_board_min


def test_a_busy_share_beyond_reason_is_kept_within_it(red: Box) -> None:
    (over,) = Watching(red).look(card(0, red, busy_pct=1e9))
    (under,) = Watching(red).look(card(0, red, busy_pct=-40.0))
    assert (over.busy, under.busy) == (1.0, 0.0)


def test_a_sleeping_card_counts_as_asleep_and_keeps_its_grant(red: Box) -> None:
    watching = Watching(red)
    (before,) = watching.look(at_work(red), turns=20)
    (asleep,) = watching.look(Gpu("gpu/0", GpuState.ASLEEP, red.gpu.slots[0]), turns=100)
    assert asleep.is_known
    assert asleep.watts == red.gpu.board_power_idle_w
    assert asleep.grant_w == before.grant_w


def test_a_card_above_its_envelope_raises_it_at_once_and_says_so(red: Box) -> None:
    watching = Watching(red)
    gpu = at_work(red)
    (before,) = watching.look(gpu, turns=20)
    above_w = before.grant_w * 1.1
    (one,) = watching.look(replace(gpu, power_w=above_w * red.gpu.socket_to_board))
    assert one.grant_w == pytest.approx(above_w)
    assert any("its envelope is raised" in reason for reason in watching.critical())


def test_a_cap_that_takes_a_moment_to_hold_is_no_fault_and_one_that_never_does_is(red: Box) -> None:
    watching = Watching(red)
    capped = replace(at_work(red, clock_mhz=2900), cap_w=200.0, power_w=200.0)
    (before,) = watching.look(capped, turns=20)
    over = replace(capped, power_w=240.0)
    (passing,) = watching.look(over, turns=6)
    assert passing.grant_w == before.grant_w
    assert watching.critical() == []
    watching.look(capped, turns=5)
    said = []
    for _ in range(15):
        (lasting,) = watching.look(over)
        said += watching.critical()
    assert lasting.grant_w > before.grant_w
    assert any("its envelope is raised" in reason for reason in said)


def test_an_envelope_that_was_raised_stays_so_at_every_clock(red: Box) -> None:
    watching = Watching(red)
    gpu = at_work(red)
    (before,) = watching.look(gpu, turns=20)
    watching.look(replace(gpu, power_w=before.grant_w * 1.1 * red.gpu.socket_to_board), turns=3)
    lower = at_work(red, clock_mhz=1000, activity=0.5)
    (one,) = watching.look(lower, turns=30)
    assert one.grant_w >= board_max_w(lower, red.gpu) * 1.09


def test_a_reading_a_little_above_is_the_sensor_and_not_the_card(red: Box) -> None:
    watching = Watching(red)
    gpu = at_work(red)
    (before,) = watching.look(gpu, turns=20)
    (one,) = watching.look(replace(gpu, power_w=before.grant_w * 1.01 * red.gpu.socket_to_board))
    assert one.grant_w == before.grant_w
    assert watching.critical() == []


def test_the_sum_is_brought_back_under_the_pool_after_a_card_went_above_its_envelope(red: Box) -> None:
    gpus = tuple(card(i, red, busy_pct=100.0, power_w=75.0) for i in range(6))
    psus = tuple(Psu(f"psu/{i}", 370.0, 120.0) for i in range(2))
    after = Governed(red, machine(red, gpus=gpus, psus=psus, bmc=Bmc("bmc", 740.0, 120.0))).run(6)
    after.change(0, power_w=1.15 * after.decision.power.grants[0].board_w * red.gpu.socket_to_board)
    after.turn()
    after.change(0, power_w=75.0)
    after.run(10)
    assert sum(grant.board_w for grant in after.decision.power.grants) <= after.decision.power.gpu_pool_w


def test_mates_that_began_together_and_wait_run_slower_than_the_one_they_wait_for(red: Box) -> None:
    watching = Watching(red)
    gpus = (at_work(red, index=0), at_work(red, index=1, busy_pct=80.0))
    watching.look(card(0, red), card(1, red), turns=10)
    slowest, waiting = watching.look(*gpus, turns=100)
    assert slowest.memory.ratio == 1.0
    assert waiting.memory.ratio < 1.0


def test_cards_that_began_at_different_times_are_no_mates(red: Box) -> None:
    watching = Watching(red)
    watching.look(card(0, red), card(1, red), turns=10)
    watching.look(at_work(red, index=0), card(1, red), turns=10)
    _, other = watching.look(at_work(red, index=0), at_work(red, index=1, busy_pct=80.0), turns=100)
    assert other.memory.ratio == 1.0


def test_a_card_that_no_longer_waits_gets_the_common_clock_back(red: Box) -> None:
    watching = Watching(red)
    watching.look(card(0, red), card(1, red), turns=10)
    watching.look(at_work(red, index=0), at_work(red, index=1, busy_pct=80.0), turns=100)
    _, one = watching.look(at_work(red, index=0), at_work(red, index=1), turns=900)
    assert one.memory.ratio == pytest.approx(1.0, abs=0.02)


class Obeying:
    """Cards at full load; `deaf` ones take a clock limit and go on drawing what they did."""

    def __init__(self, box: Box, deaf: set[str]) -> None:
        self.box, self.deaf, self.meter_w = box, deaf, 240.0

    def draw(self, snapshot: Snapshot) -> Snapshot:
        """What each draws now: by its clock limit and its cap, or by its cap alone."""
        table = table_envelope(self.box.gpu)
        gpus = []
        for gpu in snapshot.gpus:
            clock_mhz = self.box.gpu.clock_max_mhz if gpu.id in self.deaf else gpu.clock_limit_mhz
            assert clock_mhz is not None and gpu.cap_w is not None
            power_w = min(table.nominal_w(clock_mhz) * 0.83, gpu.cap_w)
            gpus.append(replace(gpu, power_w=power_w, clock_mhz=clock_mhz, busy_pct=100.0))
        watts = (sum(gpu.power_w or 0.0 for gpu in gpus) / 0.83 + 145.0) / 0.92
        line_v = 120.0 - 0.2 * watts / 120.0
        self.meter_w += (watts - self.meter_w) * (1 - math.exp(-0.1 / 0.25))  # a supply's meter is late
        half_w = self.meter_w / 2
        psus = tuple(replace(psu, in_w=half_w, in_v=line_v, in_a=half_w / line_v) for psu in snapshot.psus)
        bmc = replace(snapshot.bmc, wall_w=self.meter_w)
        return replace(snapshot, gpus=tuple(gpus), psus=psus, bmc=bmc)


def bounded(box: Box, deaf: set[str], *, seconds: float) -> tuple[Governed, list[str]]:
    """Six cards that begin to work under the bounded guarantee; every critical word that was said."""
    cards = Obeying(box, deaf)
    config = Config(power=PowerConfig(guarantee="bounded"))
    after = Governed(box, machine(box, failsafe_age_s=0.05), config)
    after.memory = replace(after.memory, commission=by_table(box))
    after.run(12)
    after.snapshot = cards.draw(after.snapshot)
    said: list[str] = []
    for _ in range(round(seconds * 10)):
        said += [alert.reason for alert in after.turn().alerts if alert.severity is Severity.CRITICAL]
        after.snapshot = cards.draw(after.snapshot)
    return after, said


def test_a_lowering_that_lowers_nothing_counts_as_absent_and_the_cap_is_used(red: Box) -> None:
    after, said = bounded(red, {"gpu/3"}, seconds=12)
    assert any("a lower clock limit lowered nothing" in reason for reason in said)
    caps = [action for action in after.written if isinstance(action, SetCap) and action.device == "gpu/3"]
    assert caps and caps[-1].cap_w == red.gpu.cap_min_w
    assert after.snapshot.gpus[3].cap_w == red.gpu.cap_min_w


def test_levers_that_work_are_not_called_deaf(red: Box) -> None:
    after, said = bounded(red, set(), seconds=20)
    assert not any("lowered nothing" in reason for reason in said)
    assert not any(one.is_deaf for one in after.memory.power.cards.cards.values())


def test_a_card_whose_load_ends_as_its_clock_falls_is_not_called_deaf(red: Box) -> None:
    after, _ = bounded(red, {"gpu/3"}, seconds=0.3)
    for _ in range(50):
        after.change(3, busy_pct=0.0, power_w=15.0)
        after.turn()
    assert not after.memory.power.cards.cards["gpu/3"].is_deaf


@pytest.mark.parametrize("guarantee", ["strict", "bounded"])
def test_no_card_is_written_more_than_sixty_times_a_minute_whatever_it_does(red: Box, guarantee: str) -> None:
    """A load that changes each look, in the worst phase for whoever follows it."""
    config = Config(power=PowerConfig(guarantee=guarantee))
    after = Governed(red, machine(red, failsafe_age_s=0.05), config)
    if guarantee == "bounded":
        after.memory = replace(after.memory, commission=by_table(red))
    times: dict[str, list[float]] = {f"gpu/{i}": [] for i in range(6)}
    for turn in range(1800):
        for index in range(6):
            is_busy = (turn // (3 + 2 * index)) % 2 == 0
            limit_mhz = after.snapshot.gpus[index].clock_limit_mhz or 0
            watts = 0.8 * table_envelope(red.gpu).nominal_w(limit_mhz) if is_busy else 15.0
            after.change(index, busy_pct=100.0 if is_busy else 0.0, power_w=watts)
        now_s = after.snapshot.time_s
        for action in after.turn().actions:
            if isinstance(action, SetCap | SetClockLimit):
                times[action.device].append(now_s)
    for at_s in times.values():
        for i, start_s in enumerate(at_s):
            assert sum(1 for one in at_s[i:] if one < start_s + 60.0) <= 60


@pytest.mark.parametrize("guarantee", ["strict", "bounded"])
@pytest.mark.parametrize("is_blind", [True, False])
def test_a_card_that_refuses_or_cannot_be_read_is_not_written_without_end(
    red: Box, guarantee: str, is_blind: bool
) -> None:
    config = Config(power=PowerConfig(guarantee=guarantee))
    cards = Obeying(red, set())
    after = Governed(red, cards.draw(machine(red, failsafe_age_s=0.05)), config, obedience={"gpu/2": refuse})
    if guarantee == "bounded":
        after.memory = replace(after.memory, commission=by_table(red))
    for _ in range(600):
        after.snapshot = cards.draw(after.snapshot)
        seen = after.snapshot
        if is_blind:
            after.change(2, cap_w=None, clock_limit_mhz=None)
        after.turn()
        after.snapshot = replace(
            after.snapshot, gpus=(*after.snapshot.gpus[:2], seen.gpus[2], *after.snapshot.gpus[3:])
        )
    assert 5 <= sum(action.device == "gpu/2" for action in after.written) <= 60


def test_a_lowering_below_which_the_cap_already_holds_the_card_proves_nothing(red: Box) -> None:
    """At its cap it draws less than its clock would let it, so a somewhat lower clock changes nothing."""
    cards = Obeying(red, set())
    one = replace(cards.draw(machine(red)).gpus[0], clock_limit_mhz=2965, busy_pct=100.0, power_w=290.0)
    watching = Watching(red, commission=by_table(red))
    (known,) = watching.look(one, turns=100)
    told = written(known, [SetClockLimit("gpu/0", 2600)], watching.time_s)
    assert told.memory.told_w is None


def test_a_raise_in_the_time_of_proof_ends_it(red: Box) -> None:
    watching = Watching(red, commission=by_table(red))
    (known,) = watching.look(at_work(red, clock_mhz=2000), turns=100)
    told = written(known, [SetClockLimit("gpu/0", 1000)], watching.time_s)
    assert told.memory.told_w is not None
    assert written(told, [SetClockLimit("gpu/0", 2500)], watching.time_s).memory.told_w is None
