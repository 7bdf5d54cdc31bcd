"""The baseboard controller: a real `ipmi_sim`, whose sensors read files that the plant writes."""

import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.errors import TinyboxError
from tinybox.twin.plant import Plant

TEMPERATURE, VOLTAGE, FAN, POWER = 0x01, 0x02, 0x04, 0x0B  # IPMI sensor types
DEGREES, VOLTS, WATTS, RPM = 1, 4, 6, 18  # IPMI units
RPM_STEP, WATT_STEP = 20, 8  # a reading has 8 bits
USER = "twin"
STATES = "000111111000000"  # threshold events both ways: without them ipmi_sim calls a sensor disabled


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor of the controller: `step` units to a count."""

    number: int
    name: str
    kind: int
    unit: int
    step: int
    value: Callable[[], float]


def sensors_of(plant: Plant) -> tuple[Sensor, ...]:
    """What the box's controller measures."""

    def fan(i: int) -> Sensor:
        return Sensor(i + 1, f"FAN{i + 1}", FAN, RPM, RPM_STEP, lambda: plant.chassis_rpm[i])

    def psu(i: int, number: int) -> Sensor:
        return Sensor(
            number, f"PSU{i + 1} PIN", POWER, WATTS, WATT_STEP, lambda: plant.psu_in_w[i] * plant.kind.psu.bmc_gain
        )

    fans = [fan(i) for i in range(plant.box.fans.count)]
    first = len(fans) + 1
    return (
        *fans,
        Sensor(first, "CPU TEMP", TEMPERATURE, DEGREES, 1, lambda: plant.cpu_c),
        Sensor(first + 1, "INLET TEMP", TEMPERATURE, DEGREES, 1, lambda: plant.inlet_c),
        Sensor(first + 2, "PSU1 VIN", VOLTAGE, VOLTS, 1, lambda: plant.volt_reading),
        *(psu(i, first + 3 + i) for i in range(plant.box.psu.count)),
    )


def full_sensor_record(sensor: Sensor) -> bytes:
    """A full sensor record (IPMI 2.0, table 43-1): linear, unsigned, no offset, readable thresholds."""
    name = sensor.name.encode("ascii")
    body = bytearray(43)
    body[0:3] = bytes((0x20, 0x00, sensor.number))  # owner, channel, number
    body[3:5] = bytes((0x07, sensor.number))  # entity: system board
    body[5:9] = bytes((0x7F, 0x68, sensor.kind, 0x01))  # initialisation, capabilities, type, threshold based
    body[13:15] = bytes((0x3F, 0x3F))
    body[16] = sensor.unit
    body[19] = sensor.step  # M
    body[42] = 0xC0 | len(name)
    return bytes((0, 0, 0x51, 0x01, len(body) + len(name))) + bytes(body) + name


class BmcSimulator:
    """`ipmi_sim` in a folder of its own. `serial` is where QEMU's BMC connects; lanplus listens on loopback."""

    def __init__(self, folder: Path, plant: Plant, serial: tuple[str, int] | None) -> None:
        self._folder = folder
        self._plant = plant
        self._serial = serial
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
        """Let the sensors show the plant as it is, and the plant obey the controller's fan duty."""
        for sensor in self._sensors:
            self._put(f"s{sensor.number}", f"{max(0, round(sensor.value()))}\n")
        self._put("wall_w", f"{round(self._plant.bmc_reading_w())}\n")
        try:
            duty = (self._folder / "fan_duty").read_text().strip()
        except OSError:
            return
        self._plant.chassis_duty = int(duty) / 100 if duty.isdecimal() else None

    def set_dead(self, is_dead: bool) -> None:
        """Kill the controller, or bring it back."""
        if is_dead:
            self.stop()
        elif self._process is None:
            self._spawn()

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
            lines.append(f'  loadlib "{module}" "{self._folder}"')
        return "\n".join(lines) + "\n"

    def _emulation(self) -> str:
        lines = [
            "mc_setbmc 0x20",
            "mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x00d1c1 0x1234 persist_sdr",
            "sel_enable 0x20 1000 0x0a",
        ]
        for sensor in self._sensors:
            where = f"0x20 0 {sensor.number}"
            file = self._folder / f"s{sensor.number}"
            lines.append(f'sensor_add {where} 0x{sensor.kind:02x} 0x01 poll 1000 file "{file}" div={sensor.step}')
            lines.append(f"sensor_set_event_support {where} enable scanning per-state {' '.join([STATES] * 4)}")
            record = " ".join(f"0x{byte:02x}" for byte in full_sensor_record(sensor))
            lines.append(f"main_sdr_add 0x20 {record}")
        lines.append("mc_enable 0x20")
        return "\n".join(lines) + "\n"


def free_port() -> int:
    """A UDP port on loopback that nobody holds at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
