"""Twins and daemons for tests: started for the purpose, by the commands that people use, and taken down after it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from provisioning.demo import twin_environment

BIN = Path(sys.executable).parent
PATIENCE_S = 30.0

# A run that decides whether something lands tries the same cases each time; everybody else's look for new ones.
settings.register_profile("decides", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("decides")


@dataclass(slots=True)
class Rig:
    """One twin: its folder, the environment that points at it, and what was started against it."""

    folder: Path
    environment: dict[str, str]
    daemons: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *words: str, program: str = "tinybox") -> subprocess.CompletedProcess[str]:
        """Run a console script against the twin; nothing is checked."""
        command = [str(BIN / program), *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=90, check=False)

    def call(self, *words: str) -> str:
        """Run `tinybox`, which must succeed; what it printed."""
        done = self.run(*words)
        assert done.returncode == 0, f"tinybox {' '.join(words)}: {done.stderr}"
        return done.stdout

    def truth(self) -> dict[str, Any]:
        """The plant's own figures."""
        loaded = json.loads(self.call("twin", "status", "--json"))
        assert isinstance(loaded, dict)
        return loaded

    def status(self) -> dict[str, Any]:
        """The status document."""
        loaded = json.loads(self.call("status", "--json"))
        assert isinstance(loaded, dict)
        return loaded

    def start_daemon(self, *, is_inside: bool = False) -> subprocess.Popen[str]:
        """A daemon that has taken its first look; `is_inside`: under `twin exec`, where it hears of devices."""
        inside = [str(BIN / "tinybox"), "twin", "exec", "--"] if is_inside else []
        daemon = subprocess.Popen(
            [*inside, str(BIN / "tinyboxd")],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.daemons.append(daemon)
        self.wait_for(lambda: daemon.poll() is not None or self._source() == "daemon")
        assert daemon.poll() is None, daemon.stderr.read() if daemon.stderr else ""
        return daemon

    def _source(self) -> str:
        done = self.run("status", "--json")
        return str(json.loads(done.stdout)["source"]) if done.returncode == 0 else ""

    def wait_for(self, condition: Callable[[], bool], *, seconds: float = PATIENCE_S) -> None:
        """Until the condition holds; fails when it does not in time."""
        deadline_s = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline_s, "it did not happen in time"
            time.sleep(0.1)

    def end_daemons(self) -> None:
        """Stop what still runs of what we started."""
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGCONT)
                daemon.terminate()
                daemon.wait(timeout=PATIENCE_S)
            if daemon.stderr is not None:
                daemon.stderr.close()
        self.daemons.clear()

    def put_back(self) -> None:
        """No daemon of ours, no fault, no work."""
        self.end_daemons()
        self.call("twin", "fault", "clear")
        self.call("twin", "load", "gpu/all", "0")
        self.call("twin", "load", "cpu", "0")


def start_twin(folder: Path, *, box: str = "red") -> Rig:
    """A twin in a folder of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TINYBOX_")}
    rig = Rig(folder, {**clean, "TINYBOX_TWIN_DIR": str(folder)})
    rig.call("twin", "up", "--box", box)
    rig.environment |= twin_environment(rig.environment)
    return rig


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Rig]:
    """A twin of one test's own."""
    rig = start_twin(tmp_path / "twin")
    try:
        yield rig
    finally:
        rig.end_daemons()
        rig.run("twin", "down")


@pytest.fixture(scope="module")
def shared_twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A twin that the tests of a module share: each puts back what it broke."""
    rig = start_twin(tmp_path_factory.mktemp("twin") / "twin")
    try:
        yield rig
    finally:
        rig.end_daemons()
        rig.run("twin", "down")
