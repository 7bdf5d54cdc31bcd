"""The twin's controller as `ipmitool` sees it, and its faults as the real thing shows them."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Rig
from tinybox.core.config import load_config
from tinybox.hw.ipmi import ipmitool, parse_dcmi_power, parse_log, parse_log_state, parse_sensors, parse_troubled

pytestmark = pytest.mark.twin
POLLED_S = 2.5  # the simulator looks at its sensors once a second


def ask_bmc(rig: Rig, *words: str) -> str:
    config = load_config(Path(rig.environment["TINYBOX_CONFIG"])).bmc
    done = subprocess.run(ipmitool(config, *words), capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


@pytest.fixture
def rig(shared_twin: Rig) -> Iterator[Rig]:
    """The shared twin, whole again after the test."""
    yield shared_twin
    shared_twin.put_back()


def sensors(rig: Rig) -> dict[str, float]:
    return parse_sensors(ask_bmc(rig, "-c", "sdr", "list"))


def troubles(rig: Rig) -> set[tuple[str, str]]:
    return {(sensor.name, sensor.state) for sensor in parse_troubled(ask_bmc(rig, "-c", "sdr", "list"))}


def events(rig: Rig) -> list[tuple[str, str, bool]]:
    """The log's last entries, without the figures that led to them."""
    found = parse_log(ask_bmc(rig, "-c", "sel", "elist", "last", "10"))
    return [(entry.sensor, entry.event.split(":")[0], entry.is_asserted) for entry in found]


def test_sdr_list_shows_every_sensor_in_order_and_well(rig: Rig) -> None:
    lines = [[cell.strip() for cell in line.split("|")] for line in ask_bmc(rig, "sdr", "list").splitlines()]
    names = [*(f"FAN{i}" for i in range(1, 7)), "CPU TEMP", "INLET TEMP", "PSU1 VIN", "PSU1 PIN", "PSU2 PIN"]
    assert [line[0] for line in lines] == [*names, "PSU1 Status", "PSU2 Status"]
    assert {line[2] for line in lines} == {"ok"}
    assert lines[0][1].endswith("RPM")


def test_sensor_list_shows_the_limits(rig: Rig) -> None:
    rows = {
        cells[0]: cells[1:]
        for cells in (
            [cell.strip() for cell in line.split("|")] for line in ask_bmc(rig, "sensor", "list").splitlines()
        )
    }
    assert rows["FAN1"][4:6] == ["300.000", "360.000"]  # lower critical, lower non-critical
    assert rows["INLET TEMP"][6:8] == ["48.000", "53.000"]
    assert rows["PSU1 Status"][1] == "discrete"


def test_the_bmc_tells_what_the_plant_does(rig: Rig) -> None:
    def agrees() -> bool:
        told, truth = sensors(rig), rig.truth()
        watts = told["PSU1 PIN"] + told["PSU2 PIN"]  # 8 W a step each
        return abs(watts - truth["wall_w"]) <= 10 and abs(told["PSU1 VIN"] - truth["line_v"]) <= 1

    def agrees_by_dcmi() -> bool:
        dcmi_w = parse_dcmi_power(ask_bmc(rig, "dcmi", "power", "reading"))
        return dcmi_w is not None and abs(dcmi_w - rig.truth()["wall_w"]) <= 5

    # The plant moves between two questions: it is enough that they agree once it stands still.
    rig.wait_for(agrees)
    rig.wait_for(agrees_by_dcmi)


def test_the_password_is_made_for_this_twin_and_kept_from_others(rig: Rig) -> None:
    password = Path(load_config(Path(rig.environment["TINYBOX_CONFIG"])).bmc.password_file)
    assert password.stat().st_mode & 0o077 == 0
    assert len(password.read_text()) >= 16


def test_a_stalled_fan_passes_its_limits_and_the_log_says_so_and_says_when_it_is_over(rig: Rig) -> None:
    rig.call("twin", "fault", "add", "fan/chassis2:stalled")
    rig.wait_for(lambda: troubles(rig) == {("FAN2", "cr")})
    rig.wait_for(lambda: events(rig)[-1:] == [("Fan FAN2", "Lower Critical going low", True)])
    assert sensors(rig)["FAN1"] == 840
    rig.call("twin", "fault", "clear")
    rig.wait_for(lambda: troubles(rig) == set())
    rig.wait_for(lambda: ("Fan FAN2", "Lower Critical going low", False) in events(rig))


def test_a_slow_fan_is_slow_and_within_its_limits(rig: Rig) -> None:
    rig.call("twin", "fault", "add", "fan/chassis5:slow")
    rig.wait_for(lambda: sensors(rig)["FAN5"] <= 440)
    assert sensors(rig)["FAN5"] >= 400
    assert troubles(rig) == set()


def test_a_supply_without_its_cord_leaves_the_load_to_the_other(rig: Rig) -> None:
    before_w = rig.truth()["wall_w"]
    rig.call("twin", "fault", "add", "psu/0:lost")
    rig.wait_for(lambda: troubles(rig) == {("PSU1 Status", "Power Supply AC lost")})
    rig.wait_for(lambda: sensors(rig)["PSU1 PIN"] == 0 and abs(sensors(rig)["PSU2 PIN"] - before_w) < 20)
    rig.wait_for(lambda: events(rig)[-1:] == [("Power Supply PSU1 Status", "Power Supply AC lost", True)])
    assert abs(rig.truth()["wall_w"] - before_w) < 20
    rig.call("twin", "fault", "clear")
    rig.wait_for(lambda: events(rig)[-1:] == [("Power Supply PSU1 Status", "Power Supply AC lost", False)])


def test_without_either_cord_nothing_runs(rig: Rig) -> None:
    for supply in ("psu/0:lost", "psu/1:lost"):
        rig.call("twin", "fault", "add", supply)
    rig.wait_for(lambda: bool(rig.truth()["wall_w"] == 0))


def test_a_log_fills_and_is_cleared(rig: Rig) -> None:
    def used_pct() -> float:
        state = parse_log_state(ask_bmc(rig, "sel", "info"))
        assert state is not None
        return state.used_pct or 0.0

    rig.call("twin", "fault", "add", "bmc:sel-full")
    rig.wait_for(lambda: used_pct() >= 94)
    rig.call("twin", "fault", "clear", "bmc:sel-full")
    rig.wait_for(lambda: used_pct() == 0)


def test_a_stale_controller_goes_on_saying_what_it_said(rig: Rig) -> None:
    rig.wait_for(lambda: abs(sensors(rig)["PSU1 PIN"] * 2 - rig.truth()["wall_w"]) < 20)
    rig.call("twin", "fault", "add", "bmc:stale")
    time.sleep(POLLED_S)  # what it saw last before that
    before = sensors(rig)
    rig.call("twin", "load", "gpu/all", "60")
    rig.wait_for(lambda: bool(rig.truth()["wall_w"] > 900))
    assert sensors(rig) == before
    rig.call("twin", "fault", "clear")
    rig.wait_for(lambda: sensors(rig)["PSU1 PIN"] > 400)


def test_a_hot_room_warms_everything(rig: Rig) -> None:
    before = sensors(rig)
    rig.call("twin", "fault", "add", "room:hot")
    rig.wait_for(lambda: sensors(rig)["INLET TEMP"] >= before["INLET TEMP"] + 16)
    rig.wait_for(lambda: sensors(rig)["CPU TEMP"] > before["CPU TEMP"] + 3)
    assert troubles(rig) == set()


def test_a_dead_controller_goes_on_where_it_was(rig: Rig) -> None:
    rig.call("twin", "fault", "add", "bmc:dead")
    words = ipmitool(load_config(Path(rig.environment["TINYBOX_CONFIG"])).bmc, "mc", "info")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(words, capture_output=True, timeout=1, check=True)
    rig.call("twin", "fault", "clear")
    assert "Manufacturer ID           : 49622" in ask_bmc(rig, "mc", "info")


def test_fans_that_another_program_drives_are_manual_at_its_duty(rig: Rig) -> None:
    rig.call("twin", "fault", "add", "bmc:fans-taken")
    rig.wait_for(lambda: sensors(rig)["FAN1"] >= 1760)
    assert ask_bmc(rig, "raw", "0x3a", "0xd9").split() == ["01"] * 16
    assert ask_bmc(rig, "raw", "0x3a", "0xda").split() == ["3c"] * 16
    rig.call("twin", "fault", "clear")
    rig.wait_for(lambda: ask_bmc(rig, "raw", "0x3a", "0xd9").split() == ["00"] * 16)
    rig.wait_for(lambda: sensors(rig)["FAN1"] <= 900)
