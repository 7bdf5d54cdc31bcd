"""`make demo`: a twin with work on its cards, the daemon holding it inside its outlet, and the status, live."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinybox.core.errors import TinyboxError

BIN = Path(sys.executable).parent
READY_TIMEOUT_S = 20.0
LOADS = (("gpu/0", 100), ("gpu/1", 100), ("gpu/2", 60), ("gpu/3", 100), ("gpu/4", 30), ("cpu", 40))


def demo(seconds: float | None) -> None:
    """Up, show, down; nothing stays. Raises TinyboxError when a part does not come up."""
    with tempfile.TemporaryDirectory(prefix="tinybox-demo-") as folder:
        environment = {**os.environ, "TINYBOX_TWIN_DIR": folder}
        call("twin", "up", "--box", "red", environment=environment)
        try:
            environment |= twin_environment(environment)
            with daemon(environment, Path(folder) / "tinyboxd.log"):
                for device, percent in LOADS:
                    call("twin", "load", device, str(percent), environment=environment)
                show(environment, seconds)
        finally:
            call("twin", "down", environment=environment)


def call(*words: str, environment: dict[str, str]) -> str:
    """Run the CLI. Raises TinyboxError with its own words."""
    command = [str(BIN / "tinybox"), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise TinyboxError(said[0].removeprefix("tinybox: "), hint=" ".join(said[1:]).strip())
    return done.stdout


def twin_environment(environment: dict[str, str]) -> dict[str, str]:
    """What `tinybox twin env` tells a shell, as a dictionary."""
    lines = call("twin", "env", environment=environment).splitlines()
    pairs = (line.removeprefix("export ").partition("=") for line in lines)
    return {key: shlex.split(value)[0] for key, _, value in pairs}


@contextmanager
def daemon(environment: dict[str, str], log: Path) -> Iterator[int]:
    """A daemon that has taken its first look; its process id."""
    with log.open("ab") as file, subprocess.Popen([str(BIN / "tinyboxd")], env=environment, stderr=file) as process:
        try:
            deadline_s = time.monotonic() + READY_TIMEOUT_S
            while "starting" in (text := _look(environment)) or "offline" in text:
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise TinyboxError(f"the daemon did not come up: {log.read_text().strip()}")
                time.sleep(0.1)
            yield process.pid
        finally:
            process.terminate()
            process.wait(timeout=30)


def _look(environment: dict[str, str]) -> str:
    try:
        return call("status", "--json", environment=environment)
    except TinyboxError as error:
        return f"starting: {error.message}"


def show(environment: dict[str, str], seconds: float | None) -> None:
    """The live status on a terminal, one look elsewhere."""
    if not sys.stdout.isatty():
        time.sleep(seconds if seconds is not None else 4.0)
        sys.stdout.write(call("status", environment=environment))
        return
    try:
        command = [str(BIN / "tinybox"), "status", "--watch"]
        subprocess.run(command, env=environment, timeout=seconds, check=False)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        sys.stdout.write("\n")
