"""The chassis fans of each maker's controller, driven through the real `ipmitool`, and felt by the plant."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BIN
from tinybox.core.actions import ReleaseFans, SetFanDuty
from tinybox.core.box import load_box
from tinybox.core.config import BmcConfig
from tinybox.core.snapshot import Bmc, Fan, Fault
from tinybox.hw.bmc import BmcDriver
from tinybox.hw.fankeeper import TAKEN
from tinybox.hw.host import Host
from tinybox.twin.bmc import USER, BmcSimulator
from tinybox.twin.constants import load_plant
from tinybox.twin.plant import Plant

pytestmark = pytest.mark.twin
RED = load_box("red")


class Bench:
    """A plant with a real controller, and the driver that looks at it; time passes when it is told to."""

    def __init__(self, folder: Path, board: str) -> None:
        self.plant = Plant.of(RED, load_plant(RED, None))
        self.bmc = BmcSimulator(folder / "bmc", self.plant, None, board)
        self.bmc.start()
        where = {"port": self.bmc.port, "cipher_suite": 3, "user": USER, "password_file": str(self.bmc.password_file)}
        self.run = folder / "a run"
        host = Host(folder, frozenset({"ipmitool"}))
        self.driver = BmcDriver(host, BmcConfig(interface="lanplus", **where), RED.fans.count, self.run)  # type: ignore[arg-type]

    def look(self, after_s: float) -> tuple[Bmc, tuple[Fan, ...], tuple[Fault, ...]]:
        """The next round, some time later; the controller's own clock is the real one, and is waited for."""
        self.plant.advance(after_s)
        self.bmc.feed()
        return self.driver.read(self.plant.time_s)


@pytest.fixture(params=["asrock-ast2500", "asrock-ast2600", "supermicro"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, request.param)
    try:
        yield bench
    finally:
        bench.driver.close()
        bench.bmc.stop()


def test_fans_are_taken_turn_at_the_duty_and_are_given_back(bench: Bench) -> None:
    bmc, fans, faults = bench.look(1.0)
    assert (bmc.fan_control, {fan.duty_pct for fan in fans}, faults) == ("automatic", {28.0}, ())
    bench.driver.want(SetFanDuty(80.0))
    bmc, fans, faults = bench.look(1.0)
    assert (bmc.fan_control, {fan.duty_pct for fan in fans}, faults) == ("ours", {80.0}, ())
    bench.look(1.0)
    bench.plant.advance(10.0)
    assert all(rpm > 2300 for rpm in bench.plant.chassis_rpm)
    bench.driver.want(ReleaseFans())
    bmc, _, faults = bench.look(1.0)
    assert (bmc.fan_control, faults) == ("automatic", ())
    bench.look(1.0)
    bench.plant.advance(20.0)
    assert all(rpm < 900 for rpm in bench.plant.chassis_rpm)


def test_fans_are_given_back_on_the_way_out(bench: Bench) -> None:
    bench.driver.want(SetFanDuty(80.0))
    assert bench.look(1.0)[0].fan_control == "ours"
    bench.bmc.feed()
    assert bench.plant.chassis_duty == 0.8
    bench.driver.close()
    bench.bmc.feed()
    assert bench.plant.chassis_duty is None


def test_a_daemon_that_falls_silent_loses_the_fans_to_their_controller(bench: Bench) -> None:
    bench.driver.want(SetFanDuty(80.0))
    assert bench.look(1.0)[0].fan_control == "ours"
    note = bench.run / TAKEN
    assert note.exists()
    environment = {**os.environ, "TINYBOX_RUN_DIR": str(bench.run)}
    with subprocess.Popen([BIN / "tinybox-failsafe"], env=environment, stderr=subprocess.PIPE, text=True) as failsafe:
        try:
            assert failsafe.stderr is not None
            assert any("given back" in line for line in iter(failsafe.stderr.readline, ""))
        finally:
            failsafe.kill()
    bench.bmc.feed()
    assert bench.plant.chassis_duty is None and not note.exists()
    assert bench.look(11.0)[0].fan_control == "automatic", "and who wakes up again sees it"


def test_somebody_else_at_the_fans_is_seen(bench: Bench) -> None:
    bench.plant.broken.begin("bmc:fans-taken", 0.0)
    assert bench.look(1.0)[0].fan_control == "other"
    bench.plant.broken.end("bmc:fans-taken", 0.0)
    assert bench.look(15.0)[0].fan_control == "automatic"


def test_a_controller_without_fan_commands_is_read_all_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "plain")
    try:
        bmc, fans, faults = bench.look(1.0)
        assert (bmc.fan_control, {fan.duty_pct for fan in fans}, faults) == (None, {None}, ())
    finally:
        bench.bmc.stop()
