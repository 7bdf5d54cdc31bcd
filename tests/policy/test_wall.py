"""Wall power and line voltage from whoever can say them; noise and health beside them."""

import math
from dataclasses import dataclass, field, replace

import pytest

from tests.policy.conftest import Governed, machine
from tinybox.core.box import Box
from tinybox.core.circuit import Circuit
from tinybox.core.config import Config
from tinybox.core.decision import WallSource
from tinybox.core.snapshot import Bmc, Cpu, Psu, Severity, Snapshot
from tinybox.policy.decide import decide, fresh_memory
from tinybox.policy.wall import Parts, WallMemory, WallReading, read_wall

IDLE_W = 240.0  # what the hand-made machine's supplies say


@dataclass(slots=True)
class Looking:
    """The wall as a machine by hand shows it, tenth by tenth."""

    box: Box
    circuit: Circuit
    memory: WallMemory = field(default_factory=WallMemory)
    time_s: float = 0.0

    def look(
        self, true_w: float, *, seconds: float = 0.1, parts_gain: float = 1.0, is_known: bool = True, **changes: object
    ) -> WallReading:
        """Some tenths with the parts at `true_w` of the wall; the last reading."""
        parts = Parts(true_w * self.box.psu.efficiency_nominal * parts_gain, is_known)
        for _ in range(round(seconds / 0.1)):
            snapshot = replace(machine(self.box, self.time_s), **told(true_w, **changes))  # type: ignore[arg-type]
            wall, self.memory = read_wall(snapshot, self.box, self.circuit, parts, self.memory)
            self.time_s += 0.1
        return wall


def supplies(*watts: float | None, line_v: float | None = 120.0) -> tuple[Psu, ...]:
    return tuple(Psu(f"psu/{i}", one, line_v) for i, one in enumerate(watts))


def told(true_w: float, **changes: object) -> dict[str, object]:
    """Every witness says the truth but for the changes."""
    return {"psus": supplies(true_w / 2, true_w / 2), "bmc": Bmc("bmc", true_w, 120.0), **changes}


@pytest.fixture
def looking(red: Box, circuit: Circuit) -> Looking:
    return Looking(red, circuit)


def words(wall: WallReading) -> str:
    return " ".join(alert.reason for alert in wall.alerts)


def test_the_supplies_are_believed_first(looking: Looking) -> None:
    wall = looking.look(IDLE_W, seconds=3)
    assert (wall.source, wall.line_v, wall.alerts) == (WallSource.PSU, 120.0, ())
    assert wall.now_w == pytest.approx(IDLE_W)
    assert wall.amps == pytest.approx(IDLE_W / 120.0 / looking.circuit.power_factor)


def test_the_mean_is_of_about_the_last_second(looking: Looking) -> None:
    looking.look(200.0, seconds=3)
    wall = looking.look(400.0, seconds=0.2)
    assert 200.0 < wall.mean_w < 320.0
    assert looking.look(400.0, seconds=3).mean_w == pytest.approx(400.0, rel=0.03)


def test_a_step_of_the_parts_is_seen_before_the_meters_tell(looking: Looking) -> None:
    looking.look(400.0, seconds=5)
    wall = looking.look(1400.0, psus=supplies(200.0, 200.0), bmc=Bmc("bmc", 400.0, 120.0))
    assert wall.now_w > 400.0 + 0.6 * 1000.0


def test_parts_that_are_off_by_a_few_percent_do_not_move_the_level(looking: Looking) -> None:
    wall = looking.look(1000.0, seconds=5, parts_gain=1.08)
    assert wall.now_w == pytest.approx(1000.0, rel=0.01)
    assert wall.source is WallSource.PSU


def test_one_silent_supply_makes_the_bmc_the_witness(looking: Looking) -> None:
    looking.look(IDLE_W, seconds=3)
    wall = looking.look(IDLE_W, seconds=3, psus=supplies(120.0, None))
    assert wall.source is WallSource.BMC
    assert wall.now_w == pytest.approx(IDLE_W, rel=0.05)


def test_without_any_witness_the_parts_are_added_up_and_it_is_said(looking: Looking) -> None:
    wall = looking.look(IDLE_W, seconds=3, psus=(), bmc=Bmc())
    assert wall.source is WallSource.ESTIMATE
    assert wall.line_v is None
    assert {alert.id for alert in wall.alerts} == {"power"}
    assert "no supply and no BMC tells the wall power: it is estimated" in words(wall)
    assert wall.now_w >= IDLE_W


def test_a_part_that_says_nothing_counts_with_its_worst(red: Box) -> None:
    snapshot = machine(red, psus=(), bmc=Bmc())
    silent = replace(snapshot, cpu=Cpu(), gpus=tuple(replace(gpu, power_w=None) for gpu in snapshot.gpus))
    known_w = Governed(red, snapshot).turn().power.wall_w
    unknown_w = Governed(red, silent).turn().power.wall_w
    assert known_w is not None and unknown_w is not None
    assert unknown_w > known_w + (6 * 300 + 100) / 0.95


@pytest.mark.parametrize("watts", [0.0, -120.0, 1e9])
def test_a_meter_that_cannot_be_true_does_not_count_and_it_is_said(looking: Looking, watts: float) -> None:
    looking.look(IDLE_W, seconds=3)
    wall = looking.look(IDLE_W, seconds=2, psus=supplies(120.0, watts))
    assert wall.source is WallSource.BMC
    assert wall.now_w == pytest.approx(IDLE_W, rel=0.05)
    assert "cannot be true: it does not count" in words(wall)


def test_a_supply_that_says_next_to_nothing_is_the_one_that_is_far_off(looking: Looking) -> None:
    wall = looking.look(IDLE_W, seconds=2, psus=supplies(5e-324, 120.0))
    assert "a supply that says 0 W is far from the others" in words(wall)


def test_a_meter_that_says_the_same_to_the_digit_while_the_load_moved_is_stuck(looking: Looking) -> None:
    looking.look(400.0, seconds=20)
    wall = looking.look(1400.0, seconds=4, psus=supplies(200.0, 700.0))
    assert "has said 200 W while the load moved: it does not count" in words(wall)
    assert 0.97 * 1400.0 <= wall.now_w <= 1.15 * 1400.0


def test_a_meter_that_says_the_same_while_nothing_moves_is_not_stuck(looking: Looking) -> None:
    assert looking.look(400.0, seconds=60).source is WallSource.PSU


def test_every_witness_stuck_leaves_the_parts(looking: Looking) -> None:
    looking.look(400.0, seconds=5)
    wall = looking.look(1400.0, seconds=6, psus=supplies(200.0, 200.0), bmc=Bmc("bmc", 400.0, 120.0))
    assert wall.now_w == pytest.approx(1400.0, rel=0.1)
    assert wall.alerts


@pytest.mark.parametrize("gain", [10.0, 3.0, 1.5, 0.5, 0.1])
def test_supplies_that_lie_are_outvoted_by_bmc_and_parts(looking: Looking, gain: float) -> None:
    wall = looking.look(1200.0, seconds=8, psus=supplies(600.0 * gain, 600.0 * gain))
    assert wall.now_w >= 1200.0 * 0.97
    wall = looking.look(1200.0, seconds=60, psus=supplies(600.0 * gain, 600.0 * gain))
    assert wall.now_w == pytest.approx(1200.0, rel=0.08)
    assert "wall" in words(wall) or "cannot be true" in words(wall)


@pytest.mark.parametrize("gain", [10.0, 3.0, 0.5, 0.1])
def test_a_bmc_that_lies_is_outvoted_by_supplies_and_parts(looking: Looking, gain: float) -> None:
    wall = looking.look(1200.0, seconds=8, bmc=Bmc("bmc", 1200.0 * gain, 120.0))
    assert wall.source is WallSource.PSU
    assert wall.now_w == pytest.approx(1200.0, rel=0.02)


@pytest.mark.parametrize("gain", [0.5, 0.6, 0.7])
def test_a_controller_that_is_late_does_not_vouch_for_supplies_that_say_too_little(
    looking: Looking, gain: float
) -> None:
    """From the start, and under a load that rises: a mean of seconds looks as low as the liar."""
    for step in range(12):
        true_w = 400.0 + 100.0 * step
        late = Bmc("bmc", max(400.0, true_w - 200.0), 120.0)
        wall = looking.look(true_w, psus=supplies(true_w * gain / 2, true_w * gain / 2), bmc=late)
        assert step < 2 or wall.now_w >= 0.97 * true_w  # one reading is no comparison


def test_where_supplies_and_controller_both_fit_the_parts_and_differ_for_long_the_higher_counts(
    looking: Looking,
) -> None:
    looking.look(1200.0, seconds=30)
    wall = looking.look(1200.0, seconds=30, psus=supplies(516.0, 516.0))  # 14 % too low
    assert wall.now_w == pytest.approx(1200.0, rel=0.02)


@pytest.mark.parametrize("gain", [2.0, 1.3, 0.6])
def test_supplies_alone_that_contradict_the_parts_never_make_the_wall_look_small(looking: Looking, gain: float) -> None:
    wall = looking.look(1200.0, seconds=8, psus=supplies(600.0 * gain, 600.0 * gain), bmc=Bmc())
    assert wall.now_w >= 1200.0
    assert "the higher counts" in words(wall)


def test_meters_lost_while_little_works_leave_the_ratio_of_full_load_in_force(looking: Looking) -> None:
    looking.look(1400.0, seconds=20, parts_gain=0.9)
    looking.look(500.0, seconds=10)
    lost = supplies(None, None)
    looking.look(500.0, seconds=10, psus=lost)
    wall = looking.look(1400.0, seconds=1, parts_gain=0.9, psus=lost)
    assert wall.now_w == pytest.approx(1400.0, rel=0.02)


def test_parts_that_miss_work_are_outvoted_by_supplies_and_bmc(looking: Looking) -> None:
    """A card that something drives without our seeing it."""
    wall = looking.look(1200.0, seconds=8, parts_gain=0.6)
    assert wall.now_w == pytest.approx(1200.0, rel=0.02)
    assert wall.excess > 0.3


def test_witnesses_that_disagree_are_reported(looking: Looking) -> None:
    looking.look(IDLE_W, seconds=3)
    wall = looking.look(IDLE_W, seconds=90, bmc=Bmc("bmc", 900.0, 120.0))
    assert "supplies say 240 W at the wall, the BMC says" in words(wall)


def test_a_circuit_of_another_voltage_is_a_critical_alert(looking: Looking, red: Box) -> None:
    wall = looking.look(IDLE_W, psus=supplies(120.0, 120.0, line_v=231.0))
    assert wall.alerts[0].severity is Severity.CRITICAL
    decision, _ = decide(machine(red, psus=supplies(120.0, 120.0, line_v=231.0)), red, Config(), fresh_memory(Config()))
    assert decision.power.gpu_pool_w < 1100  # a lying voltmeter buys no watts: at most nominal +5 %


def test_volts_that_lie_upwards_do_not_make_the_amps_look_few(looking: Looking) -> None:
    wall = looking.look(1200.0, seconds=3, psus=supplies(600.0, 600.0, line_v=231.0))
    assert wall.amps >= 1200.0 / (126.0 * looking.circuit.power_factor) - 1e-9


@pytest.mark.parametrize("line_v", [None, 0.0, -5.0])
def test_without_a_voltmeter_the_line_is_taken_as_low_and_it_is_said(looking: Looking, line_v: float | None) -> None:
    wall = looking.look(1200.0, seconds=3, psus=supplies(600.0, 600.0, line_v=line_v), bmc=Bmc("bmc", 1200.0))
    assert wall.line_v is None
    assert "line voltage unreadable: the budget takes" in words(wall)
    assert wall.amps >= 1200.0 / (114.0 * looking.circuit.power_factor) - 1e-9


@pytest.mark.parametrize(
    ("volts", "counted"), [((116.0, 150.0), 116.0), ((116.0, 124.0), 116.0), ((119.0, 3.0), 119.0)]
)
def test_of_two_voltmeters_the_lower_likely_one_counts(
    looking: Looking, volts: tuple[float, float], counted: float
) -> None:
    psus = tuple(Psu(f"psu/{i}", 120.0, volt) for i, volt in enumerate(volts))
    wall = looking.look(IDLE_W, psus=psus)
    assert wall.line_v == counted
    assert "disagree on the line" in wall.alerts[0].reason


def test_the_bmcs_voltmeter_serves_where_the_supplies_have_none(looking: Looking) -> None:
    assert looking.look(IDLE_W, psus=supplies(120.0, 120.0, line_v=None)).line_v == 120.0


def test_a_clock_that_jumps_leaves_the_wall_finite(red: Box, circuit: Circuit) -> None:
    memory = WallMemory()
    for time_s in (100.0, 100.1, 3.0, 3.0, 9e8, 9e8 + 0.1):
        wall, memory = read_wall(snapshot_at(red, time_s), red, circuit, Parts(220.0, is_known=True), memory)
        assert math.isfinite(wall.now_w) and math.isfinite(wall.amps) and math.isfinite(wall.mean_w)


def snapshot_at(box: Box, time_s: float) -> Snapshot:
    return machine(box, time_s)


def test_a_healthy_box_has_nothing_to_say(red: Box) -> None:
    decision, _ = decide(machine(red), red, Config(), fresh_memory(Config()))
    assert [alert for alert in decision.alerts if alert.id != "power"] == []
