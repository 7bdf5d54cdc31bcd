"""A controller through `ipmitool`: how it is asked, and what its answers mean (docs/protocol/bmc.md)."""

import re
from dataclasses import dataclass

from tinybox.core.config import BmcConfig
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import BmcSensor, SelEntry
from tinybox.hw.host import Host

LAN_PORT = 623
DCMI_POWER = re.compile(r"Instantaneous power reading:\s*(\d{1,6})\s*Watts")
MANUFACTURER = re.compile(r"^Manufacturer ID\s*:\s*(\d{1,7})\s*$", re.MULTILINE)
LOG_FIGURE = re.compile(r"^(Entries|Percent Used|Last Add Time)\s*:\s*(.*?)\s*$", re.MULTILINE)
SENSOR_ID = re.compile(r"[0-9A-Fa-f]{2}h")
THRESHOLD_STATES = ("nc", "cr", "nr")
# States of discrete sensors that mean trouble, by the words of ipmitool (IPMI 2.0, table 42-3).
TROUBLE = re.compile(
    r"fail|AC lost|AC out-of-range|config error|redundancy lost|non-redundant: ins|uncorrectable|thermal trip|\bIERR\b"
    r"|fault|critical|non-recoverable|drive not|bus fatal|SERR|overtemp|log full",
    re.IGNORECASE,
)
HEX_BYTES = re.compile(r"\s*(?:[0-9a-fA-F]{2}\s+)*[0-9a-fA-F]{2}\s*")


@dataclass(frozen=True, slots=True)
class LogState:
    """What a controller says of its event log; `mark` changes with every entry."""

    entries: int
    used_pct: float | None
    mark: str


def ipmitool(config: BmcConfig, *words: str) -> tuple[str, ...]:
    """The command line; the password is never on it."""
    if config.interface == "open":
        return ("ipmitool", "-I", "open", *words)
    user = ("-U", config.user) if config.user else ()
    password = ("-f", config.password_file) if config.password_file else ()
    address = ("-H", config.host, "-p", str(config.port or LAN_PORT), "-C", str(config.cipher_suite))
    return ("ipmitool", "-I", "lanplus", *address, *user, *password, *words)


def raw_words(request: bytes) -> tuple[str, ...]:
    """ipmitool's words for network function, command and data."""
    return ("raw", *(f"0x{byte:02x}" for byte in request))


def send_raw(host: Host, config: BmcConfig, request: bytes, *, timeout_s: float) -> bytes:
    """Network function, command and data as bytes; the answer's data. Raises HardwareError with the completion code."""
    words = raw_words(request)
    text = host.run(ipmitool(config, *words), timeout_s=timeout_s)
    if not text.strip():
        return b""
    if not HEX_BYTES.fullmatch(text):
        raise HardwareError(f"'ipmitool {' '.join(words)}' answered no bytes: {text.strip()[:60]!r}")
    return bytes.fromhex("".join(text.split()))


def parse_sensors(text: str) -> dict[str, float]:
    """Sensor name to value from `ipmitool -c sdr list`; a sensor without a reading is left out."""
    found = {}
    for cells in _rows(text):
        if len(cells) < 4 or cells[3] == "ns":
            continue
        try:
            value = float(cells[1])
        except ValueError:
            continue  # "no reading", or a discrete sensor's number
        if abs(value) < 1e9:
            found[cells[0]] = value
    return found


def parse_troubled(text: str) -> tuple[BmcSensor, ...]:
    """Sensors beyond a threshold, or in a discrete state that means trouble, from `ipmitool -c sdr list`."""
    found = []
    for cells in _rows(text):
        if len(cells) < 4:
            continue
        name, reading, unit, state = cells[:4]
        if state in THRESHOLD_STATES:
            found.append(BmcSensor(name, state, f"{reading} {unit}".strip()))
        elif len(cells) > 4 and SENSOR_ID.fullmatch(reading):  # name, number, ok, entity, state, state …
            states = [word for word in cells[4:] if TROUBLE.search(word)]
            found += [BmcSensor(name, word, ", ".join(filter(None, cells[4:]))) for word in states]
    return tuple(found)


def parse_dcmi_power(text: str) -> float | None:
    """Watts from `ipmitool dcmi power reading`."""
    match = DCMI_POWER.search(text)
    return float(match[1]) if match else None


def parse_manufacturer(text: str) -> int | None:
    """The maker's enterprise number from `ipmitool mc info`."""
    match = MANUFACTURER.search(text)
    return int(match[1]) if match else None


def parse_log_state(text: str) -> LogState | None:
    """How full the log is, from `ipmitool sel info`; None where it says no number of entries."""
    figures = dict(LOG_FIGURE.findall(text))
    entries = figures.get("Entries", "")
    if not re.fullmatch(r"\d{1,6}", entries):
        return None
    used = re.fullmatch(r"(\d{1,3})\s*%", figures.get("Percent Used", ""))
    return LogState(int(entries), float(used[1]) if used else None, f"{entries} {figures.get('Last Add Time', '')}")


def parse_log(text: str) -> tuple[SelEntry, ...]:
    """Entries, oldest first, from `ipmitool -c sel elist`; what is none is left out."""
    found = []
    for cells in _rows(text):
        if len(cells) < 5 or not re.fullmatch(r"[0-9A-Fa-f]{1,4}", cells[0]):
            continue
        number, date, time, sensor, event = cells[:5]
        rest = [cell for cell in cells[5:] if cell]
        is_asserted = "Deasserted" not in rest
        details = [cell for cell in rest if cell not in ("Asserted", "Deasserted")]
        words = ": ".join([event, ", ".join(details)]) if details else event
        found.append(SelEntry(int(number, 16), f"{date} {time}".strip(), sensor, words, is_asserted))
    return tuple(found)


def _rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]
