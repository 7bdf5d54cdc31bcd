"""The whole chain on a twin: a program takes a card over, with a limit of its own and without."""

import json
from typing import Any

import pytest

from tests.conftest import Rig
from tinybox.core.box import load_box

pytestmark = pytest.mark.twin


def card(rig: Rig) -> dict[str, Any]:
    found = rig.status()["gpus"][3]
    assert isinstance(found, dict)
    return found


def raised(rig: Rig) -> dict[str, str]:
    checks = json.loads(rig.run("health", "--json").stdout)["checks"]
    return {check["id"]: check["evidence"] for check in checks if check["status"] in ("warn", "crit")}


def test_a_program_that_takes_a_card_over_is_named_and_its_worst_is_set_aside(twin: Rig) -> None:
    worst_w = 150.0 / load_box("red").gpu.socket_to_board_min
    twin.call("twin", "fault", "add", "gpu/3:userspace")
    twin.wait_for(lambda: card(twin)["state"] == "userspace")
    assert card(twin)["power_w"] is None
    twin.wait_for(lambda: card(twin)["grant_w"] == pytest.approx(worst_w, abs=0.1))
    assert "gpu.userspace" not in raised(twin)
    twin.call("twin", "fault", "clear", "gpu/3:userspace")
    twin.wait_for(lambda: card(twin)["state"] == "awake")
    twin.call("twin", "fault", "add", "gpu/3:userspace-unlimited")
    twin.wait_for(lambda: "gpu.userspace" in raised(twin))
    assert "cat (" in raised(twin)["gpu.userspace"]
    assert card(twin)["grant_w"] > worst_w
