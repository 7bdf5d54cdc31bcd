"""The owner's switch on the real daemon and twin: nothing is written before it, all is given back after it."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Rig, start_twin
from tests.daemon.test_on_the_twin import limits, settled
from tinybox.core.arming import FILE_NAME, Arming, load_arming, save_arming
from tinybox.core.box import load_box

pytestmark = pytest.mark.twin
RED = load_box("red")
OWN_W, OWN_MHZ = 275, 2400  # what an owner had set before us
CARD = "sys/bus/pci/devices/0000:23:00.0"


@pytest.fixture(scope="module")
def rented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = start_twin(tmp_path_factory.mktemp("twin") / "twin")
    try:
        yield rig
    finally:
        rig.run("twin", "down")


@pytest.fixture
def rig(rented: Rig) -> Iterator[Rig]:
    """A machine of somebody's, not armed, with one card's limits of his own."""
    root = Path(rented.environment["TINYBOX_ROOT"])
    save_arming(state(rented), Arming())
    for index in range(6):
        card = root / f"sys/bus/pci/devices/{RED.gpu.slots[index]}"
        cap_w, mhz = (OWN_W, OWN_MHZ) if index == 1 else (RED.gpu.cap_default_w, RED.gpu.clock_max_mhz)
        next(card.glob("hwmon/hwmon*/power1_cap")).write_text(f"{round(cap_w * 1e6)}")
        for line in (f"s 1 {mhz}\n", "c\n"):
            (card / "pp_od_clk_voltage").write_text(line)
    try:
        yield rented
    finally:
        rented.end_daemons()
        rented.call("twin", "fault", "clear")
        rented.call("twin", "load", "gpu/all", "0")


def state(rig: Rig) -> Path:
    return Path(rig.environment["TINYBOX_STATE_DIR"])


def test_a_twin_is_armed_by_itself(rented: Rig, tmp_path: Path) -> None:
    other = start_twin(tmp_path / "twin")
    try:
        assert load_arming(state(other)) == Arming(is_armed=True)
    finally:
        other.run("twin", "down")


def test_a_machine_that_nobody_armed_is_read_and_never_written(rig: Rig) -> None:
    before = limits(rig)
    rig.start_daemon()
    rig.call("twin", "load", "gpu/all", "100")
    rig.wait_for(lambda: rig.status()["power"]["mean_10s_a"] > RED.circuit.amps * RED.circuit.continuous_fraction)
    status = rig.status()
    assert status["is_armed"] is False
    assert status["power"]["guarantee"] == "none"
    assert "tinybox arm" in status["decision"]["reason"]
    assert not any("give way" in alert["reason"] or "frozen" in alert["reason"] for alert in status["alerts"])
    assert "not armed" in rig.call("status")
    assert "not armed" in rig.call("power", "explain")
    assert limits(rig) == before
    assert (Path(rig.environment["TINYBOX_RUN_DIR"]) / "failsafe.list").read_text() == ""


def test_safe_limits_are_for_armed_machines(rig: Rig) -> None:
    before = limits(rig)
    done = rig.run("--safe-limits", program="tinyboxd")
    assert done.returncode == 0
    assert "not armed" in done.stderr
    assert limits(rig) == before


def test_armed_it_governs_and_disarmed_every_card_has_its_own_limits_back(rig: Rig) -> None:
    before = limits(rig)
    rig.start_daemon()
    rig.call("twin", "load", "gpu/all", "100")
    assert "armed: red" in rig.call("arm", "--yes")
    rig.wait_for(lambda: rig.truth()["wall_w"] <= rig.status()["power"]["budget_w"])
    assert rig.status()["is_armed"] is True
    assert limits(rig) != before
    rig.call("twin", "load", "gpu/all", "0")
    assert "disarmed" in rig.call("disarm", "--yes")
    assert limits(rig) == before
    assert before[1] == (OWN_W, OWN_MHZ)
    assert load_arming(state(rig)) == Arming(is_armed=False)
    settled(rig)
    assert limits(rig) == before


def test_a_daemon_that_was_killed_comes_back_armed_and_the_record_knows_the_first_limits(rig: Rig) -> None:
    before = limits(rig)
    rig.call("arm", "--yes")
    daemon = rig.start_daemon()
    settled(rig)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait(timeout=PATIENCE_S)
    rig.start_daemon()
    assert settled(rig)["is_armed"] is True
    rig.end_daemons()
    assert json.loads(rig.call("disarm", "--yes", "--json")) == {"is_armed": False}
    assert limits(rig) == before


def test_a_card_that_is_away_stays_in_the_record_until_it_is_back(rig: Rig) -> None:
    before = limits(rig)
    rig.call("arm", "--yes")
    rig.start_daemon()
    settled(rig)
    rig.call("twin", "fault", "add", "gpu/1:gone")
    rig.wait_for(lambda: rig.status()["gpus"][1]["state"] == "gone")
    done = rig.run("disarm", "--yes")
    assert done.returncode == 1
    assert RED.gpu.slots[1] in done.stderr
    rig.call("twin", "fault", "clear")
    rig.wait_for(lambda: rig.status()["gpus"][1]["state"] == "awake")
    rig.end_daemons()
    rig.call("disarm", "--yes")
    assert limits(rig) == before


def test_disarming_what_was_never_armed_says_so_and_is_fine(rig: Rig) -> None:
    assert "nothing to give back" in rig.call("disarm", "--yes")


def test_nobody_to_ask_is_an_error_that_names_the_switch(rig: Rig) -> None:
    done = rig.run("arm")
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert not load_arming(state(rig)).is_armed


def test_a_broken_record_keeps_the_governor(rig: Rig) -> None:
    (state(rig) / FILE_NAME).write_text("{")
    rig.start_daemon()
    assert settled(rig)["is_armed"] is True
    assert limits(rig)[0] != (RED.gpu.cap_default_w, RED.gpu.clock_max_mhz)
    rig.call("disarm", "--yes")
    assert limits(rig)[1] == (RED.gpu.cap_default_w, RED.gpu.clock_max_mhz)  # the record is lost: the factory's


def test_a_machine_of_another_kind_is_not_armed(rig: Rig) -> None:
    config = Path(rig.environment["TINYBOX_CONFIG"])
    good = config.read_text()
    config.write_text(good.replace('"red"', '"green"'))
    try:
        done = rig.run("arm", "--yes")
        assert done.returncode == 1
        assert "not a 'green' box" in done.stderr
        assert "tinybox init" in done.stderr
    finally:
        config.write_text(good)
    assert not load_arming(state(rig)).is_armed
