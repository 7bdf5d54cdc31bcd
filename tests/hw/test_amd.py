"""Exact writes to amdgpu's files, and what is made of its clock table."""

import shutil
import struct
from pathlib import Path

import pytest

from tinybox.core.actions import LimitGpuFan, SetCap, SetClockLimit
from tinybox.core.box import load_box
from tinybox.core.config import Config
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import FanLever
from tinybox.hw.amd import AmdCard, ClockTable, parse_od_table
from tinybox.hw.amd_files import parse_fan_limit, parse_throttles
from tinybox.hw.hardware import Hardware
from tinybox.hw.host import Host

RED = load_box("red")
SLOT = RED.gpu.slots[3]


class Bench:
    """One recorded card on the bench: what is written to it is kept, in order."""

    def __init__(self, copy: Host) -> None:
        self.folder = copy.root / "sys/bus/pci/devices" / SLOT
        self.chip = next((self.folder / "hwmon").iterdir())
        self.card = AmdCard(RecordingHost(copy.root, self), RED.gpu, "gpu/3", SLOT)
        self.writes: list[tuple[str, str]] = []
        self.card.read(10.0)


class RecordingHost(Host):
    """A machine that notes each write before it happens; a table takes a commit as amdgpu's does."""

    def __init__(self, root: Path, bench: Bench) -> None:
        super().__init__(root)
        self._bench = bench
        self._staged = ""

    def write_text(self, relative: str, text: str) -> None:
        """Note it; into a table of clocks, do what the kernel would."""
        self._bench.writes.append((Path(relative).name, text))
        if not relative.endswith("pp_od_clk_voltage"):
            super().write_text(relative, text)
        elif text == "c\n":
            table = self.read_text(relative)
            before = parse_od_table(table)
            assert before is not None
            after = table.replace(f"1: {before.limit_mhz}Mhz", f"1: {self._staged}Mhz")
            super().write_text(relative, after)
        else:
            self._staged = text.split()[2]


@pytest.fixture
def bench(copy: Host) -> Bench:
    return Bench(copy)


def test_a_cap_is_written_in_whole_microwatts(bench: Bench) -> None:
    bench.card.apply(SetCap("gpu/3", 271.5), 11.0)
    assert bench.writes == [("power1_cap", "271500000")]


def test_a_clock_limit_is_staged_and_then_committed(bench: Bench) -> None:
    bench.card.apply(SetClockLimit("gpu/3", 1120), 11.0)
    assert bench.writes == [("pp_od_clk_voltage", "s 1 1120\n"), ("pp_od_clk_voltage", "c\n")]


def test_a_table_that_does_not_take_the_limit_is_an_error(bench: Bench) -> None:
    (bench.folder / "pp_od_clk_voltage").write_text("OD_SCLK:\n0: 500Mhz\n1: 2965Mhz\n")
    bench.card._host = Host(bench.card._host.root)  # a plain machine: the table takes whatever text it gets
    with pytest.raises(HardwareError, match="clock limit 900 MHz does not read back"):
        bench.card.apply(SetClockLimit("gpu/3", 900), 11.0)


def test_without_overdrive_the_performance_level_is_the_lever(bench: Bench) -> None:
    (bench.folder / "pp_od_clk_voltage").unlink()
    bench.card.apply(SetClockLimit("gpu/3", 500), 11.0)
    bench.card.apply(SetClockLimit("gpu/3", RED.gpu.clock_max_mhz), 12.0)
    name = "power_dpm_force_performance_level"
    assert bench.writes == [(name, "low"), (name, "auto")]


def test_a_cap_that_may_not_be_written_says_what_and_where(bench: Bench) -> None:
    (bench.chip / "power1_cap").unlink()
    with pytest.raises(HardwareError, match=r"cannot write '261000000' to .*power1_cap: no such file"):
        bench.card.apply(SetCap("gpu/3", 261.0), 11.0)


def test_a_card_without_a_driver_takes_no_limits(copy: Host) -> None:
    with pytest.raises(HardwareError, match="offers no limits"):
        AmdCard(copy, RED.gpu, "gpu/0", "0000:ff:00.0").apply(SetCap("gpu/0", 200.0), 1.0)


TABLES = [
    (
        "OD_SCLK:\n0: 500Mhz\n1: 2965Mhz\nOD_MCLK:\n0: 97Mhz\n1: 1249MHz\nOD_RANGE:\nSCLK:     500Mhz       5000Mhz\n",
        ClockTable(2965, 500),
    ),
    ("OD_SCLK:\n1: 1500Mhz\nOD_RANGE:\nSCLK: 800Mhz 2500Mhz\n", ClockTable(1500, 800)),
    ("OD_MCLK:\n0: 97Mhz\n1: 1249MHz\n", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "table"), TABLES)
def test_the_clock_table_is_read_as_every_card_writes_it(text: str, table: ClockTable | None) -> None:
    assert parse_od_table(text) == table


FOLDER = f"/sys/bus/pci/devices/{SLOT}"


def test_the_failsafes_writes_are_those_of_the_driver_with_whole_paths(copy: Host) -> None:
    hardware = Hardware(copy, RED, Config())  # not even looked at yet: no card is woken for its paths
    writes = hardware.failsafe_writes((SetClockLimit("gpu/3", 500), SetCap("gpu/3", 261.0), SetCap("gpu/9", 1.0)))
    hwmon = next((copy.root / FOLDER[1:] / "hwmon").iterdir()).name
    assert writes == (
        (f"{copy.root}{FOLDER}/pp_od_clk_voltage", "s 1 500\n"),
        (f"{copy.root}{FOLDER}/pp_od_clk_voltage", "c\n"),
        (f"{copy.root}{FOLDER}/hwmon/{hwmon}/power1_cap", "261000000"),
    )


def test_the_failsafes_coarse_lever_is_the_performance_level(copy: Host) -> None:
    (copy.root / FOLDER[1:] / "pp_od_clk_voltage").unlink()
    writes = Hardware(copy, RED, Config()).failsafe_writes((SetClockLimit("gpu/3", 500),))
    assert writes == ((f"{copy.root}{FOLDER}/power_dpm_force_performance_level", "low"),)


def test_a_card_without_a_driver_has_nothing_for_the_failsafe(copy: Host) -> None:
    shutil.rmtree(copy.root / FOLDER[1:] / "hwmon")
    assert Hardware(copy, RED, Config()).failsafe_writes((SetClockLimit("gpu/3", 500), SetCap("gpu/3", 261.0))) == ()


def metrics(bits: int, *, version: tuple[int, int] = (1, 3), size: int = 120) -> bytes:
    return struct.pack("<HBB108xQ", size, *version, bits)


@pytest.mark.parametrize(
    ("table", "throttles"),
    [
        (metrics(0), ()),
        (metrics(1 << 0), ("power",)),
        (metrics(1 << 36 | 1 << 22), ("current", "thermal")),
        (metrics(1 << 47), ("power-brake",)),
        (metrics(1 << 57), ()),
        (metrics(2**64 - 1), None),
        (metrics(1, version=(1, 2)), None),
        (metrics(1, version=(2, 3)), None),
        (metrics(1)[:119], None),
        (b"", None),
    ],
)
def test_throttle_bits_are_told_in_words_or_not_at_all(table: bytes, throttles: tuple[str, ...] | None) -> None:
    assert parse_throttles(table) == throttles


def test_what_a_card_tells_of_itself_is_read(bench: Bench) -> None:
    for name, text in (("vbios_version", "113-A\n"), ("gpu_metrics", ""), ("subsystem_vendor", "0x1da2\n")):
        (bench.folder / name).write_text(text)
    (bench.folder / "gpu_metrics").write_bytes(metrics(1 << 35))
    for name, text in (("temp1_crit", "100000\n"), ("temp2_crit", "99999000\n"), ("pwm1", "51\n")):
        (bench.chip / name).write_text(text)
    (bench.folder / "gpu_od/fan_ctrl").mkdir(parents=True)
    (bench.folder / "gpu_od/fan_ctrl/fan_zero_rpm_enable").write_text("FAN_ZERO_RPM_ENABLE:\n0\nOD_RANGE:\n")
    bench.card.close()
    gpu, faults = bench.card.read(20.0)
    assert faults == ()
    assert (gpu.driver, gpu.vbios, gpu.throttles) == ("amdgpu", "113-A", ("thermal",))
    assert (gpu.edge_crit_c, gpu.junction_crit_c) == (100.0, None)
    assert (gpu.fan_pct, gpu.fan_may_rest) == (20.0, False)
    assert gpu.subsystem_id is not None and gpu.subsystem_id.startswith("1da2:")


LIMIT = "OD_ACOUSTIC_LIMIT:\n3200\nOD_RANGE:\nACOUSTIC_LIMIT: 500 3200\n"
LIMIT_NAME = "acoustic_limit_rpm_threshold"


def with_fan_limit(bench: Bench) -> Path:
    file = bench.folder / "gpu_od/fan_ctrl" / LIMIT_NAME
    file.parent.mkdir(parents=True)
    file.write_text(LIMIT)
    bench.card.close()
    bench.card.read(20.0)
    return file


def test_the_fans_limit_is_read_written_and_reset_as_the_driver_wants_it(bench: Bench) -> None:
    file = with_fan_limit(bench)
    gpu, _ = bench.card.read(21.0)
    assert (gpu.fan_lever, gpu.fan_limit_rpm, gpu.fan_limit_min_rpm) == (FanLever.LIMIT, 3200.0, 500.0)
    with pytest.raises(HardwareError, match="fan's limit does not read back"):
        bench.card.apply(LimitGpuFan("gpu/3", 1200.0), 22.0)
    assert bench.writes == [(LIMIT_NAME, "1200\n"), (LIMIT_NAME, "c\n")]
    bench.writes.clear()
    bench.card.apply(LimitGpuFan("gpu/3", None), 23.0)
    assert bench.writes == [(LIMIT_NAME, "r\n"), (LIMIT_NAME, "c\n")]
    assert file.exists()


def test_a_card_without_that_file_has_no_lever_and_says_so_when_told(bench: Bench) -> None:
    gpu, faults = bench.card.read(20.0)
    assert (gpu.fan_lever, gpu.fan_limit_rpm, faults) == (None, None, ())
    with pytest.raises(HardwareError, match="no lever for LimitGpuFan"):
        bench.card.apply(LimitGpuFan("gpu/3", 1200.0), 22.0)
    assert bench.writes == []


@pytest.mark.parametrize(
    "text", ["", "OD_ACOUSTIC_LIMIT:\n", "OD_ACOUSTIC_LIMIT:\n1200\n", "ACOUSTIC_LIMIT: 500 3200", "x" * 99]
)
def test_a_fan_limit_that_is_none_counts_as_no_lever(text: str) -> None:
    assert parse_fan_limit(text) is None


def test_what_a_card_does_not_tell_is_no_fault(bench: Bench) -> None:
    (bench.chip / "pwm1").unlink(missing_ok=True)
    bench.card.close()
    gpu, faults = bench.card.read(20.0)
    assert (gpu.fan_pct, gpu.throttles, gpu.fan_may_rest, faults) == (None, None, None, ())
