"""One twin as one process: the plant in real time, its files by FUSE, its BMC, and a socket to command it.

`python -m tinybox.twin.server FOLDER BOX [--real-storage] [--bmc-serial ADDRESS:PORT] [--run-dir DIR]
[--state-dir DIR] [--seed N]
[--board BOARD]`;
people use `tinybox twin up`.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mfusepy

from tinybox.core.armed import Armed, save_armed
from tinybox.core.box import load_box
from tinybox.core.errors import TinyboxError
from tinybox.twin.bmc import BOARDS, USER, BmcSimulator
from tinybox.twin.constants import KINDS, load_plant
from tinybox.twin.faults.known import known_faults
from tinybox.twin.fusefs import FaultySysfs
from tinybox.twin.place import Place
from tinybox.twin.plant import Plant
from tinybox.twin.stand_ins import AMDGPU, DRM, NVML, provide
from tinybox.twin.tree import build_tree
from tinybox.twin.uevents import Wires
from tinybox.twin.work import Work

TICK_S = 0.02
LARGEST_TICK_S = 0.2
TICK_SHARE = 0.1  # of a core that the plant may take before it ticks less often
FEED_PERIOD_S = 0.5


class Twin:
    """The running parts, and the commands that reach them."""

    def __init__(self, place: Place, wanted: "Wanted") -> None:
        self.box = load_box(wanted.box_name)
        self.plant = Plant.of(self.box, load_plant(self.box, wanted.seed))
        self.place = place
        self.files = FaultySysfs(build_tree(self.plant, real_storage=wanted.real_storage), self.plant)
        self.bmc = BmcSimulator(place.bmc, self.plant, wanted.serial, wanted.board)
        self.work = Work(self.plant, place.folder)
        self._wires = Wires()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._reached_s = time.monotonic()
        self.files.catch_up = self._catch_up

    def run_plant(self) -> None:
        """Advance the plant with the real clock until stopped."""
        fed_s, tick_s = 0.0, TICK_S
        while not self._stop.wait(tick_s):
            now_s = time.monotonic()
            with self._lock:
                self._follow_work()
                self._advance()
                if now_s - fed_s > FEED_PERIOD_S:
                    self.bmc.feed()
                    self._wires.drop_ended()
                    fed_s = now_s
            took_s = time.monotonic() - now_s
            tick_s = min(LARGEST_TICK_S, max(TICK_S, took_s / TICK_SHARE))

    def _advance(self) -> None:
        now_s = time.monotonic()
        self.plant.advance(now_s - self._reached_s)
        self._reached_s = now_s

    def _catch_up(self) -> None:
        """Before a counter is read: on a busy machine the plant lags by more than what lies between two readings."""
        if time.monotonic() - self._reached_s > TICK_S and self._lock.acquire(blocking=False):
            try:
                self._advance()
            finally:
                self._lock.release()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One command of the control socket."""
        with self._lock:
            match request:
                case {"do": "load", "device": str(device), "percent": int() | float() as percent, "kind": str(kind)}:
                    self._load(device, float(percent), kind)
                case {"do": "other-load", "amps": int() | float() as amps}:
                    self._load_circuit(float(amps))
                case {"do": "status"}:
                    return self._status()
                case {"do": "faults"}:
                    return {"faults": self._list_faults()}
                case {"do": "fault-add", "id": str(fault_id)}:
                    self.files.add_fault(fault_id)
                case {"do": "fault-clear", "id": str(fault_id)}:
                    self.files.clear_fault(fault_id)
                case {"do": "fault-clear"}:
                    for fault in self._faults():
                        self.files.clear_fault(fault)
                case {"do": "stop"}:
                    threading.Thread(target=self.stop).start()
                case _:
                    raise TinyboxError(f"the twin does not know {request!r}")
            self.bmc.follow_faults()
            self._wires.send(self.files.take_news())
            return {}

    def hear(self, pid: int, wire: socket.socket) -> None:
        """Let a program inside, and all of its namespace, hear what the kernel has to say."""
        with self._lock:
            self._wires.add(pid, wire)

    def stop(self) -> None:
        """The file system's loop returns, and with it everything ends, whoever still has the files mounted."""
        self._stop.set()
        self.files.is_ending = True
        with contextlib.suppress(OSError):
            self.place.root.stat()  # the loop looks up only when it is asked something

    def end(self) -> None:
        """End what runs beside this process; called when the file system is gone."""
        self._stop.set()
        with self._lock:
            self.work.end()
            self.bmc.stop()

    def _follow_work(self) -> None:
        if self.work.follow():
            self.files.show_work(self.work.holders)

    def _faults(self) -> list[str]:
        return self.files.active_faults()

    def _list_faults(self) -> list[dict[str, Any]]:
        """Every kind with one example device; what is broken now under its own name."""
        listed, active = [], self._faults()
        for kind in known_faults(self.box):
            broken = [device for device in kind.devices if f"{device}:{kind.kind}" in active]
            for device in broken or kind.devices[:1]:
                listed.append(
                    {
                        "id": f"{device}:{kind.kind}",
                        "active": bool(broken),
                        "checks": list(kind.checks),
                        "load_pct": kind.load_pct,
                        "shows_within_s": kind.shows_within_s,
                        "words": kind.words,
                    }
                )
        return listed

    def _load(self, device: str, percent: float, kind: str) -> None:
        if not 0 <= percent <= 100:
            raise TinyboxError(f"a load of {percent:g} % cannot be", hint="give 0 to 100")
        if kind not in KINDS:
            raise TinyboxError(f"no work is called '{kind}'", hint=f"there is: {', '.join(KINDS)}")
        if device == "cpu":
            self.plant.cpu_load = percent / 100
            return
        names = {f"gpu/{i}": gpu for i, gpu in enumerate(self.plant.gpus)}
        chosen = list(names.values()) if device == "gpu/all" else [names[device]] if device in names else []
        if not chosen:
            raise TinyboxError(f"the twin has no '{device}'", hint=f"it has: {', '.join(names)}, gpu/all, cpu")
        self._follow_work()  # a program that ended just now does not take the new one's load with it
        for gpu in chosen:
            gpu.load, gpu.work_kind = percent / 100, kind
        self._follow_work()

    def _load_circuit(self, amps: float) -> None:
        if not 0 <= amps <= 100:
            raise TinyboxError(f"another load of {amps:g} A cannot be", hint="give 0 to 100")
        self.plant.other_a = amps

    def _status(self) -> dict[str, Any]:
        plant = self.plant
        return {
            "time_s": round(plant.time_s, 3),
            "wall_w": round(plant.mean_wall_w(), 2),
            "line_v": round(plant.mean_line_v(), 3),
            "breaker_heat": round(plant.breaker_heat, 4),
            "breaker_tripped": plant.is_tripped,
            "other_a": round(plant.other_a, 2),
            "noise_dba": round(plant.noise_dba(), 2),
            "wakes": self.files.wakes,
            "gpus": [
                {
                    "id": f"gpu/{i}",
                    "load_pct": gpu.load * 100,
                    "work_kind": gpu.work_kind,
                    "is_frozen": gpu.is_frozen,
                    "board_w": round(gpu.board_w, 2),
                    "clock_mhz": round(gpu.clock_mhz),
                    "cap_w": gpu.cap_w,
                    "clock_limit_mhz": round(gpu.clock_limit_mhz),
                    "edge_c": round(gpu.edge_c, 2),
                    "junction_c": round(gpu.junction_c, 2),
                    "fan_rpm": round(gpu.fan_rpm),
                }
                for i, gpu in enumerate(plant.gpus)
            ],
        }


def serve_control(twin: Twin, listener: socket.socket) -> None:
    """One JSON line in, one out, a connection each."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # closed: the twin ends
        with connection, contextlib.suppress(OSError):
            connection.sendall(json.dumps(_reply(twin, connection)).encode() + b"\n")


def _reply(twin: Twin, connection: socket.socket) -> dict[str, Any]:
    """What to answer to the request of this connection; one of them brings a socket along. Raises OSError."""
    text, descriptors, _, _ = socket.recv_fds(connection, 65536, 1)
    wires = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    while not text.endswith(b"\n") and (more := connection.recv(65536)):
        text += more
    try:
        match json.loads(text), wires:
            case {"do": "hear", "pid": int(pid)}, [wire]:
                twin.hear(pid, wire)
                return {"ok": {}}
            case request, _:
                return {"ok": twin.answer(request)}
    except TinyboxError as error:
        return {"error": {"message": error.message, "hint": error.hint}}
    except ValueError as error:
        return {"error": {"message": f"not a request: {error}", "hint": ""}}
    return {}


def unmount(path: Path) -> None:
    """Take a FUSE mount away, also one whose server is dead; nothing mounted is fine."""
    for command in (["umount", "-l", str(path)], ["fusermount3", "-u", "-z", str(path)]):
        try:
            if subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0:
                return
        except (OSError, subprocess.TimeoutExpired):
            continue


def announce_when_mounted(place: Place, listener: socket.socket, twin: Twin) -> None:
    """Begin to answer once the files are there, then tell whoever started us."""
    while not place.root.joinpath("sys").is_dir():
        time.sleep(0.02)
    listener.bind(str(place.control))
    listener.listen()
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
    serve_control(twin, listener)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What twin is wanted: the box, how its parts are shown, and where our own programs meet."""

    box_name: str
    run_dir: str
    state_dir: str
    board: str
    real_storage: bool = False
    serial: tuple[str, int] | None = None
    seed: int | None = None


def run(place: Place, wanted: Wanted) -> None:
    """Everything, in the foreground, until stopped."""
    unmount(place.root)
    place.root.mkdir(parents=True, exist_ok=True)
    place.control.unlink(missing_ok=True)
    twin = Twin(place, wanted)
    twin.bmc.start()
    provide_graphics(place, twin)
    write_settings(place, twin, wanted)
    place.pid_file.write_text(f"{os.getpid()}\n")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    threading.Thread(target=twin.run_plant, daemon=True).start()
    threading.Thread(target=announce_when_mounted, args=(place, listener, twin), daemon=True).start()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # libfuse installs its own and unmounts
    try:
        mfusepy.FUSE(
            twin.files,
            str(place.root),
            foreground=True,
            nothreads=True,
            direct_io=True,
            allow_other=os.geteuid() == 0,
            attr_timeout=0,
            entry_timeout=0,
            fsname="tinybox-twin",
        )
    finally:
        twin.end()
        listener.close()
        place.control.unlink(missing_ok=True)
        place.pid_file.unlink(missing_ok=True)


def provide_graphics(place: Place, twin: Twin) -> None:
    """What programs load in place of the vendors' libraries, and the nodes that those of libdrm open."""
    if "nvidia" in {kind.vendor for kind in twin.box.gpus}:
        provide(NVML, place.libraries)
    nodes = twin.files.shown.folders.get("/sys/class/drm", ())
    for node in nodes:
        (place.devices / "dri").mkdir(parents=True, exist_ok=True)
        (place.devices / "dri" / node).touch()
    for library in (DRM, AMDGPU) if nodes else ():
        provide(library, place.graphics)


def write_settings(place: Place, twin: Twin, wanted: Wanted) -> None:
    """The configuration and environment with which our programs govern this twin."""
    in_guest = wanted.real_storage
    live = "ipmitool,nvme,mdadm,udev" if in_guest else "ipmitool"
    live += ",nvml" if place.libraries.is_dir() else ""
    folders = {"run_dir": wanted.run_dir, "state_dir": wanted.state_dir}
    place.settings.write_text(json.dumps({"live": live, **folders, "box": twin.box.name}))
    if in_guest:
        bmc = 'interface = "open"\n'
    else:
        bmc = f'interface = "lanplus"\nport = {twin.bmc.port}\ncipher_suite = 3\nuser = "{USER}"\n'
        bmc += f'password_file = "{twin.bmc.password_file}"\n'
    # There is no wiring to protect from a mistake: a twin is governed from the start.
    save_armed(Path(wanted.state_dir), Armed(is_armed=True, since_unix_s=round(time.time(), 3)))
    place.config.parent.mkdir(parents=True, exist_ok=True)
    place.config.write_text(f'box = "{twin.box.name}"\n\n[bmc]\n{bmc}')
    lines = "".join(f"{key}={value}\n" for key, value in place.environment().items())
    (place.folder / "env").write_text(lines)


def main() -> None:
    """The process behind `tinybox twin up`."""
    parser = argparse.ArgumentParser(prog="tinybox.twin.server")
    parser.add_argument("folder", type=Path)
    parser.add_argument("box")
    parser.add_argument("--real-storage", action="store_true")
    parser.add_argument("--bmc-serial")
    parser.add_argument("--run-dir")
    parser.add_argument("--state-dir")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--board", choices=BOARDS, default=next(iter(BOARDS)))
    given = parser.parse_args()
    place = Place(given.folder.absolute())
    serial = None
    if given.bmc_serial:
        address, _, port = given.bmc_serial.rpartition(":")
        serial = (address, int(port))
    run_dir = given.run_dir or str(place.folder / "run")
    state_dir = given.state_dir or str(place.state)
    run(place, Wanted(given.box, run_dir, state_dir, given.board, given.real_storage, serial, given.seed))


if __name__ == "__main__":
    main()
