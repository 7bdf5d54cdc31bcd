"""Observing, armed and disarmed on the real twin: who may write when, and every card's own limits given back."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Rig
from tests.daemon.test_failsafe import end, start_failsafe, wait_for, wait_said
from tests.daemon.test_on_the_twin import floor, limits, other_settings, settled
from tests.hw.conftest import copy
from tinybox.core.actions import FreezeWork, SetCap
from tinybox.core.armed import FILE_NAME, Armed, load_armed, save_armed
from tinybox.core.box import load_box
from tinybox.core.config import Config, Folders
from tinybox.daemon.arming import Arming
from tinybox.daemon.heartbeat import Heartbeat
from tinybox.daemon.machine import Machine
from tinybox.hw.hardware import Hardware
from tinybox.hw.host import Host
from tinybox.hw.hotplug import Hotplug
from tinybox.hw.pcie import DEVICES

__all__ = ["copy"]  # a fixture
pytestmark = pytest.mark.twin
RED = load_box("red")
STOCK = (RED.gpu.cap_default_w, RED.gpu.clock_max_mhz)
OWNERS = [(300.0, 2500), *[STOCK] * 5]


def state(rig: Rig) -> Path:
    return Path(rig.environment["TINYBOX_STATE_DIR"])


def set_limits(rig: Rig, index: int, cap_w: float, clock_mhz: int) -> None:
    """As an owner with a shell does."""
    card = Path(rig.environment["TINYBOX_ROOT"]) / DEVICES / RED.gpu.slots[index]
    (next((card / "hwmon").iterdir()) / "power1_cap").write_text(f"{cap_w * 1e6:.0f}")
    for text in (f"s 1 {clock_mhz}\n", "c\n"):
        (card / "pp_od_clk_voltage").write_text(text)


@pytest.fixture
def owned(shared_twin: Rig) -> Iterator[Rig]:
    """The twin as a rig that nobody armed: stock limits, but for one card that its owner set."""
    shared_twin.call("disarm", "--yes")
    for index, (cap_w, clock_mhz) in enumerate(OWNERS):
        set_limits(shared_twin, index, cap_w, clock_mhz)
    assert limits(shared_twin) == OWNERS
    try:
        yield shared_twin
    finally:
        shared_twin.put_back()
        shared_twin.run("disarm", "--yes")


def steady(rig: Rig, count: int = 5) -> None:
    """Some more turns of the daemon."""
    seen = {rig.status()["time_unix_s"]}
    rig.wait_for(lambda: (seen.add(rig.status()["time_unix_s"]), len(seen) > count)[1])


def test_a_twin_is_armed_from_the_start(twin: Rig) -> None:
    assert json.loads((state(twin) / FILE_NAME).read_text())["is_armed"] is True
    assert twin.status()["is_armed"] is True


def test_an_unarmed_box_is_observed_and_nothing_is_written(owned: Rig) -> None:
    run = Path(owned.environment["TINYBOX_RUN_DIR"])
    owned.start_daemon()
    owned.call("twin", "load", "gpu/all", "100")
    owned.wait_for(lambda: "armed, it would say: 6 cards set to clock" in owned.status()["decision"]["reason"])
    steady(owned)
    document = owned.status()
    assert (document["source"], document["is_armed"]) == ("daemon", False)
    assert "observing: not armed; 'tinybox arm' lets it govern" in owned.call("status")
    assert "guarantee   none: the box is not armed" in owned.call("power", "explain")
    assert owned.run("--safe-limits", program="tinyboxd").returncode == 0
    owned.daemons[0].kill()
    owned.daemons[0].wait(timeout=PATIENCE_S)
    assert limits(owned) == OWNERS
    assert not (run / "failsafe.list").exists()


def test_an_unarmed_box_keeps_its_limits_whatever_its_settings_and_cards_are(owned: Rig) -> None:
    with other_settings(owned, "this is no TOML"):
        done = owned.run(program="tinyboxd")
        assert done.returncode == 1 and "not valid TOML" in done.stderr
        assert limits(owned)[1:] == OWNERS[1:]
    with other_settings(owned, 'box = "green"\n'):
        owned.start_daemon()
        steady(owned, 2)
        reasons = [alert["reason"] for alert in owned.status()["alerts"] if alert["id"] == "box"]
        assert any("1002:744c" in reason and "'tinybox init'" in reason for reason in reasons)
        assert limits(owned)[1:] == OWNERS[1:]


def test_arming_lets_the_running_daemon_govern_and_disarming_gives_back_the_owners_limits(owned: Rig) -> None:
    owned.start_daemon()
    done = owned.run("arm", "--yes")
    assert done.returncode == 0, done.stderr
    assert "120 V, 15 A: 12.0 A promised" in done.stdout and "now: cap 300 W, clock limit 2500 MHz" in done.stdout
    owned.call("twin", "load", "gpu/all", "100")
    assert settled(owned)["is_armed"]
    assert all(cap == RED.gpu.cap_min_w for cap, _ in limits(owned))
    assert (Path(owned.environment["TINYBOX_RUN_DIR"]) / "failsafe.list").exists()
    assert "armed already" in owned.call("arm", "--yes")
    done = owned.run("disarm", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert "nothing keeps this box inside its outlet" in done.stderr
    assert json.loads(done.stdout)["failed"] == {}
    assert limits(owned) == OWNERS
    steady(owned)
    assert limits(owned) == OWNERS
    assert (owned.status()["source"], owned.status()["is_armed"]) == ("daemon", False)
    assert not (Path(owned.environment["TINYBOX_RUN_DIR"]) / "failsafe.list").exists()
    assert not (state(owned) / FILE_NAME).exists()
    again = owned.run("disarm", "--yes")
    assert (again.returncode, again.stdout) == (0, "not armed: nothing to do\n")


def test_a_daemon_that_is_killed_and_started_again_is_still_armed_with_the_first_record(owned: Rig) -> None:
    owned.start_daemon()
    owned.call("arm", "--yes")
    settled(owned)
    record = (state(owned) / FILE_NAME).read_text()
    owned.daemons[0].send_signal(signal.SIGKILL)
    owned.daemons[0].wait(timeout=PATIENCE_S)
    lowered = limits(owned)
    assert owned.run("--safe-limits", program="tinyboxd").returncode == 0
    assert floor(owned) and lowered != OWNERS
    owned.start_daemon()
    assert settled(owned)["is_armed"]
    assert (state(owned) / FILE_NAME).read_text() == record
    owned.call("disarm", "--yes")
    assert limits(owned) == OWNERS


def test_a_failsafe_that_is_holding_the_floor_lets_go(owned: Rig) -> None:
    owned.start_daemon()
    failsafe = start_failsafe(owned.environment)
    try:
        owned.call("arm", "--yes")
        settled(owned)
        owned.daemons[0].kill()
        wait_for(lambda: floor(owned))
        owned.call("disarm", "--yes")
        assert limits(owned) == OWNERS
        wait_said(owned.environment["TINYBOX_RUN_DIR"], "nothing to write in")
        assert limits(owned) == OWNERS
    finally:
        end(failsafe)


def test_a_card_that_was_armed_by_a_file_alone_is_noted_before_it_is_limited(owned: Rig) -> None:
    owned.call("twin", "fault", "add", "gpu/4:gone")
    (state(owned) / FILE_NAME).write_text('{"is_armed": true}')
    set_limits(owned, 0, 305.0, 2400)
    owned.start_daemon()
    owned.call("twin", "fault", "clear", "gpu/4:gone")
    owned.wait_for(lambda: owned.status()["gpus"][4]["state"] == "awake")
    settled(owned)
    armed = load_armed(state(owned))
    assert armed is not None and armed.addresses == set(RED.gpu.slots)
    owned.call("disarm", "--yes")
    assert limits(owned) == [(305.0, 2400), *OWNERS[1:]]


def test_what_cannot_be_given_back_is_said_and_stays_noted(owned: Rig) -> None:
    owned.call("arm", "--yes")
    assert owned.run("--safe-limits", program="tinyboxd").returncode == 0
    owned.call("twin", "fault", "add", "gpu/0:refuses")
    owned.call("twin", "fault", "add", "gpu/3:gone")
    done = owned.run("disarm", "--yes")
    assert done.returncode == 1
    assert [line.split(": ")[0] for line in done.stderr.splitlines()[1:3]] == [RED.gpu.slots[0], RED.gpu.slots[3]]
    assert "it is gone from the bus" in done.stderr
    assert done.stderr.splitlines()[-2].startswith("tinybox: disarmed, but not all of it")
    assert [one for i, one in enumerate(limits(owned)) if i not in (0, 3)] == [STOCK] * 4
    armed = load_armed(state(owned))
    assert armed is not None and not armed.is_armed
    assert armed.addresses == {RED.gpu.slots[0], RED.gpu.slots[3]}
    owned.call("arm", "--yes")  # the older record of these two is the owner's own
    owned.call("twin", "fault", "clear")
    assert "disarmed: 6 cards" in owned.call("disarm", "--yes")
    assert limits(owned) == OWNERS
    assert not (state(owned) / FILE_NAME).exists()


def test_a_sleeping_card_gets_its_limits_back_too(owned: Rig) -> None:
    owned.call("arm", "--yes")
    assert owned.run("--safe-limits", program="tinyboxd").returncode == 0
    owned.call("twin", "fault", "add", "gpu/0:asleep")
    owned.call("disarm", "--yes")
    assert limits(owned) == OWNERS


def test_a_broken_file_leaves_the_box_armed_and_disarming_gives_the_factorys_limits(owned: Rig) -> None:
    (state(owned) / FILE_NAME).write_text("{")
    refused = owned.run("arm", "--yes")
    assert refused.returncode == 1 and "not valid JSON" in refused.stderr and len(refused.stderr.splitlines()) == 2
    daemon = owned.start_daemon()
    document = settled(owned)
    assert document["is_armed"]
    assert [a["id"] for a in document["alerts"] if "the box counts as armed" in a["reason"]] == ["arming"]
    assert limits(owned) != OWNERS
    daemon.kill()
    daemon.wait(timeout=PATIENCE_S)
    assert owned.run("--safe-limits", program="tinyboxd").returncode == 0
    assert floor(owned)
    done = owned.run("disarm", "--yes")
    assert done.returncode == 0 and "every card gets the factory's limits" in done.stderr
    assert limits(owned) == [STOCK] * 6


def test_broken_settings_do_not_keep_anybody_from_disarming(owned: Rig) -> None:
    owned.call("arm", "--yes")
    assert owned.run("--safe-limits", program="tinyboxd").returncode == 0
    config = Path(owned.environment["TINYBOX_CONFIG"])
    good = config.read_text()
    config.write_text("this is no TOML")
    try:
        owned.call("disarm", "--yes")
    finally:
        config.write_text(good)
    assert limits(owned) == OWNERS


def test_work_that_stands_still_goes_on(owned: Rig) -> None:
    owned.call("arm", "--yes")
    owned.call("twin", "load", "gpu/0", "100")
    folders = Folders.from_environment(owned.environment)
    hardware = Hardware(Host.from_environment(owned.environment), RED, Config(), folders.run)
    owned.wait_for(lambda: owned.truth()["gpus"][0]["load_pct"] == 100)
    hardware.apply(FreezeWork(is_frozen=True))
    owned.wait_for(lambda: owned.truth()["gpus"][0]["is_frozen"])
    owned.call("disarm", "--yes")
    owned.wait_for(lambda: not owned.truth()["gpus"][0]["is_frozen"])


@pytest.mark.parametrize("verb", ["arm", "disarm"])
def test_nobody_to_ask_is_one_error_that_names_the_option(owned: Rig, verb: str) -> None:
    if verb == "disarm":
        owned.call("arm", "--yes")
    before = owned.status()["is_armed"]
    done = owned.run(verb)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "  say --yes"
    assert owned.status()["is_armed"] is before


def test_without_the_rights_it_is_one_error_and_nothing_changes(owned: Rig, tmp_path: Path) -> None:
    for variable in ("TINYBOX_STATE_DIR", "TINYBOX_RUN_DIR"):
        environment = {**owned.environment, variable: "/proc/nowhere"}  # nobody can make a folder there
        done = Rig(tmp_path, environment).run("arm", "--yes")
        assert done.returncode == 1
        assert "cannot arm this box: " in done.stderr.splitlines()[-2]
        assert "run it as root" in done.stderr.splitlines()[-1]
    assert owned.status()["is_armed"] is False


def test_cards_that_nobody_can_govern_are_not_armed(owned: Rig) -> None:
    odd = {"odd": 'extends = "red"\n[gpu]\nvendor = "matrox"\n'}
    for name, words in (("odd", "'odd' are matrox: nobody governs them"), ("green", "is not a 'green' box")):
        with other_settings(owned, f'box = "{name}"\n', boxes=odd):
            done = owned.run("arm", "--yes")
            assert done.returncode == 1
            assert words in done.stderr
    for index in range(6):
        owned.call("twin", "fault", "add", f"gpu/{index}:gone")
    done = owned.run("arm", "--yes")
    assert done.returncode == 1 and "nothing to govern" in done.stderr
    assert not (state(owned) / FILE_NAME).exists()


def test_a_full_disk_keeps_nobody_from_limiting_and_the_first_figures_are_noted_later(
    copy: Host, tmp_path: Path
) -> None:
    folders = Folders(tmp_path / "config.toml", tmp_path / "run", tmp_path / "state")
    save_armed(folders.state, Armed(True))
    draft = folders.state / f".{FILE_NAME}.{os.getpid()}"
    draft.mkdir()  # no file can be written where a folder is
    arming, hardware = Arming(folders), Hardware(copy, RED, Config())
    gpus = hardware.assumed_gpus()
    arming.record(hardware, gpus)
    with arming.permit() as is_permitted:
        assert is_permitted
    card = copy.root / DEVICES / RED.gpu.slots[0]
    (next((card / "hwmon").iterdir()) / "power1_cap").write_text("250000000")  # as the floor does
    draft.rmdir()
    arming.record(hardware, gpus)  # too soon after the failure
    assert load_armed(folders.state) == Armed(True)
    arming.retry_s = 0.0
    arming.record(hardware, gpus)
    armed = load_armed(folders.state)
    assert armed is not None and len(armed.cards) == 6 and armed.cards[0].cap_w == 261.0


def test_a_disarming_between_a_look_and_its_writes_is_in_time(copy: Host, tmp_path: Path) -> None:
    folders = Folders(tmp_path / "config.toml", tmp_path / "run", tmp_path / "state")
    save_armed(folders.state, Armed(True))
    hardware = Hardware(copy, RED, Config())
    machine = Machine(hardware, Heartbeat(folders.run), Arming(folders), Hotplug(Host(tmp_path)), governs=True)
    card = copy.root / DEVICES / RED.gpu.slots[0]
    cap = next((card / "hwmon").iterdir()) / "power1_cap"
    assert machine.read().is_armed
    machine.apply((SetCap("gpu/0", 270.0),))
    assert cap.read_text() == "270000000"
    save_armed(folders.state, Armed(False))
    machine.apply((SetCap("gpu/0", 280.0),))
    assert cap.read_text() == "270000000"
    assert not machine.read().is_armed
    hardware.release()
