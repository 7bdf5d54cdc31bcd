"""What a baseboard controller tells in one round, and the controller that is asked through `ipmitool`."""

import re
import time
from dataclasses import dataclass, field
from typing import Protocol

from tinybox.core.config import BmcConfig
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Bmc, SelEntry
from tinybox.hw.host import AbsentError, Host
from tinybox.hw.ipmi import (
    ipmitool,
    parse_dcmi_power,
    parse_log,
    parse_log_state,
    parse_manufacturer,
    parse_sensors,
    parse_troubled,
    raw_words,
    send_raw,
)

FAN_NAME = re.compile(r"FAN\s*(\d+|[A-H])(?:_1)?", re.IGNORECASE)  # FAN1; FAN1_1 of two tachometers; FANA
PSU_POWER_NAME = re.compile(r"PSU\d+ PIN", re.IGNORECASE)
ASKED_EVERY_S = 10.0  # the log: it changes seldom, and each question is a process
REST_S = 300.0  # after a question that this controller does not answer
MOST_EVENTS = 50
TIMEOUT_S = 20.0  # a full sensor list over a slow KCS takes seconds
LEAST_TIMEOUT_S, SLOWER = 5.0, 5.0  # once it is known how long: five times that
RAW_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Told:
    """One round. `rpm` and `duties` (percent) by the fan's number or letter.

    `figures` is all that was measured, to see whether it moves.
    """

    bmc: Bmc
    rpm: dict[str, float]
    figures: tuple[tuple[str, float], ...]
    duties: dict[str, float] = field(default_factory=dict)


class Controller(Protocol):
    """A controller. Both raise HardwareError where it does not answer."""

    maker: int | None

    def greet(self, timeout_s: float) -> None:
        """Ask something small: whether it is there at all."""

    def read(self, now_s: float) -> Told:
        """Everything. Takes as long as it takes."""


class IpmiController:
    """In band through /dev/ipmi0, or over the network. `maker` is its manufacturer's number, once it was greeted."""

    def __init__(self, host: Host, config: BmcConfig) -> None:
        self.maker: int | None = None
        self._host = host
        self._config = config
        self._log = EventLog(host, config)
        self._dcmi_due_s = float("-inf")
        self._patience_s = TIMEOUT_S

    def greet(self, timeout_s: float) -> None:
        """Ask who it is. Raises HardwareError where nobody answers in time."""
        try:
            self.maker = parse_manufacturer(self._run("mc", "info", timeout_s=timeout_s))
        except AbsentError:
            if self._host.is_real:
                raise
            self.maker = None  # an older recording

    def read(self, now_s: float) -> Told:
        """Sensors, power and log. Raises HardwareError where the sensors cannot be had; the rest may be missing.

        One that was quick once is not waited for as long as a slow one when it dies.
        """
        began_s = time.monotonic()
        text = self._run("-c", "sdr", "list", timeout_s=self._patience_s)
        self._patience_s = min(TIMEOUT_S, max(LEAST_TIMEOUT_S, SLOWER * (time.monotonic() - began_s)))
        sensors = parse_sensors(text)
        psu_w = [value for name, value in sensors.items() if PSU_POWER_NAME.fullmatch(name)]
        dcmi_w = self._dcmi_power(now_s)
        self._log.read(now_s)
        bmc = Bmc(
            wall_w=dcmi_w if dcmi_w is not None else (sum(psu_w) if psu_w else None),
            line_v=next((sensors[name] for name in ("PSU1 VIN", "PSU2 VIN") if sensors.get(name)), None),
            inlet_c=sensors.get("INLET TEMP"),
            cpu_c=sensors.get("CPU TEMP"),
            troubled=parse_troubled(text),
            events=self._log.events,
            log_used_pct=self._log.used_pct,
        )
        figures = (*sorted(sensors.items()), *((("DCMI", dcmi_w),) if dcmi_w is not None else ()))
        return Told(bmc, fan_speeds(sensors), figures)

    def raw(self, request: bytes) -> bytes:
        """Network function, command and data; the answer's data. Raises HardwareError."""
        return send_raw(self._host, self._config, request, timeout_s=RAW_TIMEOUT_S)

    def argv(self, request: bytes) -> tuple[str, ...]:
        """The command line that sends these bytes."""
        return ipmitool(self._config, *raw_words(request))

    def _dcmi_power(self, now_s: float) -> float | None:
        """DCMI's own reading is finer than the 8-bit sensors; a controller that has none is asked now and then."""
        if now_s < self._dcmi_due_s:
            return None
        try:
            return parse_dcmi_power(self._run("dcmi", "power", "reading", timeout_s=RAW_TIMEOUT_S))
        except HardwareError:
            self._dcmi_due_s = now_s + REST_S
            return None

    def _run(self, *words: str, timeout_s: float) -> str:
        return self._host.run(ipmitool(self._config, *words), timeout_s=timeout_s)


class EventLog:
    """The System Event Log: only what is new is fetched, and never more than the newest fifty."""

    def __init__(self, host: Host, config: BmcConfig) -> None:
        self.events: tuple[SelEntry, ...] | None = None
        self.used_pct: float | None = None
        self._host = host
        self._config = config
        self._mark = ""
        self._entries: int | None = None
        self._due_s = float("-inf")

    def read(self, now_s: float) -> None:
        """Look whether something was added. What cannot be read is None, and is left alone for a while."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + ASKED_EVERY_S
        try:
            state = parse_log_state(self._run("sel", "info"))
            if state is None:
                raise HardwareError("'sel info' tells no number of entries")
            self.used_pct = state.used_pct
            if state.mark != self._mark or self.events is None:
                self.events = self._fetch(state.entries)
                self._mark, self._entries = state.mark, state.entries
        except HardwareError:
            self.events = self.used_pct = self._entries = None
            self._due_s = now_s + REST_S

    def _fetch(self, entries: int) -> tuple[SelEntry, ...]:
        if entries == 0:
            return ()
        known = self.events or ()
        if self._entries is None or entries <= self._entries:  # the first look, a log that was cleared, or a full one
            fresh, known = MOST_EVENTS, ()
        else:
            fresh = min(MOST_EVENTS, entries - self._entries)
        newest = parse_log(self._run("-c", "sel", "elist", "last", str(fresh)))
        return (*known, *newest)[-MOST_EVENTS:]

    def _run(self, *words: str) -> str:
        return self._host.run(ipmitool(self._config, *words), timeout_s=TIMEOUT_S)


def fan_speeds(sensors: dict[str, float]) -> dict[str, float]:
    """Speeds by the fan's number or letter."""
    matches = {name: FAN_NAME.fullmatch(name) for name in sensors}
    return {match[1].upper().lstrip("0") or "0": sensors[name] for name, match in matches.items() if match}
