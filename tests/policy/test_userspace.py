"""A card that a program drives itself: its worst is set aside, the others share what is left, nothing is written."""

from dataclasses import replace

import pytest

from tests.policy.conftest import Governed, card, machine
from tinybox.core.box import Box
from tinybox.core.config import CircuitConfig, Config, PowerConfig
from tinybox.core.snapshot import GpuState, Psu, Snapshot
from tinybox.policy.noise import level_now
from tinybox.policy.pace import has_work

STRICT = Config(power=PowerConfig(guarantee="strict"), circuit=CircuitConfig(volts=120.0, amps=20.0))


def with_driven(box: Box, **changes: object) -> Snapshot:
    """Five cards at work, and one that a program drives."""
    driven = {"state": GpuState.USERSPACE, "power_w": None, "busy_pct": None, "cap_w": None, "has_clock_lever": False}
    driven |= {"clock_limit_mhz": None, "clock_mhz": None, "fan_rpm": None, "driver": "python3 (4711)", **changes}
    busy = [
        card(i, box, busy_pct=100.0, power_w=170.0, clock_mhz=2000, clock_limit_mhz=2000) for i in range(len(box.slots))
    ]
    busy[3] = card(3, box, **driven)
    psus = tuple(Psu(f"psu/{i}", 640.0, 120.0, 5.33, 580.0, 40.0) for i in range(2))
    return machine(box, gpus=tuple(busy), psus=psus)


def granted_w(one: Governed, gpu: str = "gpu/3") -> float:
    power = one.decision.power
    return next(grant.board_w for grant in power.grants if grant.gpu == gpu)


@pytest.mark.parametrize("guarantee", ["strict", "bounded"])
def test_it_is_granted_its_worst_and_nothing_is_written_to_it(red: Box, guarantee: str) -> None:
    config = Config(power=PowerConfig(guarantee=guarantee))
    one = Governed(red, replace(with_driven(red), failsafe_age_s=0.1), config)
    for _ in range(50):
        one.turn()
    assert granted_w(one) == red.gpu.board_power_max_w
    assert "gpu/3" not in {action.device for action in one.written}
    assert {"gpu/0", "gpu/5"} <= {action.device for action in one.written}


def test_with_a_limit_of_its_own_the_others_get_the_rest(red: Box) -> None:
    free, limited = Governed(red, with_driven(red), STRICT), Governed(red, with_driven(red, user_limit_w=150.0), STRICT)
    for one in (free, limited):
        for _ in range(100):
            one.turn()
    assert granted_w(limited) == pytest.approx(150.0 / red.gpu.socket_to_board_min)
    others = [sum(granted_w(one, f"gpu/{i}") for i in (0, 1, 2, 4, 5)) for one in (free, limited)]
    assert others[1] > others[0]
    power = limited.decision.power
    assert sum(grant.board_w for grant in power.grants) <= power.gpu_pool_w + 1


def test_a_limit_that_goes_counts_at_once(red: Box) -> None:
    one = Governed(red, with_driven(red, user_limit_w=150.0), STRICT)
    one.turn()
    gpus = [replace(gpu, user_limit_w=None) for gpu in one.snapshot.gpus]
    one.snapshot = replace(one.snapshot, gpus=tuple(gpus))
    one.turn()
    assert granted_w(one) == red.gpu.board_power_max_w


def test_bounded_clocks_leave_room_for_its_worst(red: Box) -> None:
    config = Config(power=PowerConfig(guarantee="bounded"))
    clocks = []
    for state in (GpuState.USERSPACE, GpuState.GONE):
        one = Governed(red, replace(with_driven(red, state=state), failsafe_age_s=0.1), config)
        for _ in range(100):
            one.turn()
        clocks.append(one.snapshot.gpus[0].clock_limit_mhz or 0)
    assert clocks[0] < clocks[1]


def test_it_may_be_at_work_and_its_fan_may_turn(red: Box) -> None:
    idle = machine(red)
    driven = replace(idle, gpus=(*idle.gpus[:5], with_driven(red).gpus[3]))
    assert (has_work(idle), has_work(driven)) == (False, True)
    assert level_now(idle, red) is not None
    assert level_now(driven, red) is None
