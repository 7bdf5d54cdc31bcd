"""The real daemon on the real twin: whatever breaks, the plant stays inside its outlet and the status says why."""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import BIN, PATIENCE_S, Rig
from tinybox.core.box import BOXES, load_box
from tinybox.hw.pcie import DEVICES

pytestmark = pytest.mark.twin
RED = load_box("red")


@pytest.fixture
def governed(shared_twin: Rig) -> Iterator[Rig]:
    """The shared twin under a daemon of this test's own; faults and loads are taken back afterwards."""
    shared_twin.start_daemon()
    try:
        yield shared_twin
    finally:
        shared_twin.put_back()


def limits(rig: Rig) -> list[tuple[float, int]]:
    return [(gpu["cap_w"], gpu["clock_limit_mhz"]) for gpu in rig.truth()["gpus"]]


def settled(rig: Rig) -> dict[str, Any]:
    """The status once every raise has been given: the last limits are a second old, the line as it is."""
    seen: list[list[tuple[float, int]]] = []

    def is_steady() -> bool:
        seen.append(limits(rig))
        return len(seen) > 15 and len({tuple(one) for one in seen[-15:]}) == 1

    rig.wait_for(is_steady)
    return rig.status()


def alerts(rig: Rig, device: str) -> list[str]:
    return [alert["reason"] for alert in rig.status()["alerts"] if alert["id"] == device]


def is_close(watts: float, true_w: float) -> bool:
    return watts == pytest.approx(true_w, rel=0.02)


def test_full_load_stays_inside_the_budget_and_uses_it(governed: Rig) -> None:
    governed.call("twin", "load", "gpu/all", "100")
    governed.call("twin", "load", "cpu", "100")
    status = settled(governed)
    truth = governed.truth()
    assert truth["wall_w"] <= status["power"]["budget_w"]
    assert not truth["breaker_tripped"]
    # Two readings of two moments: on a machine that is busy they take a while to agree.
    governed.wait_for(lambda: is_close(governed.status()["power"]["wall_w"], governed.truth()["wall_w"]))
    assert sum(gpu["grant_w"] for gpu in status["gpus"]) <= status["power"]["gpu_pool_w"] + 0.5


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_dead_or_hanging_daemon_leaves_a_box_inside_its_budget(governed: Rig, number: signal.Signals) -> None:
    settled(governed)
    before = limits(governed)
    governed.daemons[0].send_signal(number)
    if number is not signal.SIGSTOP:
        governed.daemons[0].wait(timeout=PATIENCE_S)
    governed.call("twin", "load", "gpu/all", "100")
    governed.call("twin", "load", "cpu", "100")
    governed.wait_for(lambda: governed.truth()["gpus"][5]["load_pct"] == 100)
    began_s = governed.truth()["time_s"]
    worst_w = 0.0
    while governed.truth()["time_s"] < began_s + 2:
        worst_w = max(worst_w, governed.truth()["wall_w"])
    truth = governed.truth()
    assert limits(governed) == before
    assert worst_w <= RED.circuit.amps * RED.circuit.continuous_fraction * truth["line_v"]


def test_a_new_daemon_begins_at_the_floor_and_earns_its_way_out(shared_twin: Rig) -> None:
    shared_twin.start_daemon()
    try:
        settled(shared_twin)
        shared_twin.daemons[0].kill()
        shared_twin.daemons[0].wait(timeout=PATIENCE_S)
        high = limits(shared_twin)
        shared_twin.start_daemon()
        assert settled(shared_twin)["source"] == "daemon"
        assert limits(shared_twin) == high
    finally:
        shared_twin.end_daemons()


def test_a_card_that_goes_is_an_alert_and_its_share_stays_reserved(governed: Rig) -> None:
    settled(governed)
    before = limits(governed)
    governed.call("twin", "fault", "add", "gpu/3:gone")
    governed.wait_for(lambda: governed.status()["gpus"][3]["state"] == "gone")
    governed.wait_for(lambda: any("reseat the card in slot 4" in reason for reason in alerts(governed, "gpu/3")))
    assert governed.status()["gpus"][3]["power_w"] is None
    assert [one for i, one in enumerate(limits(governed)) if i != 3] == [one for i, one in enumerate(before) if i != 3]
    governed.call("twin", "fault", "clear", "gpu/3:gone")
    governed.wait_for(lambda: governed.status()["gpus"][3]["state"] == "awake")
    assert settled(governed)["gpus"][3]["cap_w"] == before[3][0]


def test_a_sleeping_card_is_left_asleep(governed: Rig) -> None:
    settled(governed)
    wakes = governed.truth()["wakes"]
    governed.call("twin", "fault", "add", "gpu/2:asleep")
    governed.wait_for(lambda: governed.status()["gpus"][2]["state"] == "asleep")
    governed.call("status")
    settled(governed)
    # The turn in which it fell asleep may have been under way; nothing after that.
    assert governed.truth()["wakes"] - wakes <= 2
    still = governed.truth()["wakes"]
    settled(governed)
    assert governed.truth()["wakes"] == still
    assert alerts(governed, "gpu/2") == []


def test_a_card_that_refuses_makes_the_others_give_way(twin: Rig) -> None:
    twin.call("twin", "fault", "add", "gpu/1:refuses")  # with the limits of the factory still in force
    twin.start_daemon()
    twin.call("twin", "load", "gpu/all", "100")
    twin.wait_for(lambda: any("give way" in reason for reason in alerts(twin, "gpu/1")))
    status = settled(twin)
    truth = twin.truth()
    assert truth["wall_w"] <= status["power"]["budget_w"]
    assert truth["gpus"][1]["board_w"] > 1.5 * truth["gpus"][0]["board_w"]
    # Said each time it was tried; tries are bounded like every write.
    twin.wait_for(lambda: any("cannot write" in reason for reason in alerts(twin, "gpu/1")))


UNREADABLE = [
    ("gpu/4:junction-unreadable", "gpu/4", "junction temperature unreadable"),
    ("gpu/0:power-unreadable", "gpu/0", "power unreadable"),
    ("psu/1:unreadable", "psu/1", "in_w unreadable"),
    ("bmc:dead", "bmc", "no answer"),
]


@pytest.mark.parametrize(("fault", "device", "words"), UNREADABLE)
def test_an_unreadable_sensor_is_null_with_a_reason_and_costs_nothing_else(
    governed: Rig, fault: str, device: str, words: str
) -> None:
    governed.call("twin", "load", "gpu/all", "100")
    governed.call("twin", "fault", "add", fault)
    governed.wait_for(lambda: any(words in reason for reason in alerts(governed, device)))
    status = governed.status()
    assert governed.truth()["wall_w"] <= status["power"]["budget_w"]
    assert status["power"]["wall_w"] is not None
    assert all(gpu["cap_w"] is not None for gpu in status["gpus"])


def test_no_meter_at_all_is_an_estimate_on_the_safe_side(governed: Rig) -> None:
    for fault in ("psu/0:unreadable", "psu/1:unreadable", "bmc:dead"):
        governed.call("twin", "fault", "add", fault)
    governed.call("twin", "load", "gpu/all", "100")
    # The controller's word lasts a while, and longer where the tool that asks it has to wait for a busy machine.
    governed.wait_for(lambda: governed.status()["power"]["line_v"] is None, seconds=2 * PATIENCE_S)
    governed.wait_for(lambda: governed.status()["power"]["wall_source"] == "estimate")
    status = governed.status()
    governed.wait_for(lambda: any("line voltage unreadable" in reason for reason in alerts(governed, "power")))
    assert governed.truth()["wall_w"] <= status["power"]["budget_w"]


def test_a_second_daemon_is_refused_and_the_first_goes_on(governed: Rig) -> None:
    second = governed.run(program="tinyboxd")
    assert second.returncode == 1
    lines = second.stderr.splitlines()
    assert f"tinyboxd already runs (process {governed.daemons[0].pid})" in lines[0]
    assert len(lines) == 2
    assert governed.status()["source"] == "daemon"


def floor(rig: Rig) -> bool:
    """Whether every card is at its lowest limits."""
    return all(cap == RED.gpu.cap_min_w and clock == RED.gpu.clock_min_mhz for cap, clock in limits(rig))


BAD_CONFIGS = [
    ("[circuit]\nvolts = 0.0\n", "'circuit.volts' is 0"),
    ("[circuit]\nampere = 15\n", "unknown key 'circuit.ampere'"),
    ('box = "mauve"\n', "no box is called 'mauve'"),
    ("[circuit]\nother_load_a = 14.0\n", "leaves nothing"),
    ("this is no TOML", "not valid TOML"),
]


@contextmanager
def other_settings(rig: Rig, text: str, *, boxes: dict[str, str] | None = None) -> Iterator[None]:
    """The twin's configuration replaced by `text`, kinds of box of the owner's beside it, and one cap off its floor."""
    config = Path(rig.environment["TINYBOX_CONFIG"])
    good, folder = config.read_text(), config.parent / "boxes"
    folder.mkdir()
    for name, content in (boxes or {}).items():
        (folder / f"{name}.toml").write_text(content)
    config.write_text(text)
    chip = next((Path(rig.environment["TINYBOX_ROOT"]) / DEVICES / RED.gpu.slots[0] / "hwmon").iterdir())
    (chip / "power1_cap").write_text("290000000")
    assert not floor(rig)
    try:
        yield
    finally:
        config.write_text(good)
        shutil.rmtree(folder)


@pytest.mark.parametrize(("text", "words"), BAD_CONFIGS)
def test_a_bad_configuration_is_one_line_and_the_cards_go_to_their_floor(
    shared_twin: Rig, text: str, words: str
) -> None:
    with other_settings(shared_twin, text):
        done = shared_twin.run(program="tinyboxd")
        assert done.returncode == 1
        assert words in done.stderr.splitlines()[-2]
        assert done.stderr.splitlines()[-1].startswith("  ")
        assert floor(shared_twin)
        assert shared_twin.run("config", "check").returncode == 1


def test_a_broken_box_of_the_owners_still_means_the_floor(shared_twin: Rig) -> None:
    state = Path(shared_twin.environment["TINYBOX_STATE_DIR"])
    state.mkdir(exist_ok=True)
    (state / "box").write_text("mine\n")
    with other_settings(shared_twin, 'box = "mine"\n', boxes={"mine": "title = "}):
        done = shared_twin.run(program="tinyboxd")
        assert done.returncode == 1
        assert "mine.toml: not valid TOML" in done.stderr
        assert floor(shared_twin)


def test_a_machine_that_is_another_box_is_refused_with_the_cards_at_their_floor(shared_twin: Rig) -> None:
    other = (BOXES / "red.toml").read_text().replace("1002:744c", "1002:7550")
    with other_settings(shared_twin, 'box = "other"\n', boxes={"other": other}):
        done = shared_twin.run(program="tinyboxd")
        assert done.returncode == 1
        assert "this machine is not a 'other' box: box: graphics card 1002:744c at 0000:03:00.0" in done.stderr
        assert floor(shared_twin)
        checked = shared_twin.run("config", "check")
        assert checked.returncode == 1
        assert "does not match box 'other'" in checked.stderr


def test_curl_can_ask(governed: Rig) -> None:
    path = governed.environment["TINYBOX_RUN_DIR"] + "/tinyboxd.sock"
    command = ["curl", "--silent", "--fail", "--unix-socket", path, "http://box/status"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["source"] == "daemon"


def test_a_client_that_says_nothing_delays_nobody(governed: Rig) -> None:
    path = governed.environment["TINYBOX_RUN_DIR"] + "/tinyboxd.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(path)
        silent.send(b"GET /status HTTP/1.1\r\n")
        first = governed.status()["time_unix_s"]
        governed.wait_for(lambda: governed.status()["time_unix_s"] > first)


def test_the_loop_slows_when_nobody_works_and_wakes_with_the_work(governed: Rig) -> None:
    governed.wait_for(lambda: governed.status()["decision"]["period_s"] == 1.0)
    governed.call("twin", "load", "gpu/0", "50")
    governed.wait_for(lambda: governed.status()["decision"]["period_s"] <= 0.2)


def test_help_and_a_wrong_call() -> None:
    shown = subprocess.run([BIN / "tinyboxd", "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert "example:" in shown.stdout
    wrong = subprocess.run([BIN / "tinyboxd", "--fast"], capture_output=True, text=True, timeout=30, check=False)
    assert wrong.returncode == 2


def test_a_controller_that_hangs_does_not_hold_up_the_loop(twin: Rig, tmp_path: Path) -> None:
    """Its tool never returns by itself; the loop turns on while one and the same call of it waits."""
    pid_file, tool = tmp_path / "pid", tmp_path / "ipmitool"
    tool.write_text(f"#!/bin/sh\necho $$ > {pid_file}.new && mv {pid_file}.new {pid_file}\nexec sleep 30\n")
    tool.chmod(0o755)
    twin.environment["PATH"] = f"{tmp_path}:{twin.environment['PATH']}"
    twin.call("twin", "load", "gpu/all", "100")
    twin.start_daemon()
    turns: dict[int, set[float]] = {}

    def has_turned() -> bool:
        pid = int(pid_file.read_text()) if pid_file.exists() else 0
        moment = twin.status()["time_unix_s"]
        if pid and psutil.pid_exists(pid):
            turns.setdefault(pid, set()).add(moment)
        return any(len(moments) >= 3 for moments in turns.values())

    twin.wait_for(has_turned)
    twin.wait_for(lambda: any("did not end within" in reason for reason in alerts(twin, "bmc")))
