"""The flight recorder's file: a header and a ring of records, all of one size (docs/flight-recorder.md).

A record carries its own number and checksum: whatever a power cut tore is left out, all else is read. `nan` stands in
the file for what could not be read; here it is None.
"""

import math
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from tinybox.core.decision import Decision
from tinybox.core.errors import TinyboxError
from tinybox.core.snapshot import Gpu, GpuState, Snapshot

NOW_FILE, CRASH_FILE = "flight", "flight-last-crash"  # in the state folder
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
RECORDS = 9000  # 15 minutes, ten times a second
VERSION = 1
HEADER_BYTES = 4096  # a page: a record's write never touches the header's
MAGIC = b"TBFLIGHT"
REASON_BYTES = 160
MOST_DEVICES = 64
MOST_RECORDS = 200_000
FLOAT_MOST = 3.0e38
# magic, version, records, cards, fans, is it clean, boot id, boot that found it, box, began
HEADER = struct.Struct("<8sHIHHB36s36s32sd")
CRC = struct.Struct("<I")

MACHINE_FIGURES = (
    *("wall_w", "budget_w", "amps", "mean_a", "line_v", "breaker_heat", "other_a"),
    *("cpu_w", "cpu_c", "cpu_busy_pct", "inlet_c", "noise_dba"),
)
GPU_FIGURES = (
    *("power_w", "cap_w", "clock_mhz", "clock_limit_mhz", "edge_c", "junction_c", "memory_c"),
    *("fan_rpm", "busy_pct"),
)
STATES = tuple(GpuState)


@dataclass(frozen=True, slots=True)
class Flight:
    """Whose records these are. `found_boot` is the boot that found them without an end; empty: nobody did yet."""

    box: str
    boot: str
    began_unix_s: float
    gpus: int
    fans: int
    records: int = RECORDS
    is_clean: bool = False
    found_boot: str = ""

    @property
    def has_whole_machine_stopped(self) -> bool:
        """Whether another boot found it: not the daemon alone ended."""
        return self.found_boot not in ("", self.boot)


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn as recorded: figures by name, for the machine and for each card, and the last decision's reason."""

    number: int
    time_s: float
    unix_s: float
    machine: dict[str, float | None]
    gpus: tuple[dict[str, float | None], ...]
    states: tuple[GpuState | None, ...]
    fans_rpm: tuple[float | None, ...]
    reason: str


def record_bytes(flight: Flight) -> int:
    """The size of one record."""
    return _layout(flight).size + CRC.size


def file_bytes(flight: Flight) -> int:
    """The size of the whole file: it never grows."""
    return HEADER_BYTES + flight.records * record_bytes(flight)


def place_of(flight: Flight, number: int) -> int:
    """Where in the file the record of this number lies; numbers begin at 1."""
    return HEADER_BYTES + (number - 1) % flight.records * record_bytes(flight)


def pack_header(flight: Flight) -> bytes:
    """The header, without the padding to its page."""
    packed = HEADER.pack(
        *(MAGIC, VERSION, flight.records, flight.gpus, flight.fans, flight.is_clean),
        *(text.encode()[:36] for text in (flight.boot, flight.found_boot)),
        *(flight.box.encode()[:32], flight.began_unix_s),
    )
    return packed + CRC.pack(zlib.crc32(packed))


def unpack_header(data: bytes) -> Flight | None:
    """The header again; None for one that is torn, of another version, or none at all."""
    packed, crc = data[: HEADER.size], data[HEADER.size : HEADER.size + CRC.size]
    if len(crc) < CRC.size or CRC.unpack(crc)[0] != zlib.crc32(packed):
        return None
    magic, version, records, gpus, fans, is_clean, boot, found, box, began = HEADER.unpack(packed)
    if magic != MAGIC or version != VERSION or not 0 < records <= MOST_RECORDS or max(gpus, fans) > MOST_DEVICES:
        return None
    words = [text.rstrip(b"\0").decode(errors="replace") for text in (box, boot, found)]
    return Flight(words[0], words[1], began, gpus, fans, records, bool(is_clean), words[2])


def pack_record(flight: Flight, number: int, snapshot: Snapshot, decision: Decision) -> bytes:
    """One turn. Cards and fans beyond the header's count are left out, missing ones are unreadable."""
    gpus = (*snapshot.gpus, *(None,) * flight.gpus)[: flight.gpus]
    fans = (*(fan.rpm for fan in snapshot.fans), *(None,) * flight.fans)[: flight.fans]
    figures: list[float | None] = _machine_figures(snapshot, decision)
    for gpu in gpus:
        figures += _gpu_figures(gpu)
    states = bytes(0 if gpu is None else STATES.index(gpu.state) + 1 for gpu in gpus)
    packed = _layout(flight).pack(
        *(number, snapshot.time_s, snapshot.unix_s, states),
        *(_in_file(value) for value in (*figures, *fans)),
        decision.reason.encode(errors="replace")[:REASON_BYTES],
    )
    return packed + CRC.pack(zlib.crc32(packed))


def unpack_record(flight: Flight, data: bytes) -> Sample | None:
    """One record again; None for a place that was never written, or torn."""
    packed, crc = data[: -CRC.size], data[-CRC.size :]
    if len(data) != record_bytes(flight) or CRC.unpack(crc)[0] != zlib.crc32(packed):
        return None
    number, time_s, unix_s, states, *figures, reason = _layout(flight).unpack(packed)
    if number == 0:
        return None
    told = [None if math.isnan(value) else round(value, 3) for value in figures]
    machine, rest = told[: len(MACHINE_FIGURES)], told[len(MACHINE_FIGURES) :]
    width = len(GPU_FIGURES)
    cards = [rest[i * width : (i + 1) * width] for i in range(flight.gpus)]
    return Sample(
        number=number,
        time_s=time_s,
        unix_s=unix_s,
        machine=dict(zip(MACHINE_FIGURES, machine, strict=True)),
        gpus=tuple(dict(zip(GPU_FIGURES, card, strict=True)) for card in cards),
        states=tuple(STATES[code - 1] if 0 < code <= len(STATES) else None for code in states),
        fans_rpm=tuple(rest[flight.gpus * width :]),
        reason=reason.rstrip(b"\0").decode(errors="ignore"),
    )


def boot_id(path: Path = BOOT_ID) -> str:
    """Which boot this is; empty where the kernel does not tell."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def read_header(path: Path) -> Flight | None:
    """Whose file it is; None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return unpack_header(file.read(HEADER.size + CRC.size))
    except OSError:
        return None


def read_flight(path: Path) -> tuple[Flight, tuple[Sample, ...]]:
    """All records that are whole, oldest first. Raises TinyboxError for no file, or one that is no recording."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}", hint="run it as root") from None
    flight = unpack_header(data)
    if flight is None:
        raise TinyboxError(f"{path} is no recording of this version", hint="it is overwritten when tinyboxd starts")
    size = record_bytes(flight)
    places = range(HEADER_BYTES, min(len(data), file_bytes(flight)) - size + 1, size)
    samples = [sample for place in places if (sample := unpack_record(flight, data[place : place + size])) is not None]
    return flight, tuple(sorted(samples, key=lambda sample: sample.number))


def found_by(flight: Flight, boot: str) -> Flight:
    """The same, with who found it."""
    return replace(flight, found_boot=boot)


def _layout(flight: Flight) -> struct.Struct:
    figures = len(MACHINE_FIGURES) + flight.gpus * len(GPU_FIGURES) + flight.fans
    return struct.Struct(f"<Qdd{flight.gpus}s{figures}f{REASON_BYTES}s")


def _machine_figures(snapshot: Snapshot, decision: Decision) -> list[float | None]:
    power, cpu = decision.power, snapshot.cpu
    return [
        *(power.wall_w, power.budget_w, power.amps, power.mean_a, power.line_v, power.breaker_heat, power.other_a),
        *(cpu.power_w, cpu.temp_c, cpu.busy_pct, snapshot.bmc.inlet_c, decision.noise_dba),
    ]


def _gpu_figures(gpu: Gpu | None) -> tuple[float | None, ...]:
    if gpu is None:
        return (None,) * len(GPU_FIGURES)
    return (
        *(gpu.power_w, gpu.cap_w, gpu.clock_mhz, gpu.clock_limit_mhz, gpu.edge_c, gpu.junction_c, gpu.memory_c),
        *(gpu.fan_rpm, gpu.busy_pct),
    )


def _in_file(value: float | None) -> float:
    """A sensor may say anything: what no float of four bytes can hold becomes the largest that can."""
    return math.nan if value is None else min(max(value, -FLOAT_MOST), FLOAT_MOST)
