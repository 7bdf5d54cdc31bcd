"""One twin as one process: the plant in real time, its files by FUSE, its BMC, and a socket to command it.

`python -m tinybox.twin.server FOLDER BOX [--real-storage] [--bmc-serial ADDRESS:PORT] [--run-dir DIR] [--seed N]`;
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
from pathlib import Path
from typing import Any

import mfusepy

from tinybox.core.armed import Armed, save_armed
from tinybox.core.box import load_box
from tinybox.core.errors import TinyboxError
from tinybox.twin.bmc import USER, BmcSimulator
from tinybox.twin.constants import KINDS, load_plant
from tinybox.twin.faults import known_faults
from tinybox.twin.fusefs import FaultySysfs
from tinybox.twin.place import Place
from tinybox.twin.plant import Plant
from tinybox.twin.tree import build_tree
from tinybox.twin.work import Work

TICK_S = 0.02
LARGEST_TICK_S = 0.2
TICK_SHARE = 0.1  # of a core that the plant may take before it ticks less often
FEED_PERIOD_S = 0.5


class Twin:
    """The running parts, and the commands that reach them."""

    def __init__(
        self, place: Place, box_name: str, *, real_storage: bool, serial: tuple[str, int] | None, seed: int | None
    ) -> None:
        self.box = load_box(box_name)
        self.plant = Plant.of(self.box, load_plant(self.box, seed))
        self.place = place
        self.files = FaultySysfs(build_tree(self.plant, real_storage=real_storage), self.plant)
        self.bmc = BmcSimulator(place.bmc, self.plant, serial)
        self.work = Work(self.plant, place.folder)
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run_plant(self) -> None:
        """Advance the plant with the real clock until stopped."""
        last_s, fed_s, tick_s = time.monotonic(), 0.0, TICK_S
        while not self._stop.wait(tick_s):
            now_s = time.monotonic()
            with self._lock:
                self._follow_work()
                self.plant.advance(now_s - last_s)
                if now_s - fed_s > FEED_PERIOD_S:
                    self.bmc.feed()
                    fed_s = now_s
            last_s, took_s = now_s, time.monotonic() - now_s
            tick_s = min(LARGEST_TICK_S, max(TICK_S, took_s / TICK_SHARE))

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
                    return {"known": [[f.id, f.words] for f in known_faults(self.box)], "active": self._faults()}
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
            self.bmc.set_dead("bmc:dead" in self.files.faults)
            return {}

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
        with connection, connection.makefile("rw") as stream, contextlib.suppress(OSError):
            try:
                reply = {"ok": twin.answer(json.loads(stream.readline()))}
            except TinyboxError as error:
                reply = {"error": {"message": error.message, "hint": error.hint}}
            except ValueError as error:
                reply = {"error": {"message": f"not a request: {error}", "hint": ""}}
            stream.write(json.dumps(reply) + "\n")
            stream.flush()


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


def run(
    place: Place,
    box_name: str,
    *,
    real_storage: bool,
    serial: tuple[str, int] | None,
    run_dir: str,
    seed: int | None,
) -> None:
    """Everything, in the foreground, until stopped."""
    unmount(place.root)
    place.root.mkdir(parents=True, exist_ok=True)
    place.control.unlink(missing_ok=True)
    twin = Twin(place, box_name, real_storage=real_storage, serial=serial, seed=seed)
    twin.bmc.start()
    write_settings(place, twin, real_storage=real_storage, run_dir=run_dir)
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


def write_settings(place: Place, twin: Twin, *, real_storage: bool, run_dir: str) -> None:
    """The configuration and environment with which our programs govern this twin."""
    in_guest = real_storage
    live = "ipmitool,nvme,mdadm" if in_guest else "ipmitool"
    place.settings.write_text(json.dumps({"live": live, "run_dir": run_dir, "box": twin.box.name}))
    if in_guest:
        bmc = 'interface = "open"\n'
    else:
        bmc = f'interface = "lanplus"\nport = {twin.bmc.port}\ncipher_suite = 3\nuser = "{USER}"\n'
        bmc += f'password_file = "{twin.bmc.password_file}"\n'
    # There is no wiring to protect from a mistake: a twin is governed from the start.
    save_armed(place.state, Armed(is_armed=True, since_unix_s=round(time.time(), 3)))
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
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    place = Place(given.folder.absolute())
    serial = None
    if given.bmc_serial:
        address, _, port = given.bmc_serial.rpartition(":")
        serial = (address, int(port))
    run_dir = given.run_dir or str(place.folder / "run")
    run(place, given.box, real_storage=given.real_storage, serial=serial, run_dir=run_dir, seed=given.seed)


if __name__ == "__main__":
    main()
