"""Intel's cards by i915 and by xe: joules become watts, idle time becomes load, limits are written and read back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hw.shown import Shown
from tinybox.core.actions import SetCap, SetClockLimit
from tinybox.core.armed import CardLimits
from tinybox.core.box import Box, load_box
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import GpuState
from tinybox.hw.intel import Counter, IntelCard
from tinybox.twin.constants import load_plant
from tinybox.twin.faults.known import begin_fault

BLUE = load_box("blue")
XE_BOX = replace(BLUE, gpus=(replace(BLUE.gpu, pci_id="8086:e20b"),))
DRIVERS = {"i915": BLUE, "xe": XE_BOX}


def shown_on(box: Box, root: Path) -> Shown:
    return Shown(box, load_plant(BLUE), root, lambda host, gpu_id, slot: IntelCard(host, box.gpu, gpu_id, slot))


@pytest.fixture(params=DRIVERS)
def shown(request: pytest.FixtureRequest, tmp_path: Path) -> Shown:
    return shown_on(DRIVERS[request.param], tmp_path)


def test_a_card_at_work_is_read_whole(shown: Shown) -> None:
    shown.plant.gpus[1].load = 1.0
    shown.plant.advance(5.0)
    shown.read(0.0)
    gpu = shown.read(2.0, 2.0)
    part = shown.plant.gpus[1]
    assert gpu.power_w == pytest.approx(part.sensor_w, rel=0.03)
    assert gpu.busy_pct == pytest.approx(100.0, abs=1.0)
    assert (gpu.cap_w, gpu.cap_default_w) == (BLUE.gpu.cap_default_w, BLUE.gpu.cap_default_w)
    assert (gpu.clock_limit_mhz, gpu.clock_limit_min_mhz, gpu.has_clock_lever) == (2400, 600, True)
    assert gpu.edge_c == pytest.approx(part.junction_c, abs=0.1)
    assert gpu.fan_rpm == pytest.approx(part.fan_rpm, abs=1.0)
    assert gpu.throttles in ((), ("power",))


def test_a_card_without_work_is_idle(shown: Shown) -> None:
    shown.read(0.0)
    gpu = shown.read(1.0, 1.0)
    assert gpu.busy_pct == pytest.approx(0.0, abs=1.0)
    assert gpu.power_w == pytest.approx(shown.plant.gpus[1].sensor_w, rel=0.05)


def test_the_first_look_knows_no_watts_and_no_load(shown: Shown) -> None:
    gpu = shown.read(0.0)
    assert (gpu.power_w, gpu.busy_pct, gpu.state) == (None, None, GpuState.AWAKE)


def test_a_limit_is_in_force_once_it_is_written(shown: Shown) -> None:
    shown.read(0.0)
    for action in (SetCap("gpu/1", 120.0), SetClockLimit("gpu/1", 1200)):
        shown.card.apply(action, 1.0)
        shown.told()
    gpu = shown.read(1.5)
    assert (gpu.cap_w, gpu.clock_limit_mhz) == (120.0, 1200)
    assert (shown.plant.gpus[1].cap_w, shown.plant.gpus[1].clock_limit_mhz) == (120.0, 1200)


def test_a_floor_that_somebody_raised_does_not_stand_in_the_way(shown: Shown) -> None:
    writes = shown.card.writes(SetClockLimit("gpu/1", 700))
    assert [text for _, text in writes] == ["600", "700"]
    assert all((shown.root / name).exists() for name, _ in writes)


def test_limits_that_were_there_come_back(shown: Shown) -> None:
    assert shown.card.limits() == CardLimits(BLUE.slots[1], cap_w=190.0, clock_limit_mhz=2400)
    shown.card.apply(SetCap("gpu/1", 120.0), 1.0)
    shown.card.apply(SetClockLimit("gpu/1", 900), 1.0)
    shown.card.restore(CardLimits(BLUE.slots[1]), 2.0)
    assert shown.card.limits() == CardLimits(BLUE.slots[1], cap_w=190.0, clock_limit_mhz=2400)


def test_a_driver_that_refuses_a_limit_is_an_error(shown: Shown) -> None:
    shown.read(0.0)
    name, _ = shown.card.writes(SetCap("gpu/1", 120.0))[0]
    (shown.root / name).unlink()
    (shown.root / name).symlink_to("/dev/full")
    with pytest.raises(HardwareError):
        shown.card.apply(SetCap("gpu/1", 120.0), 1.0)


def test_each_throttle_reason_is_told_apart(shown: Shown) -> None:
    shown.read(0.0)
    begin_fault(shown.plant, "gpu/1:throttle-thermal")
    shown.plant.gpus[1].load = 0.2
    assert shown.read(1.5, 5.0).throttles == ("thermal",)
    shown.file("reason_prochot").unlink()
    assert shown.card.read(3.0)[0].throttles == ("thermal",)


def test_a_cap_of_nothing_is_no_limit(shown: Shown) -> None:
    shown.read(0.0)
    shown.file("power1_max").write_text("0\n")
    gpu, faults = shown.card.read(1.5)
    assert gpu.cap_w is None and faults == ()


SLEEPS: list[tuple[Callable[[Shown], object], GpuState]] = [
    (lambda shown: shown.file("power/runtime_status").write_text("suspended\n"), GpuState.ASLEEP),
    (lambda shown: [path.unlink() for path in (shown.root / "sys/bus/pci/devices").iterdir()], GpuState.GONE),
]


@pytest.mark.parametrize(("change", "state"), SLEEPS, ids=["asleep", "gone"])
def test_a_card_that_sleeps_or_is_gone_is_left_alone(
    change: Callable[[Shown], object], state: GpuState, tmp_path: Path
) -> None:
    shown = shown_on(BLUE, tmp_path)
    change(shown)
    gpu, faults = shown.card.read(0.0)
    assert (gpu.state, gpu.power_w, faults) == (state, None, ())


COUNTS = [
    ("it grows", [(10.0, 0.0), (30.0, 2.0)], 10.0),
    ("the first look", [(10.0, 0.0)], None),
    ("it came round", [(10.0, 0.0), (3.0, 1.0)], None),
    ("a moment later it is the last one", [(10.0, 0.0), (30.0, 2.0), (31.0, 2.001)], 10.0),
    ("long unwatched it may have come round twice", [(10.0, 0.0), (30.0, 100.0)], None),
]


@pytest.mark.parametrize(("why", "notes", "rate"), COUNTS, ids=[row[0] for row in COUNTS])
def test_a_counter_becomes_a_rate(why: str, notes: list[tuple[float, float]], rate: float | None) -> None:
    counter = Counter()
    assert [counter.note(value, now_s) for value, now_s in notes][-1] == rate, why


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["energy1_input", "power1_max", "fan1_input", "rps_act_freq_mhz", "rc6_residency_ms", "temp1_input"]
    ),
    st.one_of(st.binary(max_size=30), st.integers(-(10**30), 10**30).map(lambda n: str(n).encode())),
)
def test_nonsense_never_becomes_a_figure_that_cannot_be(tmp_path: Path, name: str, data: bytes) -> None:
    if not SHOWN:
        SHOWN.append(shown_on(BLUE, tmp_path))
    (shown,) = SHOWN
    shown.show()
    shown.card.close()
    shown.card.read(0.0)
    shown.file(name).write_bytes(data)
    gpu, _ = shown.card.read(1.5)
    for figure, most in ((gpu.power_w, 2000), (gpu.cap_w, 2000), (gpu.fan_rpm, 20000), (gpu.clock_mhz, 10000)):
        assert figure is None or 0 <= figure <= most
    assert gpu.busy_pct is None or 0 <= gpu.busy_pct <= 100


SHOWN: list[Shown] = []  # making one takes longer than an example
