"""The baseboard controller through `ipmitool`: in band (/dev/ipmi0) or over the network (docs/protocol/bmc.md)."""

import re

from tinybox.core.config import BmcConfig
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Bmc, Fan, Fault
from tinybox.hw.host import Host

FAN_NAME = re.compile(r"FAN\s*(\d+)", re.IGNORECASE)
PSU_POWER_NAME = re.compile(r"PSU\d+ PIN", re.IGNORECASE)
DCMI_POWER = re.compile(r"Instantaneous power reading:\s*(\d+)\s*Watts")
DCMI_REST_ROUNDS = 20  # after a failure
TIMEOUT_S = 20.0  # a full sensor list over a slow KCS takes seconds


def ipmitool(config: BmcConfig, *words: str) -> tuple[str, ...]:
    """The command line; the password is never on it."""
    if config.interface == "open":
        return ("ipmitool", "-I", "open", *words)
    user = ("-U", config.user) if config.user else ()
    password = ("-f", config.password_file) if config.password_file else ()
    address = ("-H", config.host, "-p", str(config.port), "-C", str(config.cipher_suite))
    return ("ipmitool", "-I", "lanplus", *address, *user, *password, *words)


def parse_sensors(text: str) -> dict[str, float]:
    """Sensor name to value from `ipmitool -c sdr list`; a sensor without a reading is left out."""
    found = {}
    for line in text.splitlines():
        cells = line.split(",")
        if len(cells) < 4 or cells[3] == "ns":
            continue
        try:
            found[cells[0].strip()] = float(cells[1])
        except ValueError:
            continue  # "no reading", or a discrete sensor's state
    return found


def parse_dcmi_power(text: str) -> float | None:
    """Watts from `ipmitool dcmi power reading`."""
    match = DCMI_POWER.search(text)
    return float(match[1]) if match else None


class BmcDriver:
    """One controller. Absent and silent are told apart by the reason."""

    def __init__(self, host: Host, config: BmcConfig, fans_expected: int) -> None:
        self._host = host
        self._config = config
        self._fans_expected = fans_expected
        self._dcmi_rest = 0

    def read(self) -> tuple[Bmc, tuple[Fan, ...], tuple[Fault, ...]]:
        """Its sensors now. Takes as long as the controller takes: never call it from the fast loop."""
        if self._config.interface == "none":
            return Bmc(), (), ()
        try:
            sensors = parse_sensors(self._host.run(ipmitool(self._config, "-c", "sdr", "list"), timeout_s=TIMEOUT_S))
        except HardwareError as error:
            return Bmc(), self._fans({}), (Fault("bmc", f"no answer: {error}"), *self._fan_faults({}))
        psu_w = [value for name, value in sensors.items() if PSU_POWER_NAME.fullmatch(name)]
        dcmi_w = self._dcmi_power()
        bmc = Bmc(
            wall_w=dcmi_w if dcmi_w is not None else (sum(psu_w) if psu_w else None),
            line_v=sensors.get("PSU1 VIN"),
            inlet_c=sensors.get("INLET TEMP"),
            cpu_c=sensors.get("CPU TEMP"),
        )
        return bmc, self._fans(sensors), self._fan_faults(sensors)

    def _dcmi_power(self) -> float | None:
        """DCMI's own reading is finer than the 8-bit sensors; a controller that has none is asked now and then."""
        if self._dcmi_rest > 0:
            self._dcmi_rest -= 1
            return None
        try:
            return parse_dcmi_power(self._host.run(ipmitool(self._config, "dcmi", "power", "reading")))
        except HardwareError:
            self._dcmi_rest = DCMI_REST_ROUNDS
            return None

    def _fan_speeds(self, sensors: dict[str, float]) -> dict[int, float]:
        matches = {name: FAN_NAME.fullmatch(name) for name in sensors}
        return {int(match[1]): sensors[name] for name, match in matches.items() if match}

    def _fans(self, sensors: dict[str, float]) -> tuple[Fan, ...]:
        speeds = self._fan_speeds(sensors)
        numbers = sorted(set(speeds) | set(range(1, self._fans_expected + 1)))
        return tuple(Fan(f"fan/chassis{number}", speeds.get(number)) for number in numbers)

    def _fan_faults(self, sensors: dict[str, float]) -> tuple[Fault, ...]:
        silent = [fan.id for fan in self._fans(sensors) if fan.rpm is None]
        return tuple(Fault(name, "the BMC tells no speed of this fan") for name in silent)
