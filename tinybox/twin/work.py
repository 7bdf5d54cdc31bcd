"""The programs that load the twin's cards: one real, idle process each, so that it can be stopped and ended."""

import os
import subprocess
from pathlib import Path

from tinybox.twin.files import folder_of
from tinybox.twin.gpu import LIMITED, USER_LIMIT_W, USERSPACE, GpuPart
from tinybox.twin.nvidia import minor_of
from tinybox.twin.plant import Plant

Program = subprocess.Popen[bytes]
FIRST_NODE = 128


class Work:
    """The running programs, by the number of their card."""

    def __init__(self, plant: Plant, folder: Path) -> None:
        self._plant = plant
        self._folder = folder
        self._programs: dict[int, Program] = {}
        self._ways: dict[int, frozenset[str]] = {}  # how each of them drives its card

    @property
    def holders(self) -> dict[int, str]:
        """Each program's process id, and the device that it holds."""
        return {program.pid: self._node(i) for i, program in self._programs.items()}

    def _node(self, index: int) -> str:
        if self._ways[index]:
            return f"{folder_of(self._plant.box.slots[index])}/resource0"
        box = self._plant.box
        if box.kinds[index].vendor == "nvidia":
            return f"/dev/nvidia{minor_of(box, index)}"
        return f"/dev/dri/renderD{FIRST_NODE + index}"

    def follow(self) -> bool:
        """Cards follow what became of their programs, then programs their cards; whether one came or went."""
        before = self.holders
        for i, gpu in enumerate(self._plant.gpus):
            if i in self._programs:
                _observe(self._programs[i], gpu)
            way = gpu.ails & USERSPACE
            is_wanted = gpu.load > 0 or bool(way)
            if i in self._programs and not (is_wanted and way == self._ways[i]):
                _end(self._programs.pop(i))
                gpu.is_frozen = False
            if is_wanted and i not in self._programs:
                self._programs[i], self._ways[i] = self._start(way), way
        return self.holders != before

    def end(self) -> None:
        """No program outlives the twin."""
        for gpu in self._plant.gpus:
            gpu.load, gpu.ails = 0.0, gpu.ails - USERSPACE
        self.follow()

    def _start(self, way: frozenset[str]) -> Program:
        # It waits for the end of a pipe that only we hold, so it ends with us however we end. A stopped one too: in
        # our session but in a group of its own, which the kernel hangs up when we leave it an orphan (setpgid(2)).
        told = {"AM_POWER_LIMIT": f"{USER_LIMIT_W:.0f}"} if LIMITED in way else {}
        rest = {name: value for name, value in os.environ.items() if name != "AM_POWER_LIMIT"}
        return subprocess.Popen(
            *(["cat"],),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            process_group=0,
            env={**rest, **told},
        )


def _observe(program: Program, gpu: GpuPart) -> None:
    """The kernel tells a parent once of each stop, continuation and end."""
    pid, status = os.waitpid(program.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    if pid == 0:
        return
    if os.WIFSTOPPED(status):
        gpu.is_frozen = True
    elif os.WIFCONTINUED(status):
        gpu.is_frozen = False
    else:
        program.returncode = os.waitstatus_to_exitcode(status)
        gpu.load = 0.0


def _end(program: Program) -> None:
    program.kill()
    program.communicate()
