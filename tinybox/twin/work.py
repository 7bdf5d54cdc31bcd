"""The programs that load the twin's cards: one real, idle process each, so that it can be stopped and ended."""

import os
import subprocess
from pathlib import Path

from tinybox.twin.gpu import GpuPart
from tinybox.twin.plant import Plant

Program = subprocess.Popen[bytes]
FIRST_NODE = 128


class Work:
    """The running programs, by the number of their card."""

    def __init__(self, plant: Plant, folder: Path) -> None:
        self._plant = plant
        self._folder = folder
        self._programs: dict[int, Program] = {}

    @property
    def holders(self) -> dict[int, str]:
        """Each program's process id, and the device that it holds."""
        return {program.pid: f"/dev/dri/renderD{FIRST_NODE + i}" for i, program in self._programs.items()}

    def follow(self) -> bool:
        """Cards follow what became of their programs, then programs their cards; whether one came or went."""
        before = self.holders
        for i, gpu in enumerate(self._plant.gpus):
            if i in self._programs:
                _observe(self._programs[i], gpu)
            if gpu.load > 0 and i not in self._programs:
                self._programs[i] = self._start()
            elif gpu.load <= 0 and i in self._programs:
                _end(self._programs.pop(i))
                gpu.is_frozen = False
        return self.holders != before

    def end(self) -> None:
        """No program outlives the twin."""
        for gpu in self._plant.gpus:
            gpu.load = 0.0
        self.follow()

    def _start(self) -> Program:
        # It waits for the end of a pipe that only we hold, so it ends with us however we end. A stopped one too: in
        # our session but in a group of its own, which the kernel hangs up when we leave it an orphan (setpgid(2)).
        return subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=self._folder, process_group=0
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
