"""The baseboard controller: a real `ipmi_sim`, whose sensors read files that the plant writes."""

import math
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.errors import TinyboxError
from tinybox.twin.plant import Plant
from tinybox.twin.sensors import sensors_of

USER = "twin"
READING_NOISE_W = 1.5  # of the controller's own wattmeter, this way and that
LOG_ENTRIES, LOG_FULL = 1000, 950  # the log's size, and what fills it so far that it ought to be cleared
BOOT_ENTRY = "0x04 0x1f 0x00 0x6f 0x01 0xff 0xff\n"  # OS boot, C: boot completed: a log fills with such
OTHER_DUTY = 60  # percent that somebody else's program has set
TOOL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class BmcBoard:
    """A maker's controller: its enterprise number, and the family of its fan commands."""

    maker: int
    family: str


BOARDS = {
    "asrock-ast2500": BmcBoard(49622, "ast2500"),
    "asrock-ast2600": BmcBoard(49622, "ast2600"),
    "supermicro": BmcBoard(10876, "supermicro"),
    "plain": BmcBoard(0, "none"),
}


class BmcSimulator:
    """`ipmi_sim` in a folder of its own. `serial` is where QEMU's BMC connects; lanplus listens on loopback."""

    def __init__(self, folder: Path, plant: Plant, serial: tuple[str, int] | None, board: str) -> None:
        self._folder = folder
        self._plant = plant
        self._serial = serial
        self._board = BOARDS[board]
        self._is_stopped = self._is_full = False
        self._sensors = sensors_of(plant)
        self._process: subprocess.Popen[bytes] | None = None
        self.has_oem = False
        self.port = 0

    @property
    def pid(self) -> int | None:
        """The simulator's process."""
        return self._process.pid if self._process else None

    @property
    def password_file(self) -> Path:
        """The generated password of user "twin", for `ipmitool -f`."""
        return self._folder / "password"

    def start(self) -> None:
        """Write the configuration and start it. Raises TinyboxError when there is no ipmi_sim."""
        if shutil.which("ipmi_sim") is None:
            raise TinyboxError("the twin's BMC needs ipmi_sim", hint="apt-get install openipmi, or run 'make setup'")
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "state").mkdir(exist_ok=True)
        password = secrets.token_hex(8)
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(password)
        self.port = free_port()
        module = self._oem_module()
        self.has_oem = module is not None
        (self._folder / "lan.conf").write_text(self._lan_conf(password, module))
        (self._folder / "lan.conf").chmod(0o600)
        (self._folder / "twin.emu").write_text(self._emulation())
        self.feed()
        self._spawn()

    def feed(self) -> None:
        """Let the sensors show the plant as it is, and the plant obey whoever drives the fans."""
        plant = self._plant
        if "bmc:stale" not in plant.broken:
            for sensor in self._sensors:
                self._put(f"s{sensor.number}", f"{max(0, round(sensor.value()))}\n")
            noise_w = READING_NOISE_W * math.sin(2.1 * plant.time_s) if plant.has_power else 0.0
            self._put("wall_w", f"{max(0, round(plant.bmc_reading_w() + noise_w))}\n")
        self._put("fan_now", f"{round(plant.fan_share * 100)}\n")
        if "bmc:fans-taken" in plant.broken:
            self._put("taken", f"{OTHER_DUTY}\n")
            plant.chassis_duty = OTHER_DUTY / 100
            return
        (self._folder / "taken").unlink(missing_ok=True)
        plant.chassis_duty = self._duty()

    def _duty(self) -> float | None:
        """What its fan commands ask for; None: automatic."""
        try:
            duty = (self._folder / "fan_duty").read_text().strip()
        except OSError:
            return None
        return int(duty) / 100 if duty.isdecimal() else None

    def follow_faults(self) -> None:
        """Fall silent, wake up, fill the log or have it cleared, as the plant's faults are now."""
        is_dead, is_full = "bmc:dead" in self._plant.broken, "bmc:sel-full" in self._plant.broken
        if self._process is not None and is_dead != self._is_stopped:
            # Its firmware hangs: what it remembers is there again when it goes on.
            self._process.send_signal(signal.SIGSTOP if is_dead else signal.SIGCONT)
            self._is_stopped = is_dead
        if is_full != self._is_full:
            self._is_full = is_full
            threading.Thread(target=self._fill_log if is_full else self._clear_log, daemon=True).start()

    def _fill_log(self) -> None:
        entries = self._folder / "entries"
        entries.write_text(BOOT_ENTRY * LOG_FULL)
        self._tool("sel", "add", str(entries))

    def _clear_log(self) -> None:
        self._tool("sel", "clear")

    def _tool(self, *words: str) -> None:
        """As somebody with the password would, over the network."""
        address = ("-I", "lanplus", "-H", "127.0.0.1", "-p", str(self.port), "-C", "3", "-U", USER)
        command = ["ipmitool", *address, "-f", str(self.password_file), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"bmc: {' '.join(words)}: {error}", flush=True)
            return
        if done.returncode != 0:
            print(f"bmc: {' '.join(words)}: {done.stderr.strip()}", flush=True)

    def stop(self) -> None:
        """End the simulator."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=5)
            self._process = None

    def _spawn(self) -> None:
        command = ["ipmi_sim", "-n", "-c", "lan.conf", "-f", "twin.emu", "-s", "state"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _put(self, name: str, text: str) -> None:
        """Replace a file whole: the simulator may be reading it."""
        temporary = self._folder / f".{name}"
        temporary.write_text(text)
        temporary.replace(self._folder / name)

    def _oem_module(self) -> Path | None:
        """The compiled module: shipped beside its source, else made here; None where nothing can make it."""
        source = Path(__file__).with_name("oem.c")
        shipped = source.with_suffix(".so")
        if shipped.exists():
            return shipped
        if shutil.which("gcc") is None:
            return None
        made = self._folder / "oem.so"
        command = ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(made), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return made if done.returncode == 0 else None

    def _lan_conf(self, password: str, module: Path | None) -> str:
        levels = "\n".join(
            f"    allowed_auths_{level} none md2 md5 straight" for level in ("callback", "user", "operator", "admin")
        )
        lines = [
            'name "twin"',
            "set_working_mc 0x20",
            "  startlan 1",
            f"    addr 127.0.0.1 {self.port}",
            "    priv_limit admin",
            levels,
            f"    guid {secrets.token_hex(16)}",
            "  endlan",
        ]
        if self._serial is not None:
            lines.append(f"  serial 15 {self._serial[0]} {self._serial[1]} codec VM")
        lines.append(f'  user 2 true "{USER}" "{password}" admin 10 none md2 md5 straight')
        if module is not None:
            lines.append(f'  loadlib "{module}" "{self._board.family}:{self._folder}"')
        return "\n".join(lines) + "\n"

    def _emulation(self) -> str:
        lines = [
            "mc_setbmc 0x20",
            f"mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x{self._board.maker:06x} 0x1234 persist_sdr",
            f"sel_enable 0x20 {LOG_ENTRIES} 0x0a",
        ]
        for sensor in self._sensors:
            lines += sensor.commands(str(self._folder / f"s{sensor.number}"))
        lines.append("mc_enable 0x20")
        return "\n".join(lines) + "\n"


def free_port() -> int:
    """A UDP port on loopback that nobody holds at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
