"""A controller through Redfish (DMTF DSP0266): HTTPS and JSON, asked of the configured address and of no other.

Older firmware has Power and Thermal in each chassis, newer PowerSubsystem and ThermalSubsystem; both are understood.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tinybox.core.config import BmcConfig
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Bmc, BmcSensor, SelEntry
from tinybox.hw.controller import Told
from tinybox.hw.host import Host
from tinybox.hw.https import HttpsDoor

ROOT = "/redfish/v1/"
TIMEOUT_S = 5.0
ROUND_S = 20.0  # for all of it: the drives wait for it too
MOST_MEMBERS = 16  # of any collection
MOST_PAGES = 20  # of a log
MOST_EVENTS = 50
LOG_EVERY_S = 60.0
FAN = re.compile(r"fan[\s_-]*0*(\d+|[A-H])(?![a-z])", re.IGNORECASE)
INLET = re.compile(r"inlet|intake|ambient", re.IGNORECASE)
CPU = re.compile(r"\bcpu\d*\b", re.IGNORECASE)
HEALTH = {"Warning": "nc", "Critical": "cr"}
LEAST_LINE_V = 50.0  # below it a supply has no line to tell of
AC_LOST = "Power Supply AC lost"  # in ipmitool's words

Table = dict[str, Any]


@dataclass(slots=True)
class Gathered:
    """What the chassis of one controller have told so far."""

    system_w: float | None = None
    supplies_w: list[float] = field(default_factory=list)
    line_v: list[float] = field(default_factory=list)
    temps_c: dict[str, float] = field(default_factory=dict)
    rpm: dict[str, float] = field(default_factory=dict)
    duties: dict[str, float] = field(default_factory=dict)
    troubled: list[BmcSensor] = field(default_factory=list)

    @property
    def wall_w(self) -> float | None:
        """The whole box, by its own figure or as the sum of its supplies."""
        return self.system_w if self.system_w is not None else sum(self.supplies_w) if self.supplies_w else None

    def temperature(self, pattern: re.Pattern[str]) -> float | None:
        """The first whose name or place is of this kind."""
        return next((value for name, value in self.temps_c.items() if pattern.search(name)), None)

    def figures(self) -> tuple[tuple[str, float], ...]:
        """All that was measured."""
        fine = (("DCMI", self.system_w),) if self.system_w is not None else ()
        numbered = enumerate([*self.supplies_w, *self.line_v])
        parts = (*self.temps_c.items(), *self.rpm.items(), *((f"supply {i}", value) for i, value in numbered))
        return (*sorted(parts), *fine)


class RedfishController:
    """One service. It drives no fans: the standard has no way to give them back."""

    maker: int | None = None

    def __init__(self, host: Host, config: BmcConfig) -> None:
        self._host = host
        self._door = HttpsDoor(config)
        self._end_s = float("inf")
        self._log_due_s = float("-inf")
        self._events: tuple[SelEntry, ...] | None = None
        self._used_pct: float | None = None

    def greet(self, timeout_s: float) -> None:
        """Ask for the root. Raises HardwareError where nobody answers in time."""
        self._end_s = float("inf")
        self._get(ROOT, timeout_s)

    def read(self, now_s: float) -> Told:
        """Every chassis, and now and then the log. Raises HardwareError where no chassis can be read."""
        self._end_s = time.monotonic() + ROUND_S
        gathered = Gathered()
        every = self._members(f"{ROOT}Chassis")
        if not every:
            raise HardwareError(f"{ROOT}Chassis names no chassis")
        for chassis in every:
            self._read_power(chassis, gathered)
            self._read_air(chassis, gathered)
        if now_s >= self._log_due_s:
            self._log_due_s = now_s + LOG_EVERY_S
            self._read_log()
        bmc = Bmc(
            wall_w=gathered.wall_w,
            line_v=next(iter(gathered.line_v), None),
            inlet_c=gathered.temperature(INLET),
            cpu_c=gathered.temperature(CPU),
            troubled=tuple(gathered.troubled),
            events=self._events,
            log_used_pct=self._used_pct,
        )
        return Told(bmc, gathered.rpm, gathered.figures(), gathered.duties)

    def _read_power(self, chassis: Table, gathered: Gathered) -> None:
        if power := self._linked(chassis, "PowerSubsystem"):
            if (watts := _reading(self._linked(chassis, "EnvironmentMetrics"), "PowerWatts")) is not None:
                gathered.system_w = watts
            for supply in self._members(_link(power, "PowerSupplies")):
                metrics = self._linked(supply, "Metrics")
                figures = _reading(metrics, "InputPowerWatts"), _reading(metrics, "InputVoltage")
                _note_supply(supply, *figures, gathered)
        elif power := self._linked(chassis, "Power"):
            for control in _tables(power.get("PowerControl"))[:1]:
                watts = _number(control.get("PowerConsumedWatts"))
                gathered.system_w = watts if watts is not None else gathered.system_w
            for supply in _tables(power.get("PowerSupplies")):
                watts = _number(supply.get("PowerInputWatts"))
                _note_supply(supply, watts, _number(supply.get("LineInputVoltage")), gathered)

    def _read_air(self, chassis: Table, gathered: Gathered) -> None:
        if air := self._linked(chassis, "ThermalSubsystem"):
            for fan in self._members(_link(air, "Fans")):
                speed = _table(fan.get("SpeedPercent"))
                _note_fan(fan, _number(speed.get("SpeedRPM")), _number(speed.get("Reading")), gathered)
            metrics = self._linked(air, "ThermalMetrics")
            for sensor in _tables(metrics.get("TemperatureReadingsCelsius")):
                _note_temperature(sensor, _number(sensor.get("Reading")), gathered)
        elif air := self._linked(chassis, "Thermal"):
            for fan in _tables(air.get("Fans")):
                value, is_share = _number(fan.get("Reading")), fan.get("ReadingUnits") == "Percent"
                _note_fan(fan, None if is_share else value, value if is_share else None, gathered)
            for sensor in _tables(air.get("Temperatures")):
                _note_temperature(sensor, _number(sensor.get("ReadingCelsius")), gathered)

    def _read_log(self) -> None:
        """The event log, wherever this firmware keeps it; unknown where it has none."""
        self._events = self._used_pct = None
        try:
            log = next(self._logs(), None)
            if log is None:
                return
            entries = self._entries(_link(log, "Entries"))
        except HardwareError:
            return
        self._events = tuple(sorted(entries, key=lambda entry: entry.number))[-MOST_EVENTS:]
        if (most := _number(log.get("MaxNumberOfRecords"))) is not None and most > 0:
            self._used_pct = min(100.0, 100.0 * len(entries) / most)

    def _logs(self) -> Iterator[Table]:
        for collection in ("Systems", "Managers", "Chassis"):
            for owner in self._members(f"{ROOT}{collection}"):
                for log in self._members(_link(owner, "LogServices")):
                    if log.get("LogEntryType") == "SEL" or log.get("Id") == "SEL":
                        yield log

    def _entries(self, path: str) -> list[SelEntry]:
        found: list[SelEntry] = []
        for _ in range(MOST_PAGES):
            page = self._get(path)
            found += [_entry(member, len(found) + i) for i, member in enumerate(_tables(page.get("Members")))]
            path = _path(page.get("Members@odata.nextLink"))
            if not path:
                break
        return found

    def _members(self, path: str) -> list[Table]:
        """The members of a collection, each fetched where only its address is there."""
        members = _tables(self._get(path).get("Members"))[:MOST_MEMBERS] if path else []
        places = [(one, _path(one.get("@odata.id"))) for one in members]
        return [one if len(one) > 1 else self._get(path) for one, path in places if len(one) > 1 or path]

    def _linked(self, table: Table, name: str) -> Table:
        """What a link of this name leads to; empty where there is none."""
        path = _link(table, name)
        return self._get(path) if path else {}

    def _get(self, path: str, timeout_s: float = TIMEOUT_S) -> Table:
        if time.monotonic() > self._end_s:
            raise HardwareError(f"Redfish did not tell all within {ROUND_S:g} s")
        return _table(self._host.answer(("redfish", path), lambda: self._door.get(path, timeout_s)))


def _note_supply(supply: Table, watts: float | None, volts: float | None, gathered: Gathered) -> None:
    if watts is not None:
        gathered.supplies_w.append(watts)
    if volts is not None and volts > LEAST_LINE_V:
        gathered.line_v.append(volts)
    if supply.get("LineInputStatus") in ("LossOfInput", "OutOfRange"):
        gathered.troubled.append(BmcSensor(_name(supply), AC_LOST, str(supply["LineInputStatus"])))
    else:
        _note_health(supply, "" if watts is None else f"{watts:g} Watts", gathered)


def _note_fan(fan: Table, rpm: float | None, duty_pct: float | None, gathered: Gathered) -> None:
    match = FAN.search(_name(fan))
    if match and rpm is not None:
        gathered.rpm[match[1].upper()] = rpm
    if match and duty_pct is not None:
        gathered.duties[match[1].upper()] = duty_pct
    _note_health(fan, "" if rpm is None else f"{rpm:g} RPM", gathered)


def _note_temperature(sensor: Table, value_c: float | None, gathered: Gathered) -> None:
    if value_c is not None:
        gathered.temps_c[f"{_name(sensor)} {sensor.get('PhysicalContext') or ''}".strip()] = value_c
    _note_health(sensor, "" if value_c is None else f"{value_c:g} degrees C", gathered)


def _note_health(part: Table, reading: str, gathered: Gathered) -> None:
    status = _table(part.get("Status"))
    if status.get("State") != "Absent" and (state := HEALTH.get(str(status.get("Health")))):
        gathered.troubled.append(BmcSensor(_name(part), state, reading))


def _entry(member: Table, index: int) -> SelEntry:
    number = str(member.get("Id", ""))
    return SelEntry(
        number=int(number) if re.fullmatch(r"[0-9]{1,9}", number) else index,
        when=str(member.get("Created") or ""),
        sensor=str(member.get("SensorType") or ""),
        event=str(member.get("Message") or ""),
        is_asserted=str(member.get("EntryCode") or "Assert") != "Deassert",
    )


def _name(part: Table) -> str:
    return str(part.get("Name") or part.get("DeviceName") or part.get("MemberId") or part.get("Id") or "")


def _table(value: Any) -> Table:
    return value if isinstance(value, dict) else {}


def _tables(value: Any) -> list[Table]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
    return float(value) if is_number else None


def _reading(table: Table, name: str) -> float | None:
    return _number(_table(table.get(name)).get("Reading"))


def _link(table: Table, name: str) -> str:
    return _path(_table(table.get(name)).get("@odata.id"))


def _path(value: Any) -> str:
    """A path of this service; anything else, another host's address above all, is none."""
    is_path = isinstance(value, str) and re.fullmatch(r"/redfish/v1(/[\w.~%@:+,$?=&-]*)*", value)
    return value if is_path else ""
