"""Health on a whole twin: faults are seen through the daemon and the command line, and remembered over a restart."""

import json
from pathlib import Path

import pytest

from tests.conftest import Rig, start_twin
from tests.matrix.live import checks, fresh_daemon, raised, shown
from tinybox.core.box import load_box
from tinybox.twin.faults.known import find_fault

pytestmark = pytest.mark.twin
RED = load_box("red")
HANDFUL = (
    "gpu/3:gone",
    "gpu/0:power-unreadable",
    "fan/chassis1:stalled",
    "psu/1:unreadable",
    "bmc:dead",
    "gpu/0:idle-stuck",
)


@pytest.mark.parametrize("fault", HANDFUL)
def test_a_fault_of_the_running_twin_raises_its_checks_and_nothing_else(shared_twin: Rig, fault: str) -> None:
    try:
        row = shown(shared_twin, find_fault(fault, RED), fault_id=fault)
        assert (row.missing, row.other_evidence) == (set(), {})
    finally:
        shared_twin.put_back()


def test_what_is_raised_outlives_a_restart_and_is_in_the_history_once(shared_twin: Rig) -> None:
    fresh_daemon(shared_twin)
    try:
        shared_twin.call("twin", "fault", "add", "gpu/3:gone")
        shared_twin.wait_for(lambda: "gpu.count" in raised(shared_twin))
        since = checks(shared_twin)["gpu.count"]["since"]
        assert shared_twin.run("health").returncode == 1
        shared_twin.call("health", "ack", "gpu.count", "sent in")
        shared_twin.wait_for(lambda: checks(shared_twin)["gpu.count"]["ack"] is not None)
        shared_twin.end_daemons()
        shared_twin.start_daemon()
        assert checks(shared_twin)["gpu.count"]["since"] == since
        assert checks(shared_twin)["gpu.count"]["ack"]["why"] == "sent in"
        shared_twin.call("twin", "fault", "clear")
        shared_twin.wait_for(lambda: "gpu.count" not in raised(shared_twin))

        def told() -> list[str]:
            events = json.loads(shared_twin.call("health", "history", "--json"))["events"]
            return [event["what"] for event in events if event["id"] == "gpu.count"]

        shared_twin.wait_for(lambda: told() == ["raised", "cleared"])
    finally:
        shared_twin.put_back()


def test_without_a_daemon_one_look_judges_what_it_can(shared_twin: Rig) -> None:
    assert raised(shared_twin) == {}
    try:
        shared_twin.call("twin", "fault", "add", "bmc:dead")
        shared_twin.call("twin", "fault", "add", "gpu/2:gone")
        assert set(raised(shared_twin)) == {"bmc.reach", "gpu.count"}
        assert shared_twin.run("health").returncode == 1
    finally:
        shared_twin.put_back()


@pytest.mark.parametrize("box", ["red", "green", "green-3090", "green-v2", "blue", "mixed"])
def test_a_healthy_twin_of_every_box_finds_every_check_fine_idle_and_loaded(box: str, tmp_path: Path) -> None:
    rig = start_twin(tmp_path / "twin", box=box)
    try:
        assert not_fine(rig) == {}, "by one look, without a daemon"
        rig.start_daemon()
        seen = {}
        for load in ("0", "100"):
            rig.call("twin", "load", "gpu/all", load)
            rig.call("twin", "load", "cpu", load)
            until_s = rig.truth()["time_s"] + 8.0
            while rig.truth()["time_s"] < until_s:
                seen |= not_fine(rig)
        assert seen == {}
    finally:
        rig.end_daemons()
        rig.run("twin", "down")


def not_fine(rig: Rig) -> dict[str, str]:
    return {name: row["evidence"] for name, row in checks(rig).items() if row["status"] not in ("ok", "n/a")}
