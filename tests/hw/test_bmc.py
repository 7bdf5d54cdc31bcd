"""The controller: what its words mean, what is asked of it, and what a silent one costs."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinybox.core.config import BmcConfig, Config
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import BmcSensor, Fault, SelEntry
from tinybox.hw.bmc import BmcDriver, Stillness
from tinybox.hw.controller import IpmiController
from tinybox.hw.host import Host, command_slug
from tinybox.hw.ipmi import (
    ipmitool,
    parse_dcmi_power,
    parse_log,
    parse_log_state,
    parse_manufacturer,
    parse_sensors,
    parse_troubled,
    send_raw,
)

SENSORS = """FAN1,0,RPM,cr
FAN2,840,RPM,ok
FAN3,,,ns
FAN4,no reading,RPM,ok
CPU TEMP,91,degrees C,nc
PSU1 PIN,416,Watts,ok
PSU1 Status,0Ah,ok,10.1,Presence detected, Power Supply AC lost
PSU2 Status,0Bh,ok,10.2,Presence detected
CHASSIS,0x01,discrete,ok
"""
LOG_STATE = """SEL Information
Version          : 1.5 (v1.5, v2 compliant)
Entries          : {entries}
Free Space       : 15872 bytes
Percent Used     : 3%
Last Add Time    : 11/26/2026 23:{entries:02d}:00
Overflow         : false
"""
LOG = """3a, 11/26/2026,23:28:02,Power Supply PSU1 Status,Power Supply AC lost,Asserted
3b,Pre-Init ,0000022483,Fan FAN1,Lower Critical going low ,Deasserted,Reading 840 > Threshold 300 RPM
3c, 11/26/2026,23:28:05,OS Boot,C: boot completed,Asserted
"""
PARSERS = (parse_sensors, parse_troubled, parse_dcmi_power, parse_manufacturer, parse_log_state, parse_log)


def test_a_sensor_without_a_reading_is_left_out() -> None:
    assert parse_sensors(SENSORS) == {"FAN1": 0.0, "FAN2": 840.0, "CPU TEMP": 91.0, "PSU1 PIN": 416.0}


def test_sensors_beyond_a_threshold_and_failed_supplies_are_in_trouble() -> None:
    assert parse_troubled(SENSORS) == (
        BmcSensor("FAN1", "cr", "0 RPM"),
        BmcSensor("CPU TEMP", "nc", "91 degrees C"),
        BmcSensor("PSU1 Status", "Power Supply AC lost", "Presence detected, Power Supply AC lost"),
    )


def test_the_log_is_decoded() -> None:
    supply, fan, boot = parse_log(LOG)
    assert supply == SelEntry(0x3A, "11/26/2026 23:28:02", "Power Supply PSU1 Status", "Power Supply AC lost")
    assert (fan.event, fan.is_asserted) == ("Lower Critical going low: Reading 840 > Threshold 300 RPM", False)
    assert (boot.event, boot.is_asserted) == ("C: boot completed", True)


def test_dcmi() -> None:
    assert parse_dcmi_power("    Instantaneous power reading:                   838 Watts\n") == 838.0
    assert parse_dcmi_power("DCMI request failed\n") is None


def test_the_maker_is_a_number() -> None:
    assert parse_manufacturer("Device ID : 0\nManufacturer ID           : 49622\nProduct ID : 4660 (0x1234)\n") == 49622
    assert parse_manufacturer("Manufacturer ID : Unknown\n") is None


@pytest.mark.parametrize("parse", PARSERS)
@given(st.text())
def test_no_text_breaks_a_parser(parse: object, text: str) -> None:
    parse(text)  # type: ignore[operator]


@given(st.integers(0, len(SENSORS)), st.integers(0, len(LOG)), st.integers(0, len(LOG_STATE)))
def test_an_answer_that_was_cut_off_says_less_and_nothing_else(a: int, b: int, c: int) -> None:
    whole = parse_sensors(SENSORS)
    cut = parse_sensors(SENSORS[:a])
    assert list(cut)[:-1] == list(whole)[: max(0, len(cut) - 1)]
    assert {entry.number for entry in parse_log(LOG[:b])} <= {0x3A, 0x3B, 0x3C, 0x3}
    state = parse_log_state(LOG_STATE.format(entries=58)[:c])
    assert state is None or state.entries in (5, 58)


@given(st.floats(allow_nan=True))
def test_no_reading_is_infinite(value: float) -> None:
    assert all(abs(found) < 1e9 for found in parse_sensors(f"FAN1,{value},RPM,ok\n").values())


def test_the_password_is_never_on_the_command_line() -> None:
    config = BmcConfig(interface="lanplus", host="127.0.0.1", user="box", password_file="/etc/tinybox/bmc")
    words = ipmitool(config, "dcmi", "power", "reading")
    assert words[words.index("-f") + 1] == "/etc/tinybox/bmc"
    assert "-P" not in words
    assert ipmitool(BmcConfig(interface="open"), "sdr") == ("ipmitool", "-I", "open", "sdr")


def answers(root: Path, *words: str, text: str) -> None:
    """What the recorded controller says to this from now on."""
    path = root / "commands" / command_slug(("ipmitool", "-I", "open", *words))
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_raw_bytes_go_out_and_come_in(tmp_path: Path) -> None:
    host = Host(tmp_path)
    answers(tmp_path, "raw", "0x3a", "0xda", text=" 1e 1e 00\n 64\n")
    assert send_raw(host, BmcConfig(), b"\x3a\xda", timeout_s=1) == b"\x1e\x1e\x00\x64"
    answers(tmp_path, "raw", "0x3a", "0xd8", text="\n")
    assert send_raw(host, BmcConfig(), b"\x3a\xd8", timeout_s=1) == b""
    answers(tmp_path, "raw", "0x3a", "0xd7", text="Unable to\n")
    with pytest.raises(HardwareError, match="answered no bytes: 'Unable to'"):
        send_raw(host, BmcConfig(), b"\x3a\xd7", timeout_s=1)


def log_of(count: int, first: int = 1) -> str:
    return "".join(
        f"{n:x}, 11/26/2026,23:28:{n % 60:02d},Fan FAN1,event {n},Asserted\n" for n in range(first, count + 1)
    )


def test_only_what_is_new_in_the_log_is_fetched(tmp_path: Path) -> None:
    """The recorded controller knows no other question than the one that may be asked."""
    controller = IpmiController(Host(tmp_path), BmcConfig())
    answers(tmp_path, "-c", "sdr", "list", text=SENSORS)
    answers(tmp_path, "sel", "info", text=LOG_STATE.format(entries=3))
    answers(tmp_path, "-c", "sel", "elist", "last", "50", text=log_of(3))
    bmc = controller.read(0.0).bmc
    assert [entry.number for entry in bmc.events or ()] == [1, 2, 3]
    assert bmc.log_used_pct == 3.0
    (tmp_path / "commands" / command_slug(("ipmitool", "-I", "open", "-c", "sel", "elist", "last", "50"))).unlink()
    assert controller.read(60.0).bmc.events == bmc.events  # nothing new: not asked again
    answers(tmp_path, "sel", "info", text=LOG_STATE.format(entries=5))
    answers(tmp_path, "-c", "sel", "elist", "last", "2", text=log_of(5, 4))
    assert controller.read(62.0).bmc.events == bmc.events  # asked seldom
    assert [entry.number for entry in controller.read(120.0).bmc.events or ()] == [1, 2, 3, 4, 5]


def test_a_log_that_was_cleared_is_read_afresh_and_a_long_one_is_cut(tmp_path: Path) -> None:
    controller = IpmiController(Host(tmp_path), BmcConfig())
    answers(tmp_path, "-c", "sdr", "list", text=SENSORS)
    answers(tmp_path, "sel", "info", text=LOG_STATE.format(entries=90))
    answers(tmp_path, "-c", "sel", "elist", "last", "50", text=log_of(90, 41))
    assert [entry.number for entry in controller.read(0.0).bmc.events or ()] == list(range(41, 91))
    answers(tmp_path, "sel", "info", text=LOG_STATE.format(entries=2))
    answers(tmp_path, "-c", "sel", "elist", "last", "50", text=log_of(2))
    assert [entry.number for entry in controller.read(60.0).bmc.events or ()] == [1, 2]
    answers(tmp_path, "sel", "info", text=LOG_STATE.format(entries=0))
    assert controller.read(120.0).bmc.events == ()


def test_a_log_that_cannot_be_read_is_unknown_and_the_sensors_are_not(tmp_path: Path) -> None:
    controller = IpmiController(Host(tmp_path), BmcConfig())
    answers(tmp_path, "-c", "sdr", "list", text=SENSORS)
    told = controller.read(0.0)
    assert told.bmc.events is None
    assert told.bmc.log_used_pct is None
    assert told.rpm == {"1": 0.0, "2": 840.0}


@pytest.mark.parametrize("name", ["FAN3", "FAN 3", "fan3", "FAN3_1", "FAN03"])
def test_a_fan_is_known_by_its_number_however_the_maker_writes_it(tmp_path: Path, name: str) -> None:
    answers(tmp_path, "-c", "sdr", "list", text=f"{name},900,RPM,ok\n{name}_2,1,RPM,ok\nFANA,700,RPM,ok\n")
    _, fans, _ = BmcDriver(Host(tmp_path), BmcConfig(), 3).read(0.0)
    assert [(fan.id, fan.rpm) for fan in fans] == [
        *(("fan/chassis1", None), ("fan/chassis2", None), ("fan/chassis3", 900.0)),
        ("fan/chassisA", 700.0),
    ]


class Hung:
    """An `ipmitool` that never answers, as with a controller that is dead; what was asked of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = folder / "asked"
        tool = folder / "ipmitool"
        tool.write_text(f'#!/bin/sh\necho "$@" >> {self._log}\nexec sleep 30\n')
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    @property
    def asked(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


def test_who_waits_for_an_answer_hardly_waits_for_a_dead_controller_and_the_next_one_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = Hung(tmp_path, monkeypatch)
    host = Host(tmp_path, frozenset({"ipmitool"}))
    bmc, fans, faults = BmcDriver(host, BmcConfig(), 2, tmp_path).read(0.0, is_brief=True)
    assert faults[0] == Fault("bmc", "no answer: 'ipmitool -I open mc info' did not end within 0.4 s")
    assert (bmc.wall_w, bmc.events, [fan.rpm for fan in fans]) == (None, None, [None, None])
    again = BmcDriver(host, BmcConfig(), 2, tmp_path).read(0.0, is_brief=True)
    assert "tried 0 s ago" in again[2][0].reason
    assert hung.asked == ["-I open mc info"]


def test_a_dead_controller_is_left_alone_for_a_while_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = Hung(tmp_path, monkeypatch)
    driver = BmcDriver(Host(tmp_path, frozenset({"ipmitool"})), BmcConfig(), 2, tmp_path)
    for now_s in (0.0, 3.0, 9.0):
        assert "no answer" in driver.read(now_s, is_brief=True)[2][0].reason
    assert len(hung.asked) == 1
    (tmp_path / "ipmitool").write_text('#!/bin/sh\ncase "$*" in *list) echo FAN1,840,RPM,ok;; *) exit 1;; esac\n')
    assert "no answer" in driver.read(20.0)[2][0].reason  # it refuses to say who it is
    (tmp_path / "ipmitool").write_text('#!/bin/sh\ncase "$*" in *list) echo FAN1,840,RPM,ok;; esac\n')
    _, fans, faults = driver.read(40.0)
    assert [fan.rpm for fan in fans] == [840.0, None]
    assert [fault.device for fault in faults] == ["fan/chassis2"]
    assert not (tmp_path / "bmc-silent").exists()


def test_a_controller_that_was_quick_is_not_waited_for_as_long_when_it_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hung(tmp_path, monkeypatch)
    (tmp_path / "ipmitool").write_text("#!/bin/sh\necho FAN1,840,RPM,ok\n")
    driver = BmcDriver(Host(tmp_path, frozenset({"ipmitool"})), BmcConfig(), 1)
    assert driver.read(0.0)[2] == ()
    (tmp_path / "ipmitool").write_text("#!/bin/sh\nexec sleep 30\n")
    assert "'ipmitool -I open -c sdr list' did not end within 5 s" in driver.read(2.0)[2][0].reason


FIGURES = (("FAN1", 840.0), ("DCMI", 240.0))


def test_readings_that_stand_still_while_the_load_moves_are_stale() -> None:
    stillness = Stillness()
    assert [stillness.judge(t, FIGURES, 240.0 + 40 * t) for t in (0.0, 10.0, 19.0)] == [None] * 3
    stale = stillness.judge(21.0, FIGURES, 900.0)
    assert stale is not None
    assert (stale.state, "moved by 760 W" in stale.reading) == ("stale", True)
    assert stillness.judge(22.0, (("FAN1", 860.0), ("DCMI", 240.0)), 900.0) is None


def test_readings_that_stand_still_with_the_load_are_not_stale_unless_a_fine_one_does_for_minutes() -> None:
    coarse, fine = Stillness(), Stillness()
    for t in range(0, 180, 5):
        assert coarse.judge(t, FIGURES[:1], 240.0) is None
        assert fine.judge(t, FIGURES, 240.0) is None
    assert coarse.judge(200.0, FIGURES[:1], 240.0) is None
    assert fine.judge(200.0, FIGURES, 240.0) is not None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=200))
def test_whatever_a_controller_says_is_a_reading_or_a_fault(tmp_path: Path, said: bytes) -> None:
    for words in (("-c", "sdr", "list"), ("sel", "info"), ("dcmi", "power", "reading"), ("mc", "info")):
        answers(tmp_path, *words, text="")
        (tmp_path / "commands" / command_slug(("ipmitool", "-I", "open", *words))).write_bytes(said)
    bmc, fans, _ = BmcDriver(Host(tmp_path), Config().bmc, 2).read(0.0)
    json.dumps([bmc.wall_w, [fan.rpm for fan in fans]], allow_nan=False)
