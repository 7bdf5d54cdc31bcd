"""NVIDIA cards: the stand-in library under other people's programs, under the daemon, and without either."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BIN, Rig, start_twin
from tests.nvtop import nvtop
from tinybox.core.box import load_box

READ = """
import pynvml as nvml
nvml.nvmlInit()
card = nvml.nvmlDeviceGetHandleByIndex(2)
print(nvml.nvmlDeviceGetCount(), nvml.nvmlDeviceGetName(card), nvml.nvmlDeviceGetPowerManagementLimit(card))
nvml.nvmlDeviceSetPowerManagementLimit(card, 300000)
(power,) = nvml.nvmlDeviceGetFieldValues(card, [nvml.NVML_FI_DEV_POWER_INSTANT])
print(nvml.nvmlDeviceGetPowerManagementLimit(card), power.nvmlReturn, power.value.uiVal > 10000)
print(nvml.nvmlDeviceGetPciInfo(card).busId, nvml.nvmlDeviceGetFanSpeedRPM(card) >= 0)
"""

ASK = """
import json
from tinybox.hw.host import Host
from tinybox.hw.libraries import ask_library
print(json.dumps(ask_library(Host.from_environment(), "nvidia", ("0000:43:00.0",))["0000:43:00.0"]))
"""


@pytest.fixture(scope="module")
def green(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Six cards of NVIDIA's."""
    rig = start_twin(tmp_path_factory.mktemp("green") / "twin", box="green")
    try:
        yield rig
    finally:
        rig.end_daemons()
        rig.run("twin", "down")


def inside(rig: Rig, *command: str) -> str:
    done = rig.run("twin", "exec", "--", *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nvitop_shows_the_cards_of_the_twin(green: Rig) -> None:
    shown = inside(green, str(BIN / "nvitop"), "-1")
    assert shown.count("GeForce RTX 4090") == 6 and "450W" in shown and "error" not in shown.lower()


def test_nvtop_shows_the_cards_of_the_twin(green: Rig) -> None:
    cards = nvtop(green)
    assert [card["device_name"] for card in cards] == 6 * ["NVIDIA GeForce RTX 4090"]
    assert all(card["power_draw"] and card["gpu_clock"] and card["temp"] for card in cards)


def test_a_new_box_is_told_what_the_library_knows(green: Rig) -> None:
    found = json.loads(inside(green, sys.executable, "-c", ASK))
    kind = load_box("green").gpu
    assert found == {
        "name": kind.name,
        "clock_max_mhz": kind.clock_max_mhz,
        "cap_min_w": kind.cap_min_w,
        "cap_max_w": kind.cap_max_w,
        "cap_default_w": kind.cap_default_w,
        "edge_crit_c": kind.edge_crit_c,
        "vram_total_bytes": kind.vram_bytes,
    }


def test_a_plain_program_reads_and_limits_a_card(green: Rig) -> None:
    try:
        said = inside(green, sys.executable, "-c", READ).splitlines()
        assert said == ["6 NVIDIA GeForce RTX 4090 450000", "300000 0 True", "00000000:43:00.0 True"]
        assert green.truth()["gpus"][2]["cap_w"] == 300
    finally:
        inside(green, sys.executable, "-c", READ.replace("300000", "450000"))


FANS = """
import pynvml as nvml
nvml.nvmlInit()
for card in map(nvml.nvmlDeviceGetHandleByIndex, range(6)):
    assert nvml.nvmlDeviceGetMinMaxFanSpeed(card) == [30, 100]
    for fan in range(nvml.nvmlDeviceGetNumFans(card)):
        nvml.nvmlDeviceSetFanSpeed_v2(card, fan, 60)
        assert nvml.nvmlDeviceGetTargetFanSpeed(card, fan) == 60
"""


def fan_told(rig: Rig, index: int) -> str:
    """Whether somebody tells the fans of this card their speed: "1", else "0"."""
    return (Path(rig.environment["TINYBOX_ROOT"]) / f"nvml/{index}/fan_policy").read_text().strip()


def test_the_daemon_governs_them_and_its_death_puts_them_at_their_floor(green: Rig) -> None:
    kind = load_box("green").gpu
    failsafe = subprocess.Popen([str(BIN / "tinybox-failsafe")], env=green.environment, stderr=subprocess.DEVNULL)
    try:
        daemon = green.start_daemon()
        green.call("twin", "load", "gpu/all", "100")
        green.wait_for(lambda: all(gpu["clock_limit_mhz"] > kind.clock_min_mhz for gpu in green.truth()["gpus"]))
        green.wait_for(lambda: green.truth()["wall_w"] > 700)
        inside(green, sys.executable, "-c", FANS)
        assert [fan_told(green, i) for i in range(6)] == ["1"] * 6
        assert green.status()["gpus"][3]["edge_c"] > 0
        daemon.send_signal(signal.SIGKILL)
        green.wait_for(lambda: {gpu["clock_limit_mhz"] for gpu in green.truth()["gpus"]} == {kind.clock_min_mhz})
        green.wait_for(lambda: all(fan_told(green, i) == "0" for i in range(6)))
    finally:
        failsafe.kill()
        failsafe.wait(timeout=10)
        green.put_back()


def test_a_library_that_hangs_costs_one_card_its_figures_and_the_others_nothing(green: Rig) -> None:
    green.call("twin", "fault", "add", "gpu/3:nvml-hangs")
    try:
        green.start_daemon()
        green.wait_for(lambda: green.status()["gpus"][3]["power_w"] is None)
        assert green.status()["gpus"][2]["power_w"] is not None
    finally:
        green.put_back()


def test_a_card_that_fell_off_the_bus_is_gone(green: Rig) -> None:
    green.call("twin", "fault", "add", "gpu/1:xid-79")
    try:
        status = green.status()
        assert status["gpus"][1]["state"] == "gone" and status["gpus"][2]["state"] == "awake"
    finally:
        green.put_back()


def test_an_old_driver_tells_less_and_is_no_trouble(green: Rig) -> None:
    green.call("twin", "fault", "add", "gpu/0:old-driver")
    try:
        gpu = green.status()["gpus"][0]
        assert gpu["power_w"] > 0 and gpu["fan_rpm"] is None
    finally:
        green.put_back()


def test_a_sleeping_card_is_left_asleep(green: Rig) -> None:
    green.call("twin", "fault", "add", "gpu/5:asleep")
    try:
        before = green.truth()["wakes"]
        assert green.status()["gpus"][5]["state"] == "asleep"
        assert green.truth()["wakes"] == before
    finally:
        green.put_back()


def test_what_is_compiled_is_imported_by_nobody() -> None:
    assert not list(Path("tinybox/twin").glob("nvml*.so"))
