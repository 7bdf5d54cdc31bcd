"""Strict: what the cards may draw under the limits in force never sums above what the circuit leaves them."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.conftest import Governed, card, machine, obey, refuse
from tinybox.core.actions import SetCap, SetClockLimit, SetCpuCap
from tinybox.core.box import Box, load_box
from tinybox.core.circuit import Circuit, circuit_of
from tinybox.core.config import CircuitConfig, Config, GpuConfig, PowerConfig
from tinybox.core.decision import Guarantee
from tinybox.core.snapshot import Cpu, Gpu, GpuState, Psu, Severity, Snapshot
from tinybox.policy.decide import decide, fresh_memory
from tinybox.policy.envelope import board_max_w, table_envelope
from tinybox.policy.power import failsafe_actions, gpu_pool_w


def in_force_w(snapshot: Snapshot, box: Box) -> float:
    return sum(board_max_w(gpu, box.gpu) for gpu in snapshot.gpus)


def clocks(governed: Governed) -> list[int]:
    limits = [gpu.clock_limit_mhz for gpu in governed.snapshot.gpus]
    assert None not in limits
    return [limit for limit in limits if limit is not None]


def working(index: int, box: Box, **changes: object) -> Gpu:
    """A card at full load that draws what it should under the limits it will get."""
    return card(index, box, busy_pct=100.0, power_w=80.0, **changes)


def supplies(watts: float = 120.0, line_v: float = 120.0) -> tuple[Psu, ...]:
    return tuple(Psu(f"psu/{i}", watts, line_v, watts / line_v, 0.9 * watts, 40.0) for i in range(2))


def test_six_stock_cards_are_brought_under_the_outlet(red: Box, circuit: Circuit) -> None:
    assert in_force_w(machine(red), red) > 2 * gpu_pool_w(circuit.budget_w(120.0), red)
    after = Governed(red, machine(red)).run(3)
    assert in_force_w(after.snapshot, red) <= after.decision.power.gpu_pool_w
    assert in_force_w(after.snapshot, red) > 0.95 * after.decision.power.gpu_pool_w
    assert after.decision.power.gpu_pool_w <= gpu_pool_w(circuit.budget_w(120.0), red)


def test_strict_is_what_a_box_that_nobody_measured_gets(red: Box) -> None:
    assert Governed(red, machine(red, failsafe_age_s=0.05)).turn().power.guarantee is Guarantee.STRICT


@pytest.mark.parametrize("age_s", [None, 1.5, 60.0])
def test_bounded_without_a_failsafe_that_answers_is_strict_and_says_so(red: Box, age_s: float | None) -> None:
    config = Config(power=PowerConfig(guarantee="bounded"))
    after = Governed(red, machine(red, failsafe_age_s=age_s), config).run(3)
    assert after.decision.power.guarantee is Guarantee.STRICT
    assert any("the failsafe does not answer" in alert.reason for alert in after.decision.alerts)
    assert in_force_w(after.snapshot, red) <= after.decision.power.gpu_pool_w


def test_caps_alone_cannot_hold_the_outlet_so_the_clock_does(red: Box) -> None:
    after = Governed(red, machine(red)).run(3)
    assert any(isinstance(action, SetClockLimit) for action in after.written)
    assert max(clocks(after)) < 1500


def test_where_the_driver_has_no_minimum_the_cap_does_and_a_clock_bounds_a_waking_card(red: Box) -> None:
    gpus = tuple(card(i, red, cap_min_w=0.0) for i in range(6))
    after = Governed(red, machine(red, gpus=gpus)).run(3)
    assert all(gpu.cap_w is not None and 100 < gpu.cap_w < 140 for gpu in after.snapshot.gpus)
    assert all(1000 < clock_mhz < 1800 for clock_mhz in clocks(after))
    assert in_force_w(after.snapshot, red) <= after.decision.power.gpu_pool_w


def test_a_settled_box_is_left_alone(red: Box) -> None:
    after = Governed(red, machine(red)).run(5)
    after.written.clear()
    decision = after.run(20).decision
    assert after.written == []
    assert decision.reason.startswith("6 cards set to ")


def test_the_watts_of_a_card_that_refuses_come_off_the_others(red: Box) -> None:
    after = Governed(red, machine(red), obedience={"gpu/2": refuse}).run(10)
    assert in_force_w(after.snapshot, red) <= after.decision.power.gpu_pool_w
    assert any(alert.id == "gpu/2" and alert.severity is Severity.CRITICAL for alert in after.decision.alerts)


def test_more_than_the_cards_can_be_held_to_is_said(red: Box) -> None:
    gpus = tuple(card(i, red, has_clock_lever=False, clock_limit_mhz=None) for i in range(6))
    after = Governed(red, machine(red, gpus=gpus)).run(10)
    reasons = " ".join(alert.reason for alert in after.decision.alerts if alert.severity is Severity.CRITICAL)
    assert "the circuit leaves them" in reasons
    assert "amdgpu.ppfeaturemask" in reasons


def test_a_sleeping_card_is_neither_written_nor_forgotten(red: Box) -> None:
    """Nobody knows its limits: it may wake to its most."""
    asleep = Gpu(id="gpu/5", state=GpuState.ASLEEP, pci=red.gpu.slots[5])
    snapshot = machine(red)
    config = Config(circuit=CircuitConfig(outlet="120V/20A"))
    after = Governed(red, replace(snapshot, gpus=(*snapshot.gpus[:5], asleep)), config).run(10)
    assert all(action.device != "gpu/5" for action in after.written)
    awake_w = sum(board_max_w(gpu, red.gpu) for gpu in after.snapshot.gpus[:5])
    pool_w = after.decision.power.gpu_pool_w
    assert 0.9 * pool_w < awake_w + red.gpu.board_power_max_w <= pool_w


def test_a_sleeping_card_beside_which_the_floors_do_not_fit_is_said(red: Box) -> None:
    asleep = Gpu(id="gpu/5", state=GpuState.ASLEEP, pci=red.gpu.slots[5])
    snapshot = machine(red)
    after = Governed(red, replace(snapshot, gpus=(*snapshot.gpus[:5], asleep))).run(10)
    assert [gpu.clock_limit_mhz for gpu in after.snapshot.gpus[:5]] == [red.gpu.clock_min_mhz] * 5
    assert any("the circuit leaves them" in alert.reason for alert in after.decision.alerts)


def test_a_card_that_slept_under_limits_keeps_only_its_share(red: Box) -> None:
    after = Governed(red, machine(red)).run(5)
    granted_w = [grant.board_w for grant in after.decision.power.grants]
    asleep = Gpu(id="gpu/5", state=GpuState.ASLEEP, pci=red.gpu.slots[5])
    after.snapshot = replace(after.snapshot, gpus=(*after.snapshot.gpus[:5], asleep))
    decision = after.turn()
    assert [grant.board_w for grant in decision.power.grants] == granted_w
    assert decision.actions == ()


def test_a_card_that_comes_back_at_its_defaults_is_limited_at_once(red: Box) -> None:
    after = Governed(red, machine(red)).run(5)
    after.snapshot = replace(after.snapshot, gpus=(card(0, red), *after.snapshot.gpus[1:]))
    decision = after.turn()
    assert {action.device for action in decision.actions} == {"gpu/0"}
    assert any(isinstance(action, SetClockLimit) for action in decision.actions)


def test_a_sagging_line_takes_watts_at_once_and_gives_them_back_slowly(red: Box) -> None:
    after = Governed(red, machine(red)).run(5)
    before = clocks(after)
    after.snapshot = replace(after.snapshot, psus=supplies(line_v=112.0))
    lowered = [action for action in after.turn().actions if isinstance(action, SetClockLimit)]
    assert len(lowered) == 6
    assert all(action.clock_mhz < limit for action, limit in zip(lowered, before, strict=True))
    after.snapshot = replace(after.snapshot, psus=supplies(line_v=120.0))
    assert after.turn().actions == ()


def test_a_wall_over_budget_shrinks_the_shares_whatever_the_table_says(red: Box) -> None:
    after = Governed(red, machine(red)).run(5)
    before = clocks(after)
    after.snapshot = replace(after.snapshot, psus=supplies(760.0), bmc=replace(after.snapshot.bmc, wall_w=1520.0))
    after.run(60)
    assert all(now < then for now, then in zip(clocks(after), before, strict=True))
    assert any("shares shrink" in alert.reason for alert in after.decision.alerts)


def test_failsafe_holds_every_awake_card_at_its_lowest(red: Box) -> None:
    gpus = (card(0, red), replace(card(1, red), state=GpuState.GONE))
    assert failsafe_actions(gpus, red) == (SetClockLimit("gpu/0", 500), SetCap("gpu/0", 261.0))


@pytest.mark.parametrize("least_w", [0.0, 100.0, 261.0])
def test_the_floor_is_the_lowest_clock_and_never_a_cap_of_nothing(red: Box, least_w: float) -> None:
    actions = failsafe_actions([card(0, red, cap_min_w=least_w)], red)
    assert SetClockLimit("gpu/0", red.gpu.clock_min_mhz) in actions
    assert [action.cap_w >= 100 for action in actions if isinstance(action, SetCap)] == [True]


def test_a_lower_limit_counts_only_after_its_own_settling_time(red: Box) -> None:
    """A cap read back at 0.1 s and a clock at 1.1 s: at 1.1 s the card is believed to be at the cap's watts only."""
    memory = fresh_memory(Config())
    grants = []
    for tenth in range(25):
        clock_mhz, cap_w = (500, 261.0) if tenth >= 11 else (2965, 261.0) if tenth >= 1 else (2965, 333.0)
        power_w = 250.0 if tenth < 20 else 60.0
        gpu = card(0, red, cap_w=cap_w, clock_limit_mhz=clock_mhz, clock_mhz=2966, power_w=power_w)
        decision, memory = decide(machine(red, tenth / 10, gpus=(gpu,)), red, Config(), memory)
        grants.append(round(decision.power.grants[0].board_w))
    first, then, last = (
        round(board_max_w(card(0, red, cap_w=cap_w, clock_limit_mhz=clock_mhz), red.gpu))
        for cap_w, clock_mhz in ((333.0, 2965), (261.0, 2965), (261.0, 500))
    )
    assert grants[0] == grants[10] == first
    assert grants[11] == grants[20] == then
    assert grants[21] == last


@pytest.mark.parametrize(
    ("power_w", "clock_mhz", "counts"), [(60.0, 480, True), (60.0, 900, False), (250.0, 480, False), (None, 480, False)]
)
def test_a_lower_limit_counts_once_a_later_reading_shows_clock_and_watts_below_it(
    red: Box, power_w: float | None, clock_mhz: int, counts: bool
) -> None:
    memory, grants = fresh_memory(Config()), []
    for tenth in range(4):
        limit_mhz = 500 if tenth >= 1 else 2965
        seen = (power_w, clock_mhz) if tenth >= 2 else (200.0, 2000)
        gpu = card(0, red, clock_limit_mhz=limit_mhz, power_w=seen[0], clock_mhz=seen[1], busy_pct=100.0)
        decision, memory = decide(machine(red, tenth / 10, gpus=(gpu,)), red, Config(), memory)
        grants.append(decision.power.grants[0].board_w)
    floor_w = table_envelope(red.gpu).most_w(500)
    assert grants[1] == grants[0] > floor_w
    assert (grants[2] == floor_w) is counts


def test_a_higher_limit_counts_at_once(red: Box) -> None:
    after = Governed(red, machine(red)).run(5)
    after.change(0, clock_limit_mhz=2965)
    decision, _ = decide(after.snapshot, red, Config(), after.memory)
    assert decision.power.grants[0].board_w == board_max_w(after.snapshot.gpus[0], red.gpu)


def test_a_card_that_was_never_there_costs_the_others_nothing(red: Box) -> None:
    gone = Gpu(id="gpu/5", state=GpuState.GONE, pci=red.gpu.slots[5])
    whole = Governed(red, machine(red)).run(5)
    snapshot = machine(red)
    after = Governed(red, replace(snapshot, gpus=(*snapshot.gpus[:5], gone))).run(5)
    assert after.snapshot.gpus[0].clock_limit_mhz >= whole.snapshot.gpus[0].clock_limit_mhz  # type: ignore[operator]


def test_cards_without_work_wait_at_their_floor_and_the_working_ones_have_the_rest(red: Box) -> None:
    gpus = (working(0, red), *(card(i, red) for i in range(1, 6)))
    after = Governed(red, machine(red, gpus=gpus)).run(8)
    at_work, *waiting = clocks(after)
    assert waiting == [red.gpu.clock_min_mhz] * 5
    assert at_work > 2 * red.gpu.clock_min_mhz
    assert sum(grant.board_w for grant in after.decision.power.grants) <= after.decision.power.gpu_pool_w


def test_a_higher_priority_has_its_watts_first_and_nobody_starves(red: Box) -> None:
    config = Config(gpus=(GpuConfig("gpu/4", priority=2), GpuConfig("gpu/1", priority=-1)))
    after = Governed(red, machine(red, gpus=tuple(working(i, red) for i in range(6))), config).run(8)
    speeds = clocks(after)
    assert speeds[4] == max(speeds) > speeds[0] >= speeds[1] >= red.gpu.clock_min_mhz
    assert sum(grant.board_w for grant in after.decision.power.grants) <= after.decision.power.gpu_pool_w


def test_an_owners_limit_of_one_card_is_kept_and_its_watts_go_to_the_others(red: Box) -> None:
    config = Config(gpus=(GpuConfig("gpu/3", limit_w=115.0),))
    gpus = tuple(working(i, red) for i in range(6))
    after = Governed(red, machine(red, gpus=gpus), config).run(8)
    same = Governed(red, machine(red, gpus=gpus)).run(8)
    assert after.decision.power.grants[3].board_w <= 115.0
    assert clocks(after)[0] > clocks(same)[0]


def test_the_processors_own_limit_leaves_the_cards_more(red: Box) -> None:
    snapshot = machine(red)
    capped = replace(snapshot, cpu=replace(snapshot.cpu, cap_w=120.0))
    pool_w = Governed(red, snapshot).turn().power.gpu_pool_w
    assert Governed(red, capped).turn().power.gpu_pool_w == pytest.approx(pool_w + red.cpu.power_max_w - 120.0)


def test_a_processor_without_a_limit_counts_with_its_worst(red: Box) -> None:
    snapshot = machine(red)
    quiet = replace(snapshot, cpu=replace(snapshot.cpu, power_w=10.0))
    pools = {Governed(red, one).turn().power.gpu_pool_w for one in (snapshot, quiet)}
    assert len(pools) == 1
    silly = replace(snapshot, cpu=replace(snapshot.cpu, cap_w=10_000.0))
    assert Governed(red, silly).turn().power.gpu_pool_w == pools.pop()


def test_a_limit_below_its_idle_watts_does_not_hold_a_processor(red: Box) -> None:
    snapshot = machine(red)
    silly = replace(snapshot, cpu=replace(snapshot.cpu, cap_w=0.01))
    sane = replace(snapshot, cpu=replace(snapshot.cpu, cap_w=red.cpu.power_idle_w))
    assert Governed(red, silly).turn().power.gpu_pool_w == Governed(red, sane).turn().power.gpu_pool_w


def test_the_owners_limit_of_the_processor_is_written_where_it_can_be(red: Box) -> None:
    config = Config(power=PowerConfig(cpu_limit_w=120.0))
    snapshot = machine(red)
    able = replace(snapshot, cpu=replace(snapshot.cpu, cap_w=200.0))
    after = Governed(red, able, config)
    assert SetCpuCap(120.0) in after.turn().actions
    assert not any(isinstance(action, SetCpuCap) for action in after.turn().actions)
    assert not any(isinstance(action, SetCpuCap) for action in Governed(red, snapshot, config).turn().actions)


def test_a_lower_limit_of_the_processor_counts_only_once_it_was_read_back(red: Box) -> None:
    config = Config(power=PowerConfig(cpu_limit_w=120.0))
    snapshot = machine(red)
    able = replace(snapshot, cpu=replace(snapshot.cpu, cap_w=200.0))
    after = Governed(red, able, config)
    first = after.turn().power.gpu_pool_w
    assert after.turn().power.gpu_pool_w >= first


# What may happen to a card between two looks.
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["reset", "gone", "back", "asleep", "deaf", "blind", "drop", "work", "rest", "hungry"]),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(events=EVENTS, volts=st.lists(st.floats(108, 128), min_size=1, max_size=8))
def test_no_raise_ever_makes_the_sum_exceed_the_pool(events: list[tuple[int, str]], volts: list[float]) -> None:
    """Cards that wait idle are at their floor while others work, so a raise is always somebody else's watts."""
    red = load_box("red")
    circuit = circuit_of(red, Config())
    after = Governed(red, machine(red))
    for turn in range(80):
        if turn % 2 == 0 and turn // 2 < len(events):
            index, what = events[turn // 2]
            happen(after, index, what)
        line_v = volts[turn * len(volts) // 80]
        after.snapshot = replace(after.snapshot, time_s=turn * 0.1, psus=supplies(500.0, line_v))
        decision, after.memory = decide(after.snapshot, red, Config(), after.memory)
        pool_w = gpu_pool_w(circuit.budget_w(line_v), red)
        for action in decision.actions:
            before_w = in_force_w(after.snapshot, red)
            after.apply(action)
            awake = [gpu for gpu in after.snapshot.gpus if gpu.state is GpuState.AWAKE]
            now_w = sum(board_max_w(gpu, red.gpu) for gpu in awake)
            assert in_force_w(after.snapshot, red) <= before_w or now_w <= pool_w + 1e-6


@settings(max_examples=40, deadline=None)
@given(events=EVENTS)
def test_the_grants_it_counts_on_are_never_below_what_the_limits_allow(events: list[tuple[int, str]]) -> None:
    red = load_box("red")
    after = Governed(red, machine(red))
    for turn in range(80):
        if turn % 2 == 0 and turn // 2 < len(events):
            happen(after, *events[turn // 2])
        snapshot = after.snapshot
        decision = after.turn()
        for gpu, grant in zip(snapshot.gpus, decision.power.grants, strict=True):
            if gpu.state is GpuState.AWAKE:
                assert grant.board_w >= board_max_w(gpu, red.gpu) - 1e-6


def happen(after: Governed, index: int, what: str) -> None:
    """One event of a card's life."""
    red, gpu = after.box, after.snapshot.gpus[index]
    if what in ("reset", "back"):
        after.obedience.pop(gpu.id, None)
        gpu = card(index, red)
    elif what in ("gone", "asleep"):
        gpu = Gpu(id=gpu.id, state=GpuState(what), pci=gpu.pci)
    elif what == "deaf":
        after.obedience[gpu.id] = refuse
    elif gpu.state is GpuState.AWAKE:
        changes: dict[str, dict[str, object]] = {
            "blind": {"cap_w": None, "clock_limit_mhz": None, "power_w": None},
            "drop": {"clock_limit_mhz": red.gpu.clock_min_mhz},
            "work": {"busy_pct": 100.0, "power_w": 0.79 * 0.8 * board_max_w(gpu, red.gpu)},
            "rest": {"busy_pct": 0.0, "power_w": 15.0},
            "hungry": {"busy_pct": 100.0, "power_w": 250.0},
        }
        gpu = replace(gpu, **changes[what])  # type: ignore[arg-type]
    after.snapshot = replace(
        after.snapshot, gpus=tuple(gpu if one.id == gpu.id else one for one in after.snapshot.gpus)
    )


@pytest.mark.parametrize("watts", [-50.0, 0.0, 9e9])
def test_nonsense_of_the_processor_counts_as_its_worst(red: Box, watts: float) -> None:
    snapshot = machine(red, cpu=Cpu("cpu", 2.0, watts, 45.0, 32, 10**9, red.cpu.memory_bytes))
    after = Governed(red, snapshot).run(3)
    assert in_force_w(after.snapshot, red) <= after.decision.power.gpu_pool_w
    assert after.decision.power.amps is not None and math.isfinite(after.decision.power.amps)


def test_a_clock_that_jumps_back_loses_no_guarantee(red: Box) -> None:
    after = Governed(red, machine(red, time_s=1000.0)).run(5)
    granted_w = [grant.board_w for grant in after.decision.power.grants]
    after.snapshot = replace(after.snapshot, time_s=3.0)
    decision = after.turn()
    assert [grant.board_w for grant in decision.power.grants] == granted_w
    after.run(3)
    assert sum(grant.board_w for grant in after.decision.power.grants) <= after.decision.power.gpu_pool_w


def test_every_write_reaches_a_card_that_just_woke(red: Box) -> None:
    asleep = Gpu(id="gpu/5", state=GpuState.ASLEEP, pci=red.gpu.slots[5])
    snapshot = machine(red)
    after = Governed(red, replace(snapshot, gpus=(*snapshot.gpus[:5], asleep))).run(5)
    after.snapshot = replace(after.snapshot, gpus=(*after.snapshot.gpus[:5], card(5, red)))
    assert {action.device for action in after.turn().actions if isinstance(action, SetClockLimit)} == {"gpu/5"}
    assert obey(card(5, red), SetCap("gpu/5", 261.0)).cap_w == 261.0
