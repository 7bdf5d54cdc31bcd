"""Starting, commanding and ending a twin from another process."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tinybox.core.errors import TinyboxError
from tinybox.twin.place import Place
from tinybox.twin.server import unmount

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
MADE = (  # in a twin's folder; what is not ours stays
    *("root", "bmc", "etc", "run", "state", "lib", "graphics", "dev"),
    *("twin.log", "twin.sock", "twin.pid", "settings.json", "env"),
)


def server_command(place: Place, box: str, extra: tuple[str, ...]) -> list[str]:
    """The twin's own process."""
    return [sys.executable, "-m", "tinybox.twin.server", str(place.folder), box, *extra]


def server_pid(place: Place) -> int | None:
    """The process of this folder's twin, if it runs: a recycled number is somebody else's."""
    try:
        pid = int(place.pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"tinybox.twin.server" in command and str(place.folder).encode() in command else None


def start(place: Place, box: str, extra: tuple[str, ...]) -> None:
    """Start in the background; returns when it answers. Raises TinyboxError when it does not."""
    refuse_second(place)
    place.folder.mkdir(parents=True, exist_ok=True)
    with place.log.open("ab") as log:
        process = subprocess.Popen(
            server_command(place, box, extra),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise TinyboxError(f"the twin ended at once: {last_line(place.log)}", hint=f"see {place.log}")
        with contextlib.suppress(TinyboxError):
            ask(place, {"do": "status"})
            return
        time.sleep(0.05)
    process.terminate()
    raise TinyboxError(f"the twin was not ready within {START_TIMEOUT_S:g} s", hint=f"see {place.log}")


def refuse_second(place: Place) -> None:
    """Raises TinyboxError where a twin already runs."""
    if (pid := server_pid(place)) is not None:
        hint = "'tinybox twin down' ends it; TINYBOX_TWIN_DIR names another folder for a second one"
        raise TinyboxError(f"a twin already runs in {place.folder} (process {pid})", hint=hint)


def stop(place: Place) -> None:
    """End the twin and leave nothing mounted, running or lying about. Raises TinyboxError when there is none."""
    pid = server_pid(place)
    if pid is None and not place.settings.exists():
        raise TinyboxError(f"no twin in {place.folder}", hint="'tinybox twin up --box red' starts one")
    if pid is not None:
        with contextlib.suppress(TinyboxError):
            ask(place, {"do": "stop"})
        if not _ended(place, STOP_TIMEOUT_S):
            os.kill(pid, signal.SIGKILL)
            _ended(place, STOP_TIMEOUT_S)
    unmount(place.root)
    _end_orphaned_bmc(place)
    for name in MADE:
        _remove(place.folder / name)
    with contextlib.suppress(OSError):
        place.folder.rmdir()


def ask(place: Place, request: dict[str, Any]) -> dict[str, Any]:
    """One command to a running twin. Raises TinyboxError when it does not run or refuses."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(20)
            connection.connect(str(place.control))
            with connection.makefile("rw") as stream:
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                reply = json.loads(stream.readline() or "{}")
    except (OSError, ValueError):
        raise TinyboxError(
            f"no twin answers in {place.folder}", hint="'tinybox twin up --box red' starts one"
        ) from None
    if "error" in reply:
        raise TinyboxError(reply["error"]["message"], hint=reply["error"]["hint"])
    answer = reply.get("ok", {})
    return answer if isinstance(answer, dict) else {}


def last_line(log: Path) -> str:
    """The last thing a log says."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _ended(place: Place, seconds: float) -> bool:
    deadline_s = time.monotonic() + seconds
    while server_pid(place) is not None:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True


def _end_orphaned_bmc(place: Place) -> None:
    """An ipmi_sim whose server was killed: found by its working folder, which only ours has."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                is_simulator = (process / "comm").read_text().strip() == "ipmi_sim"
                if is_simulator and (process / "cwd").readlink() == place.bmc:
                    os.kill(int(process.name), signal.SIGKILL)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        if not path.is_mount():
            shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
