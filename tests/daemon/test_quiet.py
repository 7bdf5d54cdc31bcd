"""Fans under the real daemon on the real twin: kept quiet while it lives, their firmware's own when it does not."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Rig
from tests.daemon.test_failsafe import end, start_failsafe
from tests.daemon.test_on_the_twin import governed
from tinybox.core.box import load_box
from tinybox.core.quiet import FILE_NAME
from tinybox.hw.fankeeper import TAKEN
from tinybox.hw.pcie import DEVICES

__all__ = ["governed"]  # a fixture
pytestmark = pytest.mark.twin
RED = load_box("red")


@pytest.fixture
def busy(governed: Rig) -> Iterator[Rig]:
    """A governed twin at work, its fans told, with a failsafe beside the daemon."""
    failsafe = start_failsafe(governed.environment)
    governed.call("twin", "load", "gpu/all", "100")
    try:
        governed.wait_for(lambda: is_quiet(governed), seconds=2 * PATIENCE_S)
        yield governed
    finally:
        end(failsafe)
        (Path(governed.environment["TINYBOX_STATE_DIR"]) / FILE_NAME).unlink(missing_ok=True)


def limits_rpm(rig: Rig) -> list[float]:
    """What each card's firmware may give its fan."""
    folder = Path(rig.environment["TINYBOX_ROOT"]) / DEVICES
    files = (folder / slot / "gpu_od/fan_ctrl/acoustic_limit_rpm_threshold" for slot in RED.gpu.slots)
    return [float(file.read_text().split()[1]) for file in files]


def is_taken(rig: Rig) -> bool:
    """Whether the controller was told the chassis fans' duty, as its own memory has it."""
    (duty,) = rig.folder.rglob("fan_duty")
    return duty.read_text().strip() != "auto"


def is_quiet(rig: Rig) -> bool:
    return (
        max(limits_rpm(rig)) < RED.gpu.fan_max_rpm
        and (Path(rig.environment["TINYBOX_RUN_DIR"]) / TAKEN).exists()
        and is_taken(rig)
    )


def is_given_back(rig: Rig) -> bool:
    return set(limits_rpm(rig)) == {RED.gpu.fan_max_rpm} and not is_taken(rig)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_daemon_that_falls_silent_leaves_every_fan_to_its_firmware(busy: Rig, number: signal.Signals) -> None:
    busy.daemons[0].send_signal(number)
    busy.wait_for(lambda: is_given_back(busy))
    if number is signal.SIGSTOP:
        busy.daemons[0].send_signal(signal.SIGCONT)
        busy.wait_for(lambda: is_quiet(busy), seconds=2 * PATIENCE_S)


def test_a_dead_controller_leaves_the_cards_fans_to_their_firmware_and_is_told_again_once_it_answers(busy: Rig) -> None:
    busy.call("twin", "fault", "add", "bmc:dead")
    busy.wait_for(lambda: set(limits_rpm(busy)) == {RED.gpu.fan_max_rpm}, seconds=3 * PATIENCE_S)
    busy.call("twin", "fault", "clear", "bmc:dead")
    busy.wait_for(lambda: max(limits_rpm(busy)) < RED.gpu.fan_max_rpm, seconds=3 * PATIENCE_S)


def test_what_the_owner_says_counts_within_seconds_and_is_shown(busy: Rig) -> None:
    assert "45 dBA at most where you sit (balanced)" in busy.call("quiet")
    assert "38.5 dBA at most" in busy.call("quiet", "38,5")
    busy.wait_for(lambda: busy.status()["quiet"]["limit_dba"] == 38.5)
    shown = busy.call("quiet")
    assert "as you said: 38,5" in shown and "one decibel less would cost" in shown and "hottest is gpu/" in shown
    assert "38.5 dBA at most" in busy.call("status")
    assert json.loads(busy.call("quiet", "--json"))["choice"] == "38,5"
    busy.call("quiet", "full")
    busy.wait_for(lambda: set(limits_rpm(busy)) == {RED.gpu.fan_max_rpm})
    assert "no limit where you sit (full)" in busy.call("quiet")
    busy.call("quiet", "off")
    busy.wait_for(lambda: busy.status()["quiet"] is None and is_given_back(busy))
    assert "off: the firmware of every fan decides" in busy.call("quiet")
    assert "by the settings again: balanced" in busy.call("quiet", "auto")
    busy.wait_for(lambda: busy.status()["quiet"] is not None)


@pytest.mark.parametrize("words", ["loud", "5", "90", "-3", "40;30", ""])
def test_a_level_that_cannot_be_meant_is_refused_in_two_lines(shared_twin: Rig, words: str) -> None:
    done: subprocess.CompletedProcess[str] = shared_twin.run("quiet", "--", words)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is no profile, and no level from 20 to 80 dBA" in done.stderr
    assert len(done.stderr.splitlines()) == 2
