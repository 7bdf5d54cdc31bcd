"""`make demo`: a twin with work on its cards, the daemon holding it inside its outlet, and the status, live."""

import contextlib
import itertools
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinybox.core.errors import TinyboxError

BIN = Path(sys.executable).parent
READY_TIMEOUT_S = 20.0
# The work moves from card to card, and the watts with it.
SCENES: tuple[dict[str, int], ...] = (
    {"gpu/0": 100, "cpu": 40},
    {"gpu/0": 100, "gpu/1": 100, "gpu/2": 60, "cpu": 40},
    {"gpu/2": 100, "gpu/3": 100, "gpu/4": 100, "gpu/5": 100, "cpu": 60},
    {f"gpu/{i}": 100 for i in range(6)} | {"cpu": 60},
    {"gpu/5": 100, "cpu": 20},
)
SCENE_S = 8.0
DEVICES = (*(f"gpu/{i}" for i in range(6)), "cpu")


def demo(seconds: float | None) -> None:
    """Up, show, down; nothing stays. Raises TinyboxError when a part does not come up."""
    with tempfile.TemporaryDirectory(prefix="tinybox-demo-") as folder:
        environment = {**os.environ, "TINYBOX_TWIN_DIR": folder}
        call("twin", "up", "--box", "red", environment=environment)
        try:
            environment |= twin_environment(environment)
            with failsafe(environment), daemon(environment, Path(folder) / "tinyboxd.log"):
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


@contextmanager
def failsafe(environment: dict[str, str]) -> Iterator[None]:
    """The daemon's independent second."""
    with subprocess.Popen([str(BIN / "tinybox-failsafe")], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=10)


def play(scene: dict[str, int], environment: dict[str, str]) -> None:
    """Give every device the work of a scene."""
    for device in DEVICES:
        call("twin", "load", device, str(scene.get(device, 0)), environment=environment)


def show(environment: dict[str, str], seconds: float | None) -> None:
    """The live status on a terminal while the work moves; elsewhere a look at each of two scenes."""
    if not sys.stdout.isatty():
        for scene in SCENES[:2]:
            play(scene, environment)
            time.sleep((seconds if seconds is not None else 8.0) / 2)
            sys.stdout.write(call("status", environment=environment) + "\n")
        return
    stop = threading.Event()
    mover = threading.Thread(target=_move, args=(environment, stop), daemon=True)
    mover.start()
    try:
        command = [str(BIN / "tinybox"), "status", "--watch"]
        subprocess.run(command, env=environment, timeout=seconds, check=False)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        sys.stdout.write("\n")
    finally:
        stop.set()
        mover.join(timeout=10)


def _move(environment: dict[str, str], stop: threading.Event) -> None:
    """One scene after the other until stopped."""
    for scene in itertools.cycle(SCENES):
        with contextlib.suppress(TinyboxError):  # the twin may be going down
            play(scene, environment)
        if stop.wait(SCENE_S):
            return
