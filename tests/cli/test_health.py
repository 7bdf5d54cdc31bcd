"""`tinybox health` on recorded machines and by a daemon's answer: the page, the document, acknowledging, history."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BIN
from tests.daemon.serving import serving
from tests.documents import tick_of
from tests.policy.judged import look, whole, with_card, with_drive
from tinybox.core.health import Ack, Finding, HealthEvent, Status, acknowledged, changes, health_document
from tinybox.core.healthfile import (
    KEPT_EVENTS,
    MOST_EVENTS,
    add_history,
    load_acks,
    load_health,
    load_history,
    save_acks,
)
from tinybox.core.snapshot import Snapshot
from tinybox.daemon.api import Board


def asked(folder: Path, *words: str, snapshot: Snapshot | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command beside a daemon that has judged this snapshot."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TINYBOX_")}
    places = {"TINYBOX_RUN_DIR": str(folder), "TINYBOX_STATE_DIR": str(folder / "state")}
    board = Board("red")
    tick = tick_of(replace(snapshot or whole(), slow_time_s=0.0))
    board.publish(replace(tick, findings=acknowledged(tick.findings, load_acks(folder / "state"))))
    with serving(board, folder / "tinyboxd.sock"):
        command = [str(BIN / "tinybox"), "health", *words]
        return subprocess.run(
            command, env={**clean, **places, **more}, capture_output=True, text=True, timeout=60, check=False
        )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    loaded = json.loads(done.stdout)
    assert isinstance(loaded, dict)
    return loaded


HOT = with_card(1, junction_c=107.0)
WORN = with_drive(used_pct=85.0)


def test_a_healthy_box_has_one_line_to_say(tmp_path: Path) -> None:
    done = asked(tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert " checks: " in line and "crit" not in line and "warn" not in line


def test_what_is_critical_comes_first_with_what_to_do_and_exits_with_1(tmp_path: Path) -> None:
    both = replace(HOT, drives=WORN.drives)
    done = asked(tmp_path, snapshot=both)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("!! gpu.temp.junction  gpu/1: 107 °C")
    assert "limit: 95 °C / 105 °C" in lines[1]
    assert any("tinybox raid evacuate DEST" in line for line in lines)
    assert "\x1b" not in done.stdout


def test_a_warning_alone_is_no_failure(tmp_path: Path) -> None:
    done = asked(tmp_path, "--json", snapshot=WORN)
    assert done.returncode == 0
    rows = {row["id"]: row for row in document(done)["checks"]}
    assert {"id", "status", "severity", "evidence", "limit", "advice", "since"} <= set(rows["nvme.wear"])
    assert (rows["nvme.wear"]["status"], rows["nvme.wear"]["devices"]) == ("warn", ["drive/nvme0"])
    assert rows["nvme.wear"]["since"].endswith("Z") and rows["gpu.count"]["since"] is None


def test_all_shows_every_check(tmp_path: Path) -> None:
    done = asked(tmp_path, "--all")
    assert len(done.stdout.splitlines()) == len(document(asked(tmp_path, "--json"))["checks"]) + 1


def test_what_the_owner_knows_still_shows_and_counts_and_raises_no_alert(tmp_path: Path) -> None:
    done = asked(tmp_path, "ack", "gpu.temp.junction", "new cooler ordered", snapshot=HOT, SUDO_USER="ann")
    assert done.returncode == 0, done.stderr
    shown = asked(tmp_path, snapshot=HOT)
    assert shown.returncode == 1
    assert "acknowledged by ann" in shown.stdout and "new cooler ordered" in shown.stdout
    another = replace(HOT, gpus=(replace(HOT.gpus[0], junction_c=108.0), *HOT.gpus[1:]))
    assert "acknowledged by" not in asked(tmp_path, snapshot=another).stdout, "another device is raised anew"
    assert asked(tmp_path, "ack", "gpu.temp.junction", "--clear").returncode == 0
    assert "acknowledged by" not in asked(tmp_path, snapshot=HOT).stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("ack", "gpu.temp.junction"), 2, "say why"),
        (("ack", "gpu.nonsense", "because"), 1, "no check is called"),
        (("ack", "gpu.count", "because"), 1, "nothing to acknowledge"),
        (("--nonsense",), 2, "No such option"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    done = asked(tmp_path, *words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_help_has_examples(tmp_path: Path) -> None:
    for words in ((), ("ack",), ("history",)):
        assert "Examples:" in asked(tmp_path, *words, "--help").stdout


def finding(check_id: str, *devices: str, snapshot: Snapshot) -> Finding:
    found = look(snapshot)[check_id]
    assert set(devices) == set(found.devices)
    return found


def test_a_warning_that_becomes_critical_is_no_longer_acknowledged() -> None:
    warned = finding("gpu.temp.junction", "gpu/1", snapshot=with_card(1, junction_c=96.0))
    ack = Ack(warned.id, warned.devices, warned.status, "ann", 1.0, "known")
    assert acknowledged((warned,), (ack,))[0].ack == ack
    worse = finding("gpu.temp.junction", "gpu/1", snapshot=HOT)
    assert acknowledged((worse,), (ack,))[0].ack is None


def test_history_tells_what_came_got_worse_and_went(tmp_path: Path) -> None:
    fine = finding("gpu.temp.junction", snapshot=whole())
    warned = finding("gpu.temp.junction", "gpu/1", snapshot=with_card(1, junction_c=96.0))
    worse = finding("gpu.temp.junction", "gpu/1", snapshot=HOT)
    steps = [(fine, warned), (warned, warned), (warned, worse), (worse, fine)]
    events = [changes((before,), (after,), float(i)) for i, (before, after) in enumerate(steps)]
    assert [[event.what for event in one] for one in events] == [["raised"], [], ["worse"], ["cleared"]]
    for one in events:
        add_history(tmp_path / "state", one)
    done = asked(tmp_path, "history")
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["raised", "worse", "cleared"]
    assert len(document(asked(tmp_path, "history", "--last", "2", "--json"))["events"]) == 2


def test_history_is_bounded_and_survives_a_torn_line(tmp_path: Path) -> None:
    event = HealthEvent(1.0, "raised", "gpu.count", Status.CRIT, ("gpu/3",), "gone")
    add_history(tmp_path, (event,) * MOST_EVENTS)
    add_history(tmp_path, (event,))
    assert len(load_history(tmp_path)) == KEPT_EVENTS
    with (tmp_path / "health-history.jsonl").open("a") as file:
        file.write('{"unix_s": 2.0, "what": "rai')
    assert load_history(tmp_path)[-1] == event


@pytest.mark.parametrize("text", ["", "[]", "{", '{"acks": 3}', '{"box": "red", "raised": [{"key": 1}]}', "\x00"])
def test_files_that_cannot_be_meant_count_as_nothing(tmp_path: Path, text: str) -> None:
    for name in ("health.json", "health-acks.json", "health-history.jsonl"):
        (tmp_path / name).write_text(text)
    assert load_acks(tmp_path) == () == load_history(tmp_path)
    assert load_health(tmp_path, "red").raised == ()


def test_acks_are_kept_whole(tmp_path: Path) -> None:
    ack = Ack("nvme.wear", ("drive/nvme1",), Status.WARN, "ann", 5.0, "bestellt – für Montag")
    save_acks(tmp_path, (ack,))
    assert load_acks(tmp_path) == (ack,)


def test_the_document_is_json_without_surprises() -> None:
    told = health_document(tuple(look(HOT).values()), source="daemon", box="red", unix_s=1.0)
    assert json.loads(json.dumps(told, allow_nan=False))["is_failed"] is True
