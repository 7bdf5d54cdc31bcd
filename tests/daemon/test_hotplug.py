"""A daemon inside the twin hears of cards and drives that come and go, and does not wait for its next look."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Rig
from tinybox.core.box import load_box
from tinybox.core.flight import NOW_FILE, read_flight
from tinybox.core.snapshot import GpuState

pytestmark = pytest.mark.twin
REST_S = 10.0  # of a loop that nothing wakes
SLOTS = load_box("red").gpu.slots


@pytest.fixture
def inside(twin: Rig) -> Iterator[Rig]:
    """A daemon under `twin exec`, at rest."""
    drop_in = twin.folder / "etc/config.d/rest.toml"
    drop_in.parent.mkdir()
    drop_in.write_text(f"[daemon]\nidle_period_s = {REST_S}\n")
    try:
        twin.start_daemon(is_inside=True)
        twin.wait_for(lambda: twin.status()["decision"]["period_s"] == REST_S)
        yield twin
    finally:
        twin.put_back()


def card(rig: Rig, index: int) -> dict[str, Any]:
    found = rig.status()["gpus"][index]
    assert isinstance(found, dict)
    return found


def reasons(rig: Rig, device: str) -> str:
    return "; ".join(alert["reason"] for alert in rig.status()["alerts"] if alert["id"] == device)


def states(state: Path, index: int) -> list[tuple[float, GpuState | None]]:
    """When the card was seen, and how."""
    return [(sample.time_s, sample.states[index]) for sample in read_flight(state / NOW_FILE)[1]]


def test_a_card_that_goes_or_returns_ends_the_loops_rest(inside: Rig) -> None:
    inside.call("twin", "fault", "add", "gpu/3:gone")
    inside.wait_for(lambda: card(inside, 3)["state"] == "gone")
    inside.wait_for(lambda: SLOTS[3] in reasons(inside, "gpu/3") and "slot 4" in reasons(inside, "gpu/3"))
    inside.call("twin", "fault", "clear", "gpu/3:gone")
    inside.wait_for(lambda: card(inside, 3)["state"] == "awake")
    state = inside.folder / "state"
    inside.wait_for((state / NOW_FILE).exists)
    inside.wait_for(lambda: GpuState.GONE in [s for _, s in states(state, 3)] and states(state, 3)[-1][1] == "awake")
    seen = states(state, 3)
    changes = [(then_s, now_s) for (then_s, a), (now_s, b) in itertools.pairwise(seen) if a != b]
    assert len(changes) == 2
    assert all(now_s - then_s < REST_S for then_s, now_s in changes)


def test_a_drive_that_goes_is_no_reading_any_more_and_an_alert_names_its_place(inside: Rig) -> None:
    inside.wait_for(lambda: len(inside.status()["drives"]) == 5)
    inside.call("twin", "fault", "add", "drive/nvme2:gone")
    inside.wait_for(lambda: "0000:c3:00.0" in reasons(inside, "drive/nvme2"))
    assert [drive["id"] for drive in inside.status()["drives"]] == [f"drive/nvme{i}" for i in (0, 1, 3, 4)]
    inside.call("twin", "fault", "clear", "drive/nvme2:gone")
    inside.wait_for(lambda: len(inside.status()["drives"]) == 5)
    assert reasons(inside, "drive/nvme2") == ""


def test_a_card_that_the_kernel_gave_up_is_an_alert_with_the_way_back(inside: Rig) -> None:
    inside.call("twin", "fault", "add", "gpu/1:wedged")
    inside.wait_for(lambda: "rebind, bus-reset" in reasons(inside, "gpu/1"))
    assert SLOTS[1] in reasons(inside, "gpu/1")
    inside.call("twin", "fault", "clear", "gpu/1:wedged")
    inside.wait_for(lambda: "given up" not in reasons(inside, "gpu/1"))
    assert inside.daemons[0].poll() is None


def test_a_daemon_that_hears_nothing_finds_it_in_the_kernels_log(shared_twin: Rig) -> None:
    shared_twin.start_daemon()
    try:
        shared_twin.call("twin", "fault", "add", "gpu/1:wedged")
        shared_twin.wait_for(lambda: "way back: not told" in reasons(shared_twin, "gpu/1"))
        shared_twin.call("twin", "fault", "clear", "gpu/1:wedged")
        shared_twin.wait_for(lambda: "given up" not in reasons(shared_twin, "gpu/1"))
    finally:
        shared_twin.put_back()
