"""The promise: what the cards may draw under the limits in force never sums above what the circuit leaves them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.conftest import card, machine
from tinybox.core.actions import Action, SetCap, SetClockLimit
from tinybox.core.box import Box, load_box
from tinybox.core.circuit import Circuit, circuit_of
from tinybox.core.config import Config
from tinybox.core.snapshot import Gpu, GpuState, Psu, Snapshot
from tinybox.policy.decide import Memory, decide, fresh_memory
from tinybox.policy.envelope import board_max_w, clock_for_w, limits_for, power_at_clock_w
from tinybox.policy.power import failsafe_actions, gpu_pool_w

Obey = Callable[[Gpu, Action], Gpu]


def obey(gpu: Gpu, action: Action) -> Gpu:
    """A card that takes its limits."""
    if isinstance(action, SetCap):
        return replace(gpu, cap_w=action.cap_w)
    return replace(gpu, clock_limit_mhz=action.clock_mhz)


def refuse(gpu: Gpu, action: Action) -> Gpu:
    """A card that does not."""
    del action
    return gpu


def govern(
    snapshot: Snapshot, box: Box, *, seconds: float, obedience: dict[str, Obey] | None = None, period_s: float = 0.1
) -> tuple[Snapshot, Memory, list[Action]]:
    """Run the policy against cards that answer as told; every action that was written, in order."""
    memory, written = fresh_memory(Config()), []
    for _ in range(round(seconds / period_s)):
        decision, memory = decide(snapshot, box, Config(), memory)
        gpus = {gpu.id: gpu for gpu in snapshot.gpus}
        for action in decision.actions:
            written.append(action)
            answer = (obedience or {}).get(action.gpu, obey)
            gpus[action.gpu] = answer(gpus[action.gpu], action)
        snapshot = replace(snapshot, time_s=snapshot.time_s + period_s, gpus=tuple(gpus.values()))
    return snapshot, memory, written


def in_force_w(snapshot: Snapshot, box: Box) -> float:
    return sum(board_max_w(gpu, box.gpu) for gpu in snapshot.gpus)


def test_six_stock_cards_are_brought_under_the_outlet(red: Box, circuit: Circuit) -> None:
    before = machine(red)
    assert in_force_w(before, red) > 2 * gpu_pool_w(circuit.budget_w(120.0), red)
    after, _, _ = govern(before, red, seconds=3)
    assert in_force_w(after, red) <= gpu_pool_w(circuit.budget_w(120.0), red)
    assert in_force_w(after, red) > 0.95 * gpu_pool_w(circuit.budget_w(120.0), red)


def test_caps_alone_cannot_hold_the_outlet_so_the_clock_does(red: Box) -> None:
    after, _, written = govern(machine(red), red, seconds=3)
    assert any(isinstance(action, SetClockLimit) for action in written)
    assert all(gpu.clock_limit_mhz is not None and gpu.clock_limit_mhz < 1500 for gpu in after.gpus)


def test_where_the_driver_has_no_minimum_the_cap_alone_does(red: Box, circuit: Circuit) -> None:
    gpus = tuple(card(i, red, cap_min_w=0.0) for i in range(6))
    after, _, _ = govern(machine(red, gpus=gpus), red, seconds=3)
    assert all(gpu.cap_w is not None and 100 < gpu.cap_w < 140 for gpu in after.gpus)
    assert all(gpu.clock_limit_mhz == red.gpu.clock_max_mhz for gpu in after.gpus)
    assert in_force_w(after, red) <= gpu_pool_w(circuit.budget_w(120.0), red)


def test_a_settled_box_is_left_alone(red: Box) -> None:
    settled, memory, _ = govern(machine(red), red, seconds=5)
    decision, _ = decide(replace(settled, time_s=settled.time_s + 0.1), red, Config(), memory)
    assert decision.actions == ()
    assert decision.reason.startswith("6 cards set to ")


def test_the_watts_of_a_card_that_refuses_come_off_the_others(red: Box, circuit: Circuit) -> None:
    after, memory, _ = govern(machine(red), red, seconds=10, obedience={"gpu/2": refuse})
    assert in_force_w(after, red) <= gpu_pool_w(circuit.budget_w(120.0), red)
    decision, _ = decide(replace(after, time_s=after.time_s + 0.1), red, Config(), memory)
    assert any(alert.id == "gpu/2" and alert.severity == "critical" for alert in decision.alerts)


def test_more_than_the_cards_can_be_held_to_is_said(red: Box) -> None:
    gpus = tuple(card(i, red, has_clock_lever=False, clock_limit_mhz=None) for i in range(6))
    after, memory, _ = govern(machine(red, gpus=gpus), red, seconds=10)
    decision, _ = decide(replace(after, time_s=after.time_s + 0.1), red, Config(), memory)
    reasons = " ".join(alert.reason for alert in decision.alerts if alert.severity == "critical")
    assert "the circuit leaves them" in reasons
    assert "amdgpu.ppfeaturemask" in reasons


def test_a_sleeping_card_is_neither_written_nor_forgotten(red: Box, circuit: Circuit) -> None:
    asleep = Gpu(id="gpu/5", state=GpuState.ASLEEP, pci=red.gpu.slots[5])
    snapshot = machine(red)
    after, memory, written = govern(replace(snapshot, gpus=(*snapshot.gpus[:5], asleep)), red, seconds=10)
    assert all(action.gpu != "gpu/5" for action in written)
    unknown_w = red.gpu.board_power_max_w  # nobody knows its limits: it may wake to its most
    awake_w = sum(board_max_w(gpu, red.gpu) for gpu in after.gpus[:5])
    assert awake_w + unknown_w <= gpu_pool_w(circuit.budget_w(120.0), red)
    assert memory.power.share_w is not None


def test_a_card_that_slept_under_limits_keeps_only_its_share(red: Box) -> None:
    settled, memory, _ = govern(machine(red), red, seconds=5)
    share_before = memory.power.share_w
    asleep = Gpu(id="gpu/5", state=GpuState.ASLEEP, pci=red.gpu.slots[5])
    decision, memory = decide(
        replace(settled, gpus=(*settled.gpus[:5], asleep), time_s=settled.time_s + 0.1), red, Config(), memory
    )
    assert memory.power.share_w == share_before
    assert decision.actions == ()


def test_a_card_that_comes_back_at_its_defaults_is_limited_at_once(red: Box) -> None:
    settled, memory, _ = govern(machine(red), red, seconds=5)
    back = replace(settled, gpus=(card(0, red), *settled.gpus[1:]), time_s=settled.time_s + 0.1)
    decision, _ = decide(back, red, Config(), memory)
    assert {action.gpu for action in decision.actions} == {"gpu/0"}
    assert any(isinstance(action, SetClockLimit) for action in decision.actions)


def test_a_sagging_line_takes_watts_at_once_and_gives_them_back_slowly(red: Box) -> None:
    settled, memory, _ = govern(machine(red), red, seconds=5)
    limit = settled.gpus[0].clock_limit_mhz
    psus = tuple(Psu(f"psu/{i}", 120.0, 112.0, 1.0, 110.0, 40.0) for i in range(2))
    decision, memory = decide(replace(settled, psus=psus, time_s=settled.time_s + 0.1), red, Config(), memory)
    lowered = [a for a in decision.actions if isinstance(a, SetClockLimit)]
    assert len(lowered) == 6
    assert limit is not None and all(action.clock_mhz < limit for action in lowered)
    gpus = tuple(obey(gpu, action) for gpu, action in zip(settled.gpus, lowered, strict=True))
    decision, _ = decide(replace(settled, gpus=gpus, time_s=settled.time_s + 0.2), red, Config(), memory)
    assert decision.actions == ()


def test_a_wall_over_budget_shrinks_the_shares_whatever_the_table_says(red: Box) -> None:
    settled, _, _ = govern(machine(red), red, seconds=5)
    psus = tuple(Psu(f"psu/{i}", 760.0, 120.0, 6.4, 700.0, 40.0) for i in range(2))
    after, memory, _ = govern(replace(settled, psus=psus), red, seconds=2)
    assert memory.power.trim < 1.0
    before, now = settled.gpus[0].clock_limit_mhz, after.gpus[0].clock_limit_mhz
    assert before is not None and now is not None and now < before


def test_failsafe_holds_every_awake_card_at_its_lowest(red: Box) -> None:
    gpus = (card(0, red), replace(card(1, red), state=GpuState.GONE))
    assert failsafe_actions(gpus, red.gpu) == (SetClockLimit("gpu/0", 500), SetCap("gpu/0", 261.0))


@pytest.mark.parametrize("clock_mhz", [100, 500, 501, 999, 1180, 2500, 2965, 5000])
def test_a_clock_is_never_worth_more_watts_than_its_table_says(clock_mhz: int, red: Box) -> None:
    watts = power_at_clock_w(clock_mhz, red.gpu)
    assert watts <= red.gpu.board_power_max_w
    if watts < red.gpu.board_power_max_w:
        assert clock_for_w(watts, red.gpu) <= max(clock_mhz, red.gpu.clock_min_mhz)


@given(share_w=st.floats(0, 500), least_w=st.sampled_from([0.0, 100.0, 261.0]))
def test_limits_hold_any_share_that_the_levers_reach(share_w: float, least_w: float) -> None:
    red = load_box("red")
    gpu = card(0, red, cap_min_w=least_w)
    limits = limits_for(share_w, gpu, red.gpu)
    held_w = board_max_w(replace(gpu, cap_w=limits.cap_w, clock_limit_mhz=limits.clock_mhz), red.gpu)
    assert held_w <= max(share_w, power_at_clock_w(red.gpu.clock_min_mhz, red.gpu))


def test_the_floor_is_the_lowest_clock_and_never_a_cap_of_nothing(red: Box) -> None:
    for least_w in (0.0, 100.0, 261.0):
        actions = failsafe_actions([card(0, red, cap_min_w=least_w)], red.gpu)
        assert SetClockLimit("gpu/0", red.gpu.clock_min_mhz) in actions
        assert [action.cap_w >= 100 for action in actions if isinstance(action, SetCap)] == [True]


def test_a_lower_limit_counts_only_after_its_own_settling_time(red: Box) -> None:
    """Read back at 0 s: 322 W; at 1 s: 106 W. At 1 s the card is believed to be at 322, not at 106."""
    memory = fresh_memory(Config())
    grants = []
    for tenth in range(25):
        clock_mhz, cap_w = (500, 261.0) if tenth >= 11 else (2965, 261.0) if tenth >= 1 else (2965, 333.0)
        gpu = card(0, red, cap_w=cap_w, clock_limit_mhz=clock_mhz)
        decision, memory = decide(machine(red, tenth / 10, gpus=(gpu,)), red, Config(), memory)
        grants.append(round(decision.power.grants[0].board_w))
    assert grants[0] == 411
    assert grants[10] == 411 and grants[11] == 322
    assert grants[20] == 322 and grants[21] == 106


def test_a_card_that_was_never_there_keeps_its_share_but_costs_the_others_no_more(red: Box) -> None:
    gone = Gpu(id="gpu/5", state=GpuState.GONE, pci=red.gpu.slots[5])
    whole, _, _ = govern(machine(red), red, seconds=5)
    snapshot = machine(red)
    after, _, _ = govern(replace(snapshot, gpus=(*snapshot.gpus[:5], gone)), red, seconds=5)
    assert after.gpus[0].clock_limit_mhz == whole.gpus[0].clock_limit_mhz


# What may happen to a card between two looks.
EVENTS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["reset", "gone", "back", "asleep", "deaf", "blind", "drop"])),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, volts=st.lists(st.floats(108, 128), min_size=1, max_size=8))
def test_no_raise_ever_makes_the_sum_exceed_the_pool(events: list[tuple[int, str]], volts: list[float]) -> None:
    red = load_box("red")
    circuit = circuit_of(red, Config())
    snapshot, memory = machine(red), fresh_memory(Config())
    deaf: set[str] = set()
    for turn in range(80):
        gpus = {gpu.id: gpu for gpu in snapshot.gpus}
        if turn % 2 == 0 and turn // 2 < len(events):
            index, what = events[turn // 2]
            gpus[f"gpu/{index}"] = happen(gpus[f"gpu/{index}"], what, red, deaf)
        line_v = volts[turn * len(volts) // 80]
        psus = tuple(Psu(f"psu/{i}", 500.0, line_v, 4.2, 450.0, 40.0) for i in range(2))
        snapshot = replace(snapshot, time_s=turn * 0.1, gpus=tuple(gpus.values()), psus=psus)
        decision, memory = decide(snapshot, red, Config(), memory)
        for action in decision.actions:
            before = gpus[action.gpu]
            after = obey(before, action)
            grows = board_max_w(after, red.gpu) > board_max_w(before, red.gpu)
            gpus[action.gpu] = before if action.gpu in deaf else after
            if grows:
                total_w = sum(board_max_w(gpu, red.gpu) for gpu in gpus.values() if gpu.state is GpuState.AWAKE)
                assert total_w <= gpu_pool_w(circuit.budget_w(line_v), red) + 1e-6
        snapshot = replace(snapshot, gpus=tuple(gpus.values()))


def happen(gpu: Gpu, what: str, box: Box, deaf: set[str]) -> Gpu:
    """One event of a card's life."""
    index = int(gpu.id.split("/")[1])
    if what in ("reset", "back"):
        deaf.discard(gpu.id)
        return card(index, box)
    if what in ("gone", "asleep"):
        return Gpu(id=gpu.id, state=GpuState(what), pci=gpu.pci)
    if what == "deaf":
        deaf.add(gpu.id)
    if what == "blind":
        return replace(gpu, cap_w=None, clock_limit_mhz=None, power_w=None)
    if what == "drop" and gpu.state is GpuState.AWAKE:
        return replace(gpu, clock_limit_mhz=box.gpu.clock_min_mhz)
    return gpu
