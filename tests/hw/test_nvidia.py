"""NVIDIA's cards through the stand-in of their library: read, limited, lacking, blocking, and talking nonsense."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hw.shown import INDEX, Shown
from tinybox.core.actions import LimitGpuFan, SetCap, SetClockLimit
from tinybox.core.armed import CardLimits
from tinybox.core.box import load_box
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import FanLever, GpuState
from tinybox.hw.nvidia import RANGES, NvidiaCard
from tinybox.hw.nvml import LIBRARY
from tinybox.hw.pcie import DEVICES
from tinybox.twin.constants import load_plant
from tinybox.twin.nvidia import NEW
from tinybox.twin.stand_ins import NVML, provide

GREEN = load_box("green")
SLOT = GREEN.slots[INDEX]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Loaded once: whoever asks for a library of this name is given the loaded one."""
    folder = tmp_path_factory.mktemp("nvml") / "lib"
    assert provide(NVML, folder), "gcc makes it"
    ctypes.CDLL(str(folder / NVML.name))
    return folder


@pytest.fixture
def shown(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    monkeypatch.setenv("TINYBOX_ROOT", str(tmp_path))
    LIBRARY.close()
    shown = Shown(
        GREEN, load_plant(GREEN), tmp_path, lambda host, gpu_id, slot: NvidiaCard(host, GREEN.gpu, gpu_id, slot)
    )
    yield shown
    shown.card.close()
    LIBRARY.close()


def test_a_card_at_work_is_read_whole(shown: Shown) -> None:
    shown.part.load = 1.0
    gpu = shown.read(0.0, 5.0)
    assert gpu.power_w == pytest.approx(shown.part.sensor_w, abs=0.1)
    assert gpu.busy_pct == 100.0
    assert (gpu.cap_w, gpu.cap_default_w) == (GREEN.gpu.cap_default_w, GREEN.gpu.cap_default_w)
    assert (gpu.cap_min_w, gpu.cap_max_w) == (GREEN.gpu.cap_min_w, GREEN.gpu.cap_max_w)
    assert gpu.edge_c == pytest.approx(shown.part.edge_c, abs=1.0)
    assert gpu.margin_c == pytest.approx(GREEN.gpu.edge_crit_c - shown.part.edge_c, abs=1.0)
    assert gpu.fan_rpm == pytest.approx(shown.part.fan_rpm, abs=1.0)
    assert (gpu.link_width, gpu.link_gts) == (GREEN.gpu.link_width, GREEN.gpu.link_gts)
    assert gpu.throttles in ((), ("power",))


def test_limits_are_in_force_once_they_are_written(shown: Shown) -> None:
    shown.read(0.0)
    shown.card.apply(SetCap("gpu/1", 300.0), 0.1)
    shown.told()
    shown.card.apply(SetClockLimit("gpu/1", 1200), 0.1)
    shown.told()
    assert (shown.part.cap_w, shown.part.clock_limit_mhz) == (300.0, 1200)
    assert shown.card.limits() is not None
    assert shown.read(2.0).clock_limit_mhz == 1200
    shown.card.restore(CardLimits(SLOT), 3.0)
    shown.told()
    assert shown.file("/limit_mw").read_text().strip() == f"{GREEN.gpu.cap_default_w * 1e3:.0f}"
    assert shown.part.clock_limit_mhz == GREEN.gpu.clock_max_mhz


def test_fans_turn_as_they_are_told_until_they_are_given_back(shown: Shown) -> None:
    gpu = shown.read(0.0)
    assert (gpu.fan_lever, gpu.fan_limit_rpm, gpu.fan_limit_min_rpm) == (FanLever.SPEED, None, pytest.approx(960.0))
    shown.card.apply(LimitGpuFan("gpu/1", 1600.0), 0.1)
    assert shown.file("/fan_told").read_text() == "50"
    shown.told()
    assert shown.part.fan_share == 0.5
    assert shown.read(2.0, seconds=1.0).fan_limit_rpm == pytest.approx(1600.0)
    shown.card.apply(LimitGpuFan("gpu/1", None), 2.1)
    shown.told()
    assert shown.part.fan_share is None
    assert shown.read(4.0, seconds=1.0).fan_limit_rpm is None


def test_a_driver_that_does_not_tell_what_fans_take_has_no_lever(shown: Shown) -> None:
    shown.file("/fan_policy").unlink()
    gpu, faults = shown.card.read(0.0)
    assert (gpu.fan_lever, faults) == (None, ())


def test_the_failsafe_is_only_ever_told_to_give_fans_back(shown: Shown) -> None:
    (shown.root / DEVICES / SLOT / "driver").symlink_to("../../drivers/nvidia")
    assert shown.card.writes(LimitGpuFan("gpu/1", 1600.0)) == ()
    assert [text for _, text in shown.card.writes(LimitGpuFan("gpu/1", None))] == ["fans"]


def test_a_cap_outside_the_cards_range_is_an_error(shown: Shown) -> None:
    shown.read(0.0)
    shown.file("/limit_mw").unlink()
    shown.file("/limit_mw").symlink_to("/dev/full")
    with pytest.raises(HardwareError):
        shown.card.apply(SetCap("gpu/1", 300.0), 0.1)


@pytest.mark.parametrize("key", [*NEW, "event_bits", "vbios", "link_width", "memory_busy_pct", "fan_pct"])
def test_what_a_driver_lacks_is_left_out_without_a_word(shown: Shown, key: str) -> None:
    shown.file(f"/{key}").unlink()
    gpu, faults = shown.card.read(0.0)
    assert (gpu.state, faults) == (GpuState.AWAKE, ())
    assert gpu.power_w is not None


def test_a_card_that_the_case_cools_has_no_fans_and_no_trouble_with_them(shown: Shown) -> None:
    shown.file("/fans").write_text("0\n")
    shown.file("/fan_pct").unlink()
    gpu, faults = shown.card.read(0.0)
    assert (gpu.fan_rpm, gpu.fan_lever, faults) == (None, None, ())


def test_memory_that_the_driver_keeps_for_itself_is_not_in_use(shown: Shown) -> None:
    whole_bytes = int(shown.file("/memory_used_bytes").read_text())
    shown.file("/memory_used_bytes").with_name("memory_reserved_bytes").write_text("200000000\n")
    shown.file("/memory_used_bytes").write_text(f"{whole_bytes + 200_000_000}\n")
    assert shown.card.read(0.0)[0].vram_used_bytes == whole_bytes


def test_a_card_without_a_meter_says_so(shown: Shown) -> None:
    for key in ("power_mw", "power_mean_mw"):
        shown.file(f"/{key}").unlink()
    gpu, faults = shown.card.read(0.0)
    assert gpu.power_w is None and "no meter" in faults[0].reason


def test_a_call_that_blocks_leaves_the_card_without_figures_and_the_loop_alone(shown: Shown) -> None:
    shown.read(0.0)
    shown.file("/temp_c").write_text("hang 2\n")
    for now_s in (1.0, 2.0):
        assert shown.card.read(now_s)[0].power_w is not None, "the newest there is"
    gpu, faults = shown.card.read(4.5)
    assert gpu.power_w is None and "has not answered" in faults[0].reason
    with pytest.raises(HardwareError, match="does not answer"):
        shown.card.apply(SetCap("gpu/1", 300.0), 4.6)


def test_a_card_that_fell_off_the_bus_is_gone(shown: Shown) -> None:
    shown.read(0.0)
    shown.file("/power_mw").parent.rename(shown.root / "gone")
    assert shown.card.read(1.0)[0].state is GpuState.GONE


def test_without_a_driver_the_card_says_what_to_do(shown: Shown) -> None:
    (shown.root / "nvml/driver").unlink()
    _, faults = shown.card.read(0.0)
    assert "modprobe nvidia" in faults[0].reason


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(
    st.sampled_from(["power_mw", "temp_c", "busy_pct", "clock_mhz", "limit_mw", "margin_c", "fan_rpm", "link_gen"]),
    st.one_of(st.binary(max_size=30), st.integers(-(10**30), 10**30).map(lambda n: str(n).encode())),
)
def test_nonsense_never_becomes_a_figure_that_cannot_be(shown: Shown, key: str, data: bytes) -> None:
    if data.startswith(b"hang"):
        return
    shown.card.close()
    shown.show()
    shown.file(f"/{key}").write_bytes(data)
    gpu, _ = shown.card.read(0.0)
    for name, (least, most) in RANGES.items():
        value = getattr(gpu, name)
        assert value is None or least <= value <= most, name
