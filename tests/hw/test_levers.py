"""What the doctor says of machines that lack something, and of those that do not."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.matrix.fast import fast
from tinybox.cli.doctor import lines_of
from tinybox.core.box import load_box
from tinybox.core.config import BmcConfig, Config
from tinybox.core.snapshot import Cpu, FanLever, Gpu, GpuState, PcieLink, Psu, Snapshot
from tinybox.hw.hardware import assemble
from tinybox.hw.host import Host
from tinybox.hw.levers import FEATURE_MASK, Have, Lever, find_levers
from tinybox.hw.pcie import DEVICES

RED = load_box("red")
SLOT = RED.slots[0]
WHOLE = Gpu(
    *("gpu/0", GpuState.AWAKE, SLOT),
    cap_w=290.0,
    cap_min_w=100.0,
    cap_default_w=290.0,
    has_clock_lever=True,
    clock_limit_mhz=2900,
    clock_limit_min_mhz=500,
    vram_total_bytes=24 * 2**30,
    fan_lever=FanLever.LIMIT,
)


def levers_of(gpu: Gpu, root: Path, **more: object) -> dict[tuple[str, str], Lever]:
    links = (PcieLink("gpu/0", SLOT, bar_bytes=32 * 2**30),)
    snapshot = replace(
        Snapshot(0.0, 0.0, gpus=(gpu,), cpu=Cpu(cap_w=200.0), links=links, psus=(Psu("psu/0", 100.0),)), **more
    )  # type: ignore[arg-type]
    config = Config(bmc=BmcConfig(interface="open"))
    return {(lever.device, lever.name): lever for lever in find_levers(Host(root), RED, config, snapshot)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    device = tmp_path / DEVICES / SLOT
    device.mkdir(parents=True)
    (device / "pp_od_clk_voltage").write_text("")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/ipmi0").write_text("")
    mask = tmp_path / FEATURE_MASK
    mask.parent.mkdir(parents=True)
    mask.write_text("0xffffffff\n")
    return tmp_path


def test_a_machine_that_lacks_nothing_is_told_so(root: Path) -> None:
    assert {lever.have for lever in levers_of(WHOLE, root).values()} == {Have.OK}


def test_without_overdrive_the_kernel_parameter_is_named(root: Path) -> None:
    (root / DEVICES / SLOT / "pp_od_clk_voltage").unlink()
    (root / FEATURE_MASK).write_text("0xffffbfff\n")
    levers = levers_of(replace(WHOLE, clock_lever_is_coarse=True, cap_min_w=261.0, fan_lever=None), root)
    for name in ("clock", "fan"):
        lever = levers["gpu/0", name]
        assert lever.have is Have.MISSING
        assert "amdgpu.ppfeaturemask=0xffffffff (now 0xffffbfff" in lever.remedy
    assert levers["gpu/0", "cap"].have is Have.MISSING


@pytest.mark.parametrize(
    ("changes", "have", "words"),
    [
        ({"vendor": "nvidia", "fan_lever": FanLever.SPEED}, Have.OK, "watched"),
        ({"vendor": "nvidia", "fan_lever": None, "fan_rpm": 840.0}, Have.MISSING, "525"),
        ({"vendor": "nvidia", "fan_lever": None, "fan_rpm": None}, Have.STATE, "no fan of its own"),
        ({"vendor": "intel", "fan_lever": None}, Have.STATE, "takes watts instead"),
    ],
)
def test_what_can_be_done_about_each_makers_fans(
    root: Path, changes: dict[str, object], have: Have, words: str
) -> None:
    found = levers_of(replace(WHOLE, **changes), root)["gpu/0", "fan"]  # type: ignore[arg-type]
    assert found.have is have and words in f"{found.words} {found.remedy}"


def test_a_raised_minimum_of_the_cap_is_a_state_where_the_clock_reaches_lower(root: Path) -> None:
    lever = levers_of(replace(WHOLE, cap_min_w=261.0), root)["gpu/0", "cap"]
    assert (lever.have, "the clock reaches lower" in lever.words) == (Have.STATE, True)


ALONE = [
    (replace(WHOLE, cap_w=None, clock_limit_mhz=None), Have.NEEDED, "modprobe amdgpu"),
    (Gpu("gpu/0", GpuState.GONE, SLOT), Have.STATE, ""),
    (Gpu("gpu/0", GpuState.ASLEEP, SLOT), Have.STATE, ""),
    (Gpu("gpu/0", GpuState.USERSPACE, SLOT), Have.STATE, ""),
]


@pytest.mark.parametrize(("gpu", "have", "remedy"), ALONE, ids=["no driver", "gone", "asleep", "userspace"])
def test_a_card_that_cannot_be_limited_is_needed_or_a_state(gpu: Gpu, have: Have, remedy: str, root: Path) -> None:
    lever = levers_of(gpu, root)["gpu/0", "driver"]
    assert lever.have is have and remedy in lever.remedy


def test_a_small_window_a_missing_controller_and_a_processor_without_limit_are_said(root: Path) -> None:
    (root / "dev/ipmi0").unlink()
    links = (PcieLink("gpu/0", SLOT, bar_bytes=256 * 2**20),)
    levers = levers_of(WHOLE, root, links=links, cpu=Cpu(), psus=())
    for key, words in (
        (("gpu/0", "window"), "Resizable BAR"),
        (("bmc", "access"), "ipmi_devintf"),
        (("cpu", "cap"), "amd_hsmp"),
    ):
        assert levers[key].have is Have.MISSING and words in levers[key].remedy


@pytest.mark.parametrize("name", ["red", "blue"])
def test_the_twin_needs_nothing(name: str) -> None:
    with fast(name) as one:
        for _ in one.run(3):
            pass
        assert one.slow is not None
        snapshot = assemble(one.hardware.read_fast(one.plant.time_s), one.slow, one.plant.time_s, 0.0)
        levers = find_levers(one.hardware._host, one.box, Config(bmc=BmcConfig(interface="lanplus")), snapshot)
    assert Have.NEEDED not in {lever.have for lever in levers}
    assert len({lever.device for lever in levers}) == 9


def test_cards_that_are_alike_are_one_line_and_what_is_missing_comes_first() -> None:
    levers = tuple(Lever(f"gpu/{i}", "clock", Have.OK, "fine") for i in range(6))
    lines = lines_of((*levers, Lever("cpu", "cap", Have.MISSING, "none", "load it")))
    assert "cpu" in lines[0] and "load it" in lines[1]
    assert "gpu/0 and 5 more" in lines[2] and len(lines) == 3
