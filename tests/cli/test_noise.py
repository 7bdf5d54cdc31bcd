"""`tinybox noise` on a twin: what it shows, and a meter's readings typed in by its owner."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BIN, Rig
from tinybox.core.acoustics import FILE_NAME

pytestmark = pytest.mark.twin


@pytest.fixture
def rig(shared_twin: Rig) -> Iterator[Rig]:
    yield shared_twin
    file(shared_twin).unlink(missing_ok=True)
    shared_twin.put_back()


def file(rig: Rig) -> Path:
    return Path(rig.environment["TINYBOX_STATE_DIR"]) / FILE_NAME


def level(rig: Rig) -> dict[str, object]:
    found = json.loads(rig.call("noise", "--json"))["noise"]
    assert isinstance(found, dict)
    return found


def test_it_shows_every_source_and_says_that_it_is_estimated(rig: Rig) -> None:
    shown = rig.call("noise")
    assert "estimated" in shown.splitlines()[0] and "±" in shown
    assert shown.count("fan/chassis") == 6 and "room" in shown
    assert "gpu/5" in shown, "it stands still"
    assert level(rig)["is_estimated"] is True


def test_a_reading_counts_at_once_and_for_a_running_daemon_within_seconds(rig: Rig) -> None:
    rig.start_daemon()
    rig.wait_for(lambda: rig.status()["noise"] is not None)
    assert rig.status()["noise"]["is_estimated"]
    said = rig.call("noise", "calibrate", "31,5 dB(A)")
    assert "31.5 dBA noted" in said and "still wanted" in said
    rig.wait_for(lambda: not rig.status()["noise"]["is_estimated"])
    assert abs(rig.status()["noise_dba"] - 31.5) < 1.0
    assert "estimated" not in rig.call("noise").splitlines()[0]
    assert "estimated" not in rig.call("status").splitlines()[0]
    rig.call("noise", "calibrate", "--clear")
    rig.wait_for(lambda: bool(rig.status()["noise"]["is_estimated"]))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("loud",), "is no level in dBA"),
        (("",), "is no level in dBA"),
        (("nan",), "is no level in dBA"),
        (("385",), "is no level in dBA"),
        (("75",), "is expected: it is not kept"),
        ((), "nobody can be asked"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_kept(rig: Rig, words: tuple[str, ...], why: str) -> None:
    done = rig.run("noise", "calibrate", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr
    assert not file(rig).exists()


def test_readings_in_the_wrong_order_are_said_to_be(rig: Rig) -> None:
    rig.call("noise", "calibrate", "36")
    known = json.loads(file(rig).read_text())
    known["readings"][0] |= {"dba": 30.0, "chassis_rpm": [2000.0] * 6, "card_rpm": [900.0] * 6}
    file(rig).write_text(json.dumps(known))
    done = rig.run("noise", "calibrate", "36")
    assert done.returncode == 1 and "wrong order" in done.stderr
    assert len(json.loads(file(rig).read_text())["readings"]) == 1


def test_an_unknown_speed_is_said_and_nothing_is_kept(rig: Rig) -> None:
    rig.call("twin", "fault", "add", "gpu/2:fan-unreadable")
    done = rig.run("noise", "calibrate", "36")
    assert done.returncode == 1 and "the speed of gpu/2 is not known" in done.stderr
    assert rig.run("noise").returncode == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"box": "red", "readings": 3}', "\x00"])
def test_a_broken_file_is_one_line_and_no_harm(rig: Rig, text: str) -> None:
    file(rig).write_text(text)
    assert "estimated" in rig.call("noise")
    done = rig.run("noise", "calibrate", "36")
    assert done.returncode == 1 and "--clear" in done.stderr and "Traceback" not in done.stderr
    rig.start_daemon()
    rig.wait_for(lambda: rig.status()["noise"] is not None)
    assert rig.status()["noise"]["is_estimated"] is True
    rig.call("noise", "calibrate", "--clear")
    assert not file(rig).exists()


def test_it_asks_a_person_until_enter_alone(rig: Rig) -> None:
    ours, theirs = pty.openpty()
    command = [str(BIN / "tinybox"), "noise", "calibrate"]
    with subprocess.Popen(
        command, env=rig.environment, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as asked:
        os.write(ours, b"quiet\n36\n\n")
        said, complaint = asked.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == 0, complaint
    assert "'quiet' is no level in dBA" in complaint
    assert said.count("Hold the meter where you sit") == 3 and "36 dBA noted" in said
