"""The failsafe as a program of its own: on plain files, and beside the real daemon on the real twin.

Times are printed (`pytest -s`), never asserted: it acts within a second of the first missing beat.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import BIN, PATIENCE_S, Rig
from tests.daemon.test_loop import RED, HandMadeMachine
from tests.daemon.test_on_the_twin import floor, governed, limits, other_settings, settled
from tinybox.core.config import Config, DaemonConfig
from tinybox.core.snapshot import Snapshot
from tinybox.daemon.heartbeat import Heartbeat
from tinybox.daemon.loop import Loop
from tinybox.hw.pcie import DEVICES

__all__ = ["governed"]  # a fixture
HIGH = "290000000"


def wait_for(condition: Callable[[], bool]) -> None:
    """Until the condition holds; fails when it does not in time."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)


def start_failsafe(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """The program, listening; what it says is in failsafe.log of its folder."""
    run = Path(environment["TINYBOX_RUN_DIR"])
    run.mkdir(exist_ok=True)
    with (run / "failsafe.log").open("w") as log:
        process = subprocess.Popen([BIN / "tinybox-failsafe"], env=environment, stderr=log)
    wait_for(lambda: process.poll() is not None or hears(run / "failsafe.sock"))
    return process


def hears(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
        return caller.connect_ex(str(path)) == 0


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGKILL) -> None:
    """End it, also where it was stopped."""
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=PATIENCE_S) == -number


def wait_said(run: Path | str, words: str) -> str:
    """Until the failsafe of this folder has said so; all that it said."""
    log = Path(run) / "failsafe.log"
    wait_for(lambda: words in log.read_text())
    return log.read_text()


@dataclass(slots=True)
class Bench:
    """A run folder with a failsafe, files for it to write, and a hand on the heart."""

    folder: Path
    process: subprocess.Popen[bytes]
    heart: Heartbeat

    @property
    def run(self) -> Path:
        """Where socket, list and log are."""
        return self.folder / "run"

    def file(self, name: str) -> Path:
        """A file at a high limit."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HIGH)
        return path

    @contextmanager
    def beating(self) -> Iterator[None]:
        """A heart that beats meanwhile."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(0.1):
                self.heart.beat()

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def age_s(self) -> float | None:
        """How old the last beat is that was answered."""
        return self.heart.age_s(time.monotonic())

    def is_heard(self) -> bool:
        """Whether beats are answered now."""
        self.heart.beat()
        age_s = self.age_s()
        return age_s is not None and age_s < 1.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    run = tmp_path / "run"
    bench = Bench(tmp_path, start_failsafe({**os.environ, "TINYBOX_RUN_DIR": str(run)}), Heartbeat(run))
    try:
        yield bench
    finally:
        if bench.process.poll() is None:
            end(bench.process)


def test_silence_carries_out_the_list_in_its_order(bench: Bench) -> None:
    table, cap = bench.folder / "table", bench.file("cap")
    os.mkfifo(table)
    reader = os.open(table, os.O_RDONLY | os.O_NONBLOCK)
    bench.heart.prepare(((str(table), "s 1 500\n"), (str(table), "c\n"), (str(cap), "1")))
    wait_for(lambda: cap.read_text() == "1")
    seen: list[bytes] = []
    wait_for(lambda: (seen.append(os.read(reader, 99)), b"".join(seen).endswith(b"c\n"))[1])
    os.close(reader)
    assert b"".join(seen).startswith(b"s 1 500\nc\n")
    wait_said(bench.run, "s: 2 of 2 files written")


def test_a_path_that_fails_does_not_spare_the_next_and_is_tried_again(bench: Bench) -> None:
    cap, late = bench.file("cap"), bench.folder / "late"
    bench.heart.prepare(((str(late), "1"), (str(cap), "2")))
    wait_for(lambda: cap.read_text() == "2")
    late.write_text(HIGH)
    wait_for(lambda: late.read_text() == "1")
    said = wait_said(bench.run, "2 of 2 files written")
    assert f"1 of 2 files written; {late}: '1': No such file or directory" in said


def test_a_driver_that_hangs_does_not_keep_the_others_from_being_limited(bench: Bench) -> None:
    dead, cap = bench.folder / "dead", bench.file("cap")
    os.mkfifo(dead)  # opening it waits for a reader, who never comes
    bench.heart.prepare(((str(dead), "1"), (str(cap), "2")))
    for _ in range(2):
        wait_for(lambda: cap.read_text() == "2")
        cap.write_text(HIGH)
    wait_said(bench.run, f"1 of 2 files written; {dead}: no answer yet")


def test_beats_keep_it_still_and_their_return_ends_the_writing(bench: Bench) -> None:
    cap = bench.file("cap")
    bench.heart.prepare(((str(cap), "1"),))
    with bench.beating():
        time.sleep(2.5)
        assert cap.read_text() == HIGH
    wait_for(lambda: cap.read_text() == "1")
    cap.write_text(HIGH)  # a card that comes back from a reset
    wait_for(lambda: cap.read_text() == "1")
    with bench.beating():
        wait_for(bench.is_heard)
        cap.write_text(HIGH)
        time.sleep(2.5)
        assert cap.read_text() == HIGH
    wait_said(bench.run, "heartbeats are back after")


def test_the_list_is_read_afresh_every_time(bench: Bench) -> None:
    first, second = bench.file("first"), bench.file("second")
    bench.heart.prepare(((str(first), "1"),))
    wait_for(lambda: first.read_text() == "1")
    bench.heart.prepare(((str(second), "2"),))
    wait_for(lambda: second.read_text() == "2")


def test_without_a_list_it_says_so_once_and_waits_for_one(bench: Bench) -> None:
    time.sleep(3)
    cap = bench.file("cap")
    (bench.run / "failsafe.list").write_text(f"no line\n\nrelative\t1\n{cap}\t1\n")
    wait_for(lambda: cap.read_text() == "1")
    assert wait_said(bench.run, "1 of 1 files written").count("nothing to write in") == 1


def test_a_suspended_device_is_left_asleep_and_limited_when_it_wakes(bench: Bench) -> None:
    asleep, awake = bench.file("card/hwmon/hwmon0/power1_cap"), bench.file("other")
    state = bench.file("card/power/runtime_status")
    state.write_text("suspended\n")
    bench.heart.prepare(((str(asleep), "1"), (str(awake), "2")))
    wait_for(lambda: awake.read_text() == "2")
    assert asleep.read_text() == HIGH
    state.write_text("active\n")
    wait_for(lambda: asleep.read_text() == "1")
    wait_said(bench.run, "asleep, and left so")


def test_a_plain_stop_leaves_everything_as_it_is(bench: Bench) -> None:
    cap = bench.file("cap")
    with bench.beating():
        bench.heart.prepare(((str(cap), "1"),))
        wait_for(bench.is_heard)
        end(bench.process, signal.SIGTERM)
    assert cap.read_text() == HIGH


def test_a_failsafe_that_dies_or_is_deaf_is_known_and_one_that_returns_too(bench: Bench) -> None:
    assert bench.age_s() is None
    wait_for(bench.is_heard)
    bench.process.send_signal(signal.SIGSTOP)
    for _ in range(3000):  # more than any queue holds: a beat never waits
        bench.heart.beat()
    wait_for(lambda: (bench.heart.beat(), (bench.age_s() or 0) > 1.5)[1])
    bench.process.send_signal(signal.SIGCONT)
    wait_for(bench.is_heard)
    end(bench.process)
    wait_for(lambda: (bench.heart.beat(), (bench.age_s() or 0) > 1.5)[1])
    bench.process = start_failsafe({**os.environ, "TINYBOX_RUN_DIR": str(bench.run)})
    wait_for(bench.is_heard)


def test_beats_without_a_failsafe_harm_nobody(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path / "nowhere")
    heart.beat()
    assert heart.age_s(time.monotonic()) is None


def test_the_list_is_replaced_whole_and_only_when_it_changes(tmp_path: Path) -> None:
    heart, path = Heartbeat(tmp_path), tmp_path / "failsafe.list"
    heart.prepare((("/a", "s 1 500\n"), ("/b", "1")))
    assert path.read_text() == "/a\ts 1 500\\n\n/b\t1\n"
    before = path.stat()
    heart.prepare((("/a", "s 1 500\n"), ("/b", "1")))
    assert path.stat().st_ino == before.st_ino
    heart.prepare((("/b", "1"),))
    assert path.read_text() == "/b\t1\n"
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    heart.prepare((("/b", "1"),))
    assert path.exists()


def test_the_service_manager_hears_of_readiness_and_of_life(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        environment = {"TINYBOX_RUN_DIR": str(tmp_path), "NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = start_failsafe({**os.environ, **environment})
        try:
            assert [manager.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        finally:
            end(process)


def test_only_its_owner_may_beat_and_a_second_one_is_refused(bench: Bench) -> None:
    assert (bench.run / "failsafe.sock").stat().st_mode & 0o777 == 0o600
    environment = {**os.environ, "TINYBOX_RUN_DIR": str(bench.run)}
    second = subprocess.run(
        [BIN / "tinybox-failsafe"], env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert second.returncode == 1
    assert "another tinybox-failsafe listens there" in second.stderr
    assert len(second.stderr.splitlines()) == 2
    assert bench.process.poll() is None


def test_help_and_a_wrong_call() -> None:
    shown = subprocess.run([BIN / "tinybox-failsafe", "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert "example:" in shown.stdout
    wrong = subprocess.run([BIN / "tinybox-failsafe", "--now"], capture_output=True, text=True, timeout=30, check=False)
    assert wrong.returncode == 2


def test_the_loop_beats_ten_times_a_second_however_slowly_it_turns() -> None:
    beats: list[float] = []
    slow = Config(daemon=DaemonConfig(period_s=1.0, idle_period_s=1.0))
    turns: list[int] = []
    loop = Loop(
        HandMadeMachine(), RED, slow,
        lambda _: (turns.append(len(beats)), len(turns) > 1 and loop.stop()),
        lambda: beats.append(time.monotonic()),
    )  # fmt: skip
    loop.run()
    print(f"{turns[1] - turns[0]} beats in a turn of a second")
    assert turns[1] - turns[0] > 3


def test_a_turn_that_hangs_beats_no_more() -> None:
    hangs, released = threading.Event(), threading.Event()

    class Hanging(HandMadeMachine):
        def read(self) -> Snapshot:
            hangs.set()
            released.wait(PATIENCE_S)
            return super().read()

    beats: list[float] = []
    loop = Loop(Hanging(), RED, Config(), lambda _: loop.stop(), lambda: beats.append(time.monotonic()))
    thread = threading.Thread(target=loop.run)
    thread.start()
    hangs.wait(PATIENCE_S)
    time.sleep(0.5)
    assert beats == []
    released.set()
    thread.join(timeout=PATIENCE_S)
    assert beats


@pytest.fixture
def guarded(governed: Rig) -> Iterator[subprocess.Popen[bytes]]:
    """A failsafe beside the daemon of a governed twin, its limits settled above the floor."""
    process = start_failsafe(governed.environment)
    try:
        settled(governed)
        assert not floor(governed)
        yield process
    finally:
        if process.poll() is None:
            end(process)


def is_low(rig: Rig) -> bool:
    """Whether every card's files say that it is at its floor."""
    for slot in RED.gpu.slots:
        card = Path(rig.environment["TINYBOX_ROOT"]) / DEVICES / slot
        cap_w = float((next((card / "hwmon").iterdir()) / "power1_cap").read_text()) / 1e6
        if (
            cap_w != RED.gpu.cap_min_w
            or f"1: {RED.gpu.clock_min_mhz}Mhz" not in (card / "pp_od_clk_voltage").read_text()
        ):
            return False
    return True


def until_floor(rig: Rig, what: str) -> None:
    """Wait until every card is at its floor, and print how long it took."""
    began_s = time.monotonic()
    wait_for(lambda: is_low(rig))
    print(f"{what}: every card at its floor after {time.monotonic() - began_s:.2f} s")


@pytest.mark.twin
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_daemon_that_falls_silent_leaves_the_cards_at_their_floor(
    guarded: subprocess.Popen[bytes], governed: Rig, number: signal.Signals
) -> None:
    governed.daemons[0].send_signal(number)
    until_floor(governed, number.name)
    wait_said(governed.environment["TINYBOX_RUN_DIR"], "18 of 18 files written")


@pytest.mark.twin
def test_a_daemon_that_the_kernel_kills_for_memory_is_replaced_by_the_failsafe(
    guarded: subprocess.Popen[bytes], governed: Rig
) -> None:
    with out_of_memory(governed.daemons[0].pid):
        assert governed.daemons[0].wait(timeout=PATIENCE_S) == -signal.SIGKILL
    until_floor(governed, "OOM kill")
    wait_said(governed.environment["TINYBOX_RUN_DIR"], "18 of 18 files written")


@contextmanager
def out_of_memory(pid: int) -> Iterator[None]:
    """A memory group without room, in which this process is the first that the kernel kills."""
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    group = (old if old.is_dir() else new) / f"tinybox-test-{pid}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(64 * 2**20))
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        (group / "cgroup.procs").write_text(str(pid))
        hog = "import sys; open(sys.argv[1], 'w').write('0'); b = bytearray(256 * 2**20)"
        subprocess.run([sys.executable, "-c", hog, str(group / "cgroup.procs")], timeout=PATIENCE_S, check=False)
        yield
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@pytest.mark.twin
def test_both_killed_at_once_and_a_failsafe_that_is_restarted_reach_the_floor(
    guarded: subprocess.Popen[bytes], governed: Rig
) -> None:
    for process in (guarded, governed.daemons[0]):
        process.kill()
    for process in (guarded, governed.daemons[0]):
        process.wait(timeout=PATIENCE_S)
    again = start_failsafe(governed.environment)
    until_floor(governed, "both killed")
    end(again)


@pytest.mark.twin
def test_a_daemon_that_goes_on_earns_its_limits_back(guarded: subprocess.Popen[bytes], governed: Rig) -> None:
    before = limits(governed)
    governed.daemons[0].send_signal(signal.SIGSTOP)
    until_floor(governed, "SIGSTOP")
    governed.daemons[0].send_signal(signal.SIGCONT)
    settled(governed)
    assert limits(governed) == before
    wait_said(governed.environment["TINYBOX_RUN_DIR"], "heartbeats are back")


@pytest.mark.twin
def test_the_list_follows_the_cards_and_no_sleeping_card_is_woken(
    guarded: subprocess.Popen[bytes], governed: Rig
) -> None:
    path = Path(governed.environment["TINYBOX_RUN_DIR"]) / "failsafe.list"
    whole = path.read_text()
    assert [line.split("\t")[1] for line in whole.splitlines()[:3]] == ["s 1 500\\n", "c\\n", "261000000"]
    governed.call("twin", "fault", "add", "gpu/3:gone")
    governed.wait_for(lambda: RED.gpu.slots[3] not in path.read_text())
    governed.call("twin", "fault", "clear", "gpu/3:gone")
    governed.wait_for(lambda: path.read_text() == whole)
    governed.call("twin", "fault", "add", "gpu/2:asleep")
    governed.wait_for(lambda: governed.status()["gpus"][2]["state"] == "asleep")
    wakes = governed.truth()["wakes"]
    governed.daemons[0].kill()
    wait_for(lambda: floor_but(governed, 2))
    time.sleep(2.5)
    assert governed.truth()["wakes"] == wakes
    governed.call("twin", "fault", "clear", "gpu/2:asleep")
    until_floor(governed, "a card that wakes")


def floor_but(rig: Rig, asleep: int) -> bool:
    """Whether every card but the sleeping one is at its floor, by the plant's own word."""
    low = (RED.gpu.cap_min_w, RED.gpu.clock_min_mhz)
    return all(one == low for index, one in enumerate(limits(rig)) if index != asleep)


@pytest.mark.twin
def test_a_card_that_refuses_spares_no_other(guarded: subprocess.Popen[bytes], governed: Rig) -> None:
    governed.call("twin", "fault", "add", "gpu/0:refuses")
    governed.daemons[0].kill()
    wait_for(lambda: floor_but(governed, 0))
    governed.call("twin", "fault", "clear", "gpu/0:refuses")
    until_floor(governed, "a card that refused")
    wait_said(governed.environment["TINYBOX_RUN_DIR"], "Invalid argument")


@pytest.mark.twin
def test_safe_limits_puts_every_card_to_its_floor_and_writes_the_list(shared_twin: Rig) -> None:
    shared_twin.start_daemon()
    settled(shared_twin)
    shared_twin.end_daemons()
    path = Path(shared_twin.environment["TINYBOX_RUN_DIR"]) / "failsafe.list"
    path.unlink()
    done = shared_twin.run("--safe-limits", program="tinyboxd")
    assert (done.returncode, done.stderr) == (0, "")
    assert is_low(shared_twin)
    assert len(path.read_text().splitlines()) == 6 * 5  # clock, cap and fan, of which two take a commit


@pytest.mark.twin
def test_safe_limits_with_a_broken_configuration_fails_at_the_floor(shared_twin: Rig) -> None:
    with other_settings(shared_twin, "this is no TOML"):
        done = shared_twin.run("--safe-limits", program="tinyboxd")
        assert done.returncode == 1
        assert "not valid TOML" in done.stderr
        assert is_low(shared_twin)
