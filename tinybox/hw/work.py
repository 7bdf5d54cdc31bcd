"""The programs that hold a card, found by their open files: stopped, let go on, ended (docs/protocol/work.md)."""

import os
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.actions import EndWork, FreezeWork, PowerOff
from tinybox.core.errors import HardwareError
from tinybox.hw.host import Host

CARD = re.compile(r"/dev/(kfd|dri/renderD\d+|nvidia\d+)")
SCREEN = re.compile(r"/dev/dri/card\d+")  # only what lights a screen needs it; work computes through the render node
# As the kernel keeps names, 15 bytes. Without NVIDIA's services the driver forgets its cards' limits.
SPARED = ("tinyboxd", "Xorg", "Xwayland", "nvidia-persiste", "nv-hostengine", "nv-fabricmanage")
STOPPED, TRACED = "T", "t"


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """One process: its number alone may by now be another's. `start_ticks` count from the machine's boot."""

    pid: int
    start_ticks: int


def look_up(host: Host, pid: int) -> tuple[Process, str] | None:
    """Who has this number, and its state's letter (proc_pid_stat(5)); None: nobody."""
    try:
        fields = host.read_text(f"proc/{pid}/stat").rpartition(")")[2].split()  # the name may hold anything
        return Process(pid, int(fields[19])), fields[0]
    except (HardwareError, ValueError, IndexError):
        return None


class WorkDriver:
    """What computes on the cards. `memory` is a file that keeps what we stopped while nobody of us runs."""

    def __init__(self, host: Host, memory: Path | None = None) -> None:
        self._host = host
        self._memory = memory
        self._stopped = self._recall()

    @property
    def is_frozen(self) -> bool:
        """Whether anything that we stopped stands still now."""
        return any(look_up(self._host, process.pid) == (process, STOPPED) for process in self._stopped)

    def apply(self, action: FreezeWork | EndWork | PowerOff) -> None:
        """Do what is asked. Raises HardwareError naming what did not obey, after all the others were told."""
        match action:
            case FreezeWork(is_frozen=True):
                self.freeze()
            case FreezeWork():
                self.thaw()
            case EndWork():
                self.end()
            case PowerOff():
                self.power_off()

    def freeze(self) -> None:
        """Stop whatever runs and holds a card; once more stops what came since. Raises HardwareError."""
        running = {process for process, state in self._holders() if state not in (STOPPED, TRACED)}
        remaining = {process for process in self._stopped if self._lives(process)}
        try:
            self._remember(remaining | running)  # first: a process that we stop and forget stands still for ever
        finally:
            self._send(running, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let what we stopped go on, and nothing else. Raises HardwareError."""
        self._send(self._stopped, signal.SIGCONT)
        self._remember(set())

    def end(self) -> None:
        """Ask everything that holds a card to end; what stands still goes on, to hear of it. Raises HardwareError."""
        holders = {process for process, _ in self._holders()}
        self._send(holders | self._stopped, signal.SIGTERM, signal.SIGCONT)
        self._remember(set())

    def power_off(self) -> None:
        """Shut the machine down in good order. Raises HardwareError."""
        self._host.run(("systemctl", "poweroff"))

    def _holders(self) -> list[tuple[Process, str]]:
        spared = (1, os.getpid())
        pids = [int(name) for name in self._host.list_dir("proc") if name.isdecimal()]
        found = [look_up(self._host, pid) for pid in pids if pid not in spared and self._is_work(pid)]
        return [entry for entry in found if entry is not None]

    def _is_work(self, pid: int) -> bool:
        folder = f"proc/{pid}/fd"
        files = [self._host.link(f"{folder}/{name}") for name in self._host.list_dir(folder)]
        if not any(map(CARD.fullmatch, files)) or any(map(SCREEN.fullmatch, files)):
            return False
        try:
            return self._host.read_text(f"proc/{pid}/comm") not in SPARED
        except HardwareError:
            return False  # it ended meanwhile

    def _lives(self, process: Process) -> bool:
        found = look_up(self._host, process.pid)
        return found is not None and found[0] == process

    def _send(self, processes: Iterable[Process], *numbers: signal.Signals) -> None:
        troubles = []
        for process in processes:
            try:
                _signal(process, numbers)
            except ProcessLookupError:
                continue
            except OSError as error:
                troubles.append(f"process {process.pid}: {(error.strerror or str(error)).lower()}")
        if troubles:
            raise HardwareError(f"cannot send {' and '.join(n.name for n in numbers)} to {'; '.join(troubles)}")

    def _recall(self) -> set[Process]:
        try:
            lines = self._memory.read_text().splitlines() if self._memory else []
            return {Process(*map(int, line.split())) for line in lines}
        except (OSError, ValueError, TypeError):
            return set()

    def _remember(self, processes: set[Process]) -> None:
        if processes == self._stopped:
            return
        self._stopped = processes
        if self._memory is None:
            return
        fresh = self._memory.with_suffix(".new")
        try:
            fresh.write_text("".join(f"{process.pid} {process.start_ticks}\n" for process in sorted(processes)))
            fresh.replace(self._memory)
        except OSError as error:
            raise HardwareError(f"cannot note stopped processes in {self._memory}: {error.strerror}") from None


def _signal(process: Process, numbers: tuple[signal.Signals, ...]) -> None:
    """To this process or to none. Raises OSError; ProcessLookupError: it is gone."""
    descriptor = os.pidfd_open(process.pid)
    try:
        # Signals reach our own kernel's processes, whatever root we look at: it has to know this one too, so that
        # a recorded machine's numbers never hit a stranger.
        found = look_up(Host(), process.pid)
        if found is None or found[0] != process:
            raise ProcessLookupError
        for number in numbers:
            signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)
