"""The page for Prometheus: sound by its own judge, silent about what is not known, and small."""

import math
import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import BIN
from tests.daemon.serving import ask, free_address, serving
from tests.documents import NAMES, RED, SORTS, silenced, tick_of
from tests.policy.conftest import machine
from tinybox.core.actions import (
    Action,
    EndWork,
    FreezeWork,
    PowerOff,
    ReleaseFans,
    SetCap,
    SetClockLimit,
    SetCpuCap,
    SetFanDuty,
)
from tinybox.core.errors import TinyboxError
from tinybox.core.snapshot import GpuState, Snapshot
from tinybox.daemon.api import EXPOSITION, Board, listen_to_network
from tinybox.daemon.loop import Tick
from tinybox.daemon.metrics import exposition
from tinybox.daemon.totals import Totals

ROOT = Path(__file__).parent.parent.parent
MOST_BYTES = 64 * 2**10
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def page_of(snapshot: Snapshot) -> str:
    tick, totals = tick_of(snapshot), Totals()
    totals.note(tick)
    totals.told = {"webhook": {"sent": 3, "failed": 1}}
    return exposition(tick, totals, "red")


def samples(page: str) -> Samples:
    """Name and labels to value, as Prometheus' own parser reads them."""
    families = text_string_to_metric_families(page)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(page: str, name: str, **labels: str) -> float | None:
    return samples(page).get((f"tinybox_{name}", frozenset(labels.items())))


def promtool(*words: str, page: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "promtool", *words], input=page, capture_output=True, text=True, timeout=60, check=False
    )


def assert_sound(page: str) -> None:
    done = promtool("check", "metrics", page=page)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("snapshot", [snapshot for _, snapshot in SORTS], ids=NAMES)
def test_the_page_of_any_box_is_finite_and_small(snapshot: Snapshot) -> None:
    page = page_of(snapshot)
    assert len(page.encode()) <= MOST_BYTES
    found = samples(page)
    assert found and all(math.isfinite(number) and number >= 0 for number in found.values())


@pytest.mark.parametrize("snapshot", [snapshot for name, snapshot in SORTS if not name.startswith("no ")])
def test_prometheus_own_judge_has_nothing_to_say(snapshot: Snapshot) -> None:
    assert_sound(page_of(snapshot))


def test_promtool_would_find_a_fault() -> None:
    assert promtool("check", "metrics", page="# TYPE a_total gauge\na_total 1\n").returncode != 0


def test_figures_are_in_base_units() -> None:
    page = page_of(machine(RED))
    assert value(page, "gpu_power_watts", gpu="0") == 15.0
    assert value(page, "gpu_clock_hertz", gpu="5") == 500e6
    assert value(page, "gpu_link_lane_transfers_per_second", gpu="0") == 16e9
    assert value(page, "cpu_busy_ratio") == 0.02
    assert value(page, "drive_wear_ratio", drive="nvme0") == 0.01
    assert value(page, "gpu_state", gpu="0", state="awake") == 1.0
    assert value(page, "gpu_state", gpu="0", state="gone") == 0.0
    assert value(page, "raid_state", state="clean") == 1.0
    assert value(page, "wall_power_watts") == 240.0


def test_what_is_not_known_is_not_there() -> None:
    whole = machine(RED)
    blind = replace(whole, gpus=(replace(whole.gpus[0], power_w=None), *whole.gpus[1:]))
    assert value(page_of(blind), "gpu_power_watts", gpu="0") is None
    assert value(page_of(blind), "gpu_power_watts", gpu="1") == 15.0
    bare = {name for name, _ in samples(page_of(silenced(whole)))}
    assert "tinybox_gpu_power_watts" not in bare and "tinybox_gpu_state" in bare


def test_a_name_that_wants_quoting_is_quoted() -> None:
    odd = 'a "quoted" \\ name\nof two lines'
    whole = machine(RED)
    page = page_of(replace(whole, drives=(replace(whole.drives[0], model=odd),)))
    assert_sound(page)
    assert value(page, "drive_info", drive="nvme0", model=odd, serial="serial") == 1.0


def test_the_reference_names_every_family_and_no_other() -> None:
    told = replace(machine(RED), failsafe_age_s=0.1)
    page = page_of(replace(told, cpu=replace(told.cpu, cap_w=200.0)))
    served = {name for name in re.findall(r"^# TYPE (\w+)", page, re.MULTILINE) if name.startswith("tinybox_")}
    named = re.findall(r"`(tinybox_\w+)[`{]", (ROOT / "docs/metrics.md").read_text())
    assert set(named) == served
    assert len(named) == len(set(named))


def test_the_configuration_in_the_reference_is_one(tmp_path: Path) -> None:
    (found,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/metrics.md").read_text(), re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(found)
    done = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_was_told_to_the_owner_is_counted_and_what_is_raised_is_there() -> None:
    gone = replace(machine(RED).gpus[3], state=GpuState.GONE)
    snapshot = machine(RED)
    page = page_of(replace(snapshot, gpus=(*snapshot.gpus[:3], gone, *snapshot.gpus[4:])))
    assert value(page, "alerts_told_total", outlet="webhook", outcome="sent") == 3
    assert value(page, "alert_raised", id="gpu/3", severity="critical") == 1
    assert value(page, "alert_raised", id="gpu/2", severity="critical") is None


def turns(*actions: Action, late: bool = False) -> Totals:
    """What is counted when each turn asks one thing of the machine."""
    totals = Totals()
    period_s = tick_of(machine(RED)).decision.period_s * (2.0 if late else 1.0)
    for index, action in enumerate(actions):
        tick = tick_of(machine(RED, time_s=index * period_s))
        totals.note(Tick(tick.snapshot, replace(tick.decision, actions=(action,)), 0.001))
    return totals


def test_turns_and_what_deciding_took_are_counted() -> None:
    totals = turns(*[SetCap("gpu/0", 200.0)] * 3)
    assert (totals.turns, totals.late_turns) == (3, 0)
    assert totals.decision_s == pytest.approx(0.003)
    assert turns(*[SetCap("gpu/0", 200.0)] * 3, late=True).late_turns == 2


def test_writes_are_counted_by_lever() -> None:
    totals = turns(SetCap("gpu/0", 200.0), SetClockLimit("gpu/0", 1500), SetCap("gpu/1", 200.0), SetCpuCap(90.0))
    assert totals.writes == {"gpu_cap": 2, "gpu_clock": 1, "cpu_cap": 1, "fans": 0, "gpu_fan": 0}
    assert turns(SetFanDuty(60.0), ReleaseFans()).writes["fans"] == 2


def test_a_step_against_work_counts_once_however_often_it_is_repeated() -> None:
    freeze, thaw = FreezeWork(is_frozen=True), FreezeWork(is_frozen=False)
    totals = turns(freeze, freeze, EndWork(), EndWork(), thaw, freeze, PowerOff())
    assert totals.interventions == {"freeze": 2, "end": 1, "off": 1}


def test_the_port_serves_figures_and_health_and_nothing_else(tmp_path: Path) -> None:
    board, address = Board("red"), free_address()
    board.publish(tick_of(machine(RED, time_s=1e9)))
    with serving(board, tmp_path / "s", address) as path:
        shown = ask(address, "/metrics")
        assert (shown.status, shown.media_type) == (200, EXPOSITION + "; charset=utf-8")
        assert ask(address, "/healthz").text == "ok\n"
        for target in ("/status", "/status.txt", "/openapi.json", "/"):
            assert ask(address, target).status == 404
        assert ask(path, "/status").status == 200


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(TinyboxError, match=f"port {other.getsockname()[1]}: Address already in use"):
            listen_to_network(other.getsockname())


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_that_the_machine_does_not_have_yet_is_waited_on(address: str) -> None:
    listen_to_network((address, free_address()[1])).close()
