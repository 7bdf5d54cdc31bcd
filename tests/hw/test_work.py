"""The levers of last resort on real processes of the test's own, shown through a machine made by hand."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinybox.core.actions import EndWork, FreezeWork, PowerOff
from tinybox.core.box import load_box
from tinybox.core.config import Config
from tinybox.core.errors import HardwareError
from tinybox.hw.hardware import Hardware, assemble
from tinybox.hw.host import Host
from tinybox.hw.work import WorkDriver, look_up

CARD = "/dev/dri/renderD128"
Child = subprocess.Popen[bytes]


class Machine:
    """A root whose `/proc` shows children of this process, each with the files that it is said to hold."""

    def __init__(self, root: Path) -> None:
        self.host = Host(root)
        self.memory = root / "frozen"
        self.driver = WorkDriver(self.host, self.memory)
        self.children: list[Child] = []

    def start(self, *files: str, name: str | None = None) -> Child:
        """A child that holds these files; its name is its own unless given."""
        child = subprocess.Popen(["sleep", "600"])
        self.children.append(child)
        folder = self.show(child.pid, *files)
        (folder / "stat").symlink_to(f"/proc/{child.pid}/stat")
        (folder / "comm").write_text(f"{name or 'sleep'}\n")
        return child

    def show(self, pid: int, *files: str) -> Path:
        """A process's folder with its open files, and nothing else."""
        folder = self.host.root / f"proc/{pid}"
        (folder / "fd").mkdir(parents=True)
        for number, file in enumerate(files):
            (folder / f"fd/{number}").symlink_to(file)
        return folder


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for child in made.children:
        child.kill()
        child.wait()


def wait_until_stopped(child: Child) -> None:
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)


def stop(child: Child) -> None:
    """As a person does who presses Ctrl-Z."""
    child.send_signal(signal.SIGSTOP)
    wait_until_stopped(child)


def state(child: Child) -> str:
    found = look_up(Host(), child.pid)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("node", ["/dev/kfd", "/dev/dri/renderD128", "/dev/dri/renderD133", "/dev/nvidia0"])
def test_what_holds_a_card_is_stopped_and_goes_on(machine: Machine, node: str) -> None:
    child = machine.start("/dev/null", node)
    assert not machine.driver.is_frozen
    machine.driver.freeze()
    wait_until_stopped(child)
    assert machine.driver.is_frozen
    machine.driver.thaw()
    assert state(child) != "T"
    assert not machine.driver.is_frozen


STRANGERS = [
    ((), None),
    (("/dev/null", "socket:[4711]", "/home/renderD128"), None),
    (("/dev/dri/card0",), None),
    ((CARD, "/dev/dri/card0"), "gnome-shell"),  # it lights a screen
    (("/dev/nvidiactl", "/dev/nvidia-uvm"), None),
    ((CARD,), "Xorg"),
    (("/dev/nvidia0",), "nvidia-persiste"),
    (("/dev/nvidia0",), "tinyboxd"),
]


@pytest.mark.parametrize(("files", "name"), STRANGERS)
def test_nothing_else_is_touched(machine: Machine, files: tuple[str, ...], name: str | None) -> None:
    stranger, work = machine.start(*files, name=name), machine.start(CARD)
    machine.driver.freeze()
    wait_until_stopped(work)
    assert state(stranger) != "T"
    machine.driver.end()
    assert work.wait() == -signal.SIGTERM
    assert stranger.poll() is None


def test_neither_ourselves_nor_the_first_process_is_work(machine: Machine) -> None:
    for pid in (1, os.getpid()):
        folder = machine.show(pid, CARD)
        (folder / "stat").symlink_to(f"/proc/{pid}/stat")
        (folder / "comm").write_text("python\n")
    assert machine.driver._holders() == []


def test_what_a_person_stopped_stays_stopped(machine: Machine) -> None:
    theirs, ours = machine.start(CARD), machine.start(CARD)
    stop(theirs)
    machine.driver.freeze()
    wait_until_stopped(ours)
    machine.driver.thaw()
    assert state(ours) != "T"
    assert state(theirs) == "T"


def test_what_comes_while_frozen_is_stopped_at_the_next_call_and_let_go_with_the_rest(machine: Machine) -> None:
    first = machine.start(CARD)
    machine.driver.freeze()
    wait_until_stopped(first)
    second = machine.start(CARD)
    machine.driver.freeze()
    wait_until_stopped(second)
    machine.driver.thaw()
    assert "T" not in (state(first), state(second))


def test_what_somebody_let_go_on_is_stopped_again(machine: Machine) -> None:
    child = machine.start(CARD)
    machine.driver.freeze()
    wait_until_stopped(child)
    child.send_signal(signal.SIGCONT)
    assert not machine.driver.is_frozen
    machine.driver.freeze()
    wait_until_stopped(child)
    assert machine.driver.is_frozen


def test_a_daemon_that_comes_back_knows_what_the_dead_one_stopped(machine: Machine) -> None:
    child = machine.start(CARD)
    machine.driver.freeze()
    wait_until_stopped(child)
    later = WorkDriver(machine.host, machine.memory)
    assert later.is_frozen
    later.thaw()
    assert state(child) != "T"
    assert not WorkDriver(machine.host, machine.memory).is_frozen


@pytest.mark.parametrize("text", ["{pid} 1\n", "{pid}\n", "nonsense\n", "{pid} 1 2\n", "\n"])
def test_another_process_of_the_same_number_is_not_let_go(machine: Machine, text: str) -> None:
    child = machine.start(CARD)
    stop(child)
    machine.memory.write_text(text.format(pid=child.pid))
    driver = WorkDriver(machine.host, machine.memory)
    assert not driver.is_frozen
    driver.thaw()
    assert state(child) == "T"


def test_a_recorded_number_never_hits_a_process_of_this_machine(machine: Machine) -> None:
    child = machine.start(CARD)
    stat = machine.host.root / f"proc/{child.pid}/stat"
    fields = stat.read_text().rpartition(")")[2].split()
    fields[19] = "1"  # started another day
    stat.unlink()
    stat.write_text(f"{child.pid} (a name) with) {' '.join(fields)}\n")
    machine.driver.freeze()
    machine.driver.end()
    assert child.poll() is None
    assert state(child) != "T"


def test_what_is_asked_to_end_ends_also_when_it_stands_still(machine: Machine) -> None:
    frozen, suspended, running = machine.start(CARD), machine.start(CARD), machine.start("/dev/kfd")
    stop(suspended)
    machine.driver.freeze()
    for child in (frozen, running):
        wait_until_stopped(child)
    machine.driver.end()
    assert [child.wait() for child in (frozen, suspended, running)] == [-signal.SIGTERM] * 3
    assert not machine.driver.is_frozen


def test_what_cannot_be_noted_is_stopped_all_the_same(machine: Machine) -> None:
    child = machine.start(CARD)
    driver = WorkDriver(machine.host, machine.host.root / "nowhere/frozen")
    with pytest.raises(HardwareError, match=r"cannot note stopped processes in .*: No such file"):
        driver.freeze()
    wait_until_stopped(child)
    assert driver.is_frozen


def test_work_that_ended_by_itself_is_no_trouble(machine: Machine) -> None:
    child = machine.start(CARD)
    machine.driver.freeze()
    wait_until_stopped(child)
    child.kill()
    child.wait()
    assert not machine.driver.is_frozen
    machine.driver.freeze()
    machine.driver.thaw()
    machine.driver.end()


def test_the_machine_is_shut_down_by_systemd(machine: Machine) -> None:
    with pytest.raises(HardwareError, match="'systemctl poweroff' is not recorded"):
        machine.driver.power_off()
    commands = machine.host.root / "commands"
    commands.mkdir()
    (commands / "systemctl_poweroff").write_text("")
    machine.driver.power_off()


def test_the_seam_carries_the_actions_and_the_answer(copy: Host, machine: Machine) -> None:
    child = machine.start(CARD)
    (machine.host.root / "proc" / str(child.pid)).rename(copy.root / "proc" / str(child.pid))
    hardware = Hardware(copy, load_box("red"), Config(), machine.host.root)
    assert not assemble(hardware.read_fast(1.0), None, 1.0, 1.0).is_work_frozen
    hardware.apply(FreezeWork(is_frozen=True))
    wait_until_stopped(child)
    assert assemble(hardware.read_fast(2.0), None, 2.0, 2.0).is_work_frozen
    hardware.apply(FreezeWork(is_frozen=False))
    assert not assemble(hardware.read_fast(3.0), None, 3.0, 3.0).is_work_frozen
    with pytest.raises(HardwareError, match="systemctl poweroff"):
        hardware.apply(PowerOff())
    hardware.apply(EndWork())
    assert child.wait() == -signal.SIGTERM
    hardware.release()
