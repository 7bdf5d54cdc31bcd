"""Cards of other makers under the daemon: inside the outlet under load, healthy, at their floor when it dies."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import PATIENCE_S, Rig, start_twin
from tests.daemon.test_failsafe import start_failsafe
from tinybox.core.box import load_box

pytestmark = pytest.mark.twin
LEAST_W = 650.0  # at the wall, of any of these boxes at work under the strict guarantee


@pytest.fixture(scope="module", params=["blue", "mixed"])
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A twin of this kind of box, under a daemon and its failsafe."""
    rig = start_twin(tmp_path_factory.mktemp("twin") / "twin", box=request.param)
    failsafe: subprocess.Popen[bytes] | None = None
    try:
        failsafe = start_failsafe(rig.environment)
        rig.start_daemon()
        yield rig
    finally:
        if failsafe is not None:
            failsafe.terminate()
            failsafe.wait(timeout=PATIENCE_S)
        rig.end_daemons()
        rig.run("twin", "down")


def test_under_full_load_it_stays_inside_its_outlet_and_uses_it(box: Rig) -> None:
    box.call("twin", "load", "gpu/all", "100")
    box.wait_for(lambda: box.truth()["wall_w"] > LEAST_W)
    most_w = 0.0
    for _ in range(40):
        truth = box.truth()
        most_w = max(most_w, truth["wall_w"])
        assert not truth["breaker_tripped"]
    status = box.status()
    assert status["power"]["mean_10s_a"] <= status["power"]["budget_a"] * 1.01
    assert most_w > LEAST_W
    assert all(gpu["power_w"] > 30 and gpu["busy_pct"] > 50 for gpu in status["gpus"] if gpu["state"] == "awake")


def test_at_work_every_check_is_fine(box: Rig) -> None:
    box.call("twin", "load", "gpu/all", "100")

    def raised() -> dict[str, str]:
        checks = json.loads(box.run("health", "--json").stdout)["checks"]
        return {one["id"]: one["evidence"] for one in checks if one["status"] not in ("ok", "n/a")}

    box.wait_for(lambda: not raised())
    assert raised() == {}


def test_when_the_daemon_dies_the_cards_are_at_their_floor(box: Rig) -> None:
    box.call("twin", "load", "gpu/all", "100")
    floor_mhz = [kind.clock_min_mhz for kind in load_box(box.status()["box"]).kinds]
    box.daemons[-1].kill()
    box.wait_for(lambda: [gpu["clock_limit_mhz"] for gpu in box.truth()["gpus"]] == floor_mhz)
