"""A twin and a daemon to measure, started for the purpose and taken down after it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioning.demo import twin_environment
from tinybox.client import DaemonAbsent, fetch
from tinybox.core.errors import TinyboxError

BIN = Path(sys.prefix) / "bin"


@dataclass(frozen=True, slots=True)
class Rig:
    """A running twin with its daemon: the environment that points at it, and the daemon's process."""

    environment: dict[str, str]
    daemon_pid: int


def tinybox(*arguments: str, environment: dict[str, str]) -> str:
    """Run the CLI; its output."""
    done = subprocess.run(
        [str(BIN / "tinybox"), *arguments], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@contextmanager
def rig(box: str = "red") -> Iterator[Rig]:
    """A twin of this box, governed."""
    with tempfile.TemporaryDirectory(prefix="tinybox-bench-") as folder:
        environment = {**os.environ, "TINYBOX_TWIN_DIR": folder}
        tinybox("twin", "up", "--box", box, environment=environment)
        try:
            environment |= twin_environment(environment)
            # As its unit starts it; where we may not, the figures are those of an ordinary process.
            nice = ["nice", "-n", "-5"] if os.geteuid() == 0 else []
            command = [*nice, str(BIN / "tinyboxd")]
            with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as daemon:
                try:
                    wait_ready(environment)
                    yield Rig(environment, daemon.pid)
                finally:
                    daemon.terminate()
                    daemon.wait(timeout=30)
        finally:
            tinybox("twin", "down", environment=environment)


def wait_ready(environment: dict[str, str], *, seconds: float = 30.0) -> None:
    """Until the daemon has taken its first look."""
    socket_path = environment["TINYBOX_RUN_DIR"] + "/tinyboxd.sock"
    deadline_s = time.monotonic() + seconds
    while True:
        try:
            fetch(socket_path, "/healthz")
            return
        except (DaemonAbsent, TinyboxError) as error:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"the daemon was not ready within {seconds:g} s: {error}") from error
            time.sleep(0.1)
