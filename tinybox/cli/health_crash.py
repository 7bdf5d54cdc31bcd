"""`tinybox health last-crash`: the curve up to the end of the last run that nobody ended."""

import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tinybox.client import DaemonAbsent, fetch
from tinybox.core.config import Folders
from tinybox.core.errors import TinyboxError
from tinybox.core.flight import (
    CRASH_FILE,
    NOW_FILE,
    Flight,
    Sample,
    boot_id,
    found_by,
    read_flight,
    read_header,
)

BARS = " ▁▂▃▄▅▆▇█"
LABEL_COLUMNS, RANGE_COLUMNS, LEAST_COLUMNS = 14, 20, 20
IDLE_S = 12.0  # a value lasts until the next one; longer than this without one is a gap
LAST_S = 60.0  # drawn once more, where more than twice that was recorded


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of the picture; `least` is the lowest value drawn, None: the lowest there is."""

    label: str
    unit: str
    value: Callable[[Sample], float | None]
    least: float | None = 0.0


@click.command(epilog="Examples: 'tinybox health last-crash', 'tinybox health last-crash --seconds 60 --json'")
@click.option("--seconds", default=900.0, show_default=True, help="How much of the end.")
@click.option("--json", "as_json", is_flag=True, help="Every sample, for scripts.")
def last_crash(seconds: float, as_json: bool) -> None:
    """Show the last run that ended without a clean stop, up to its end.

    A power cut, a tripped breaker, a panic, a daemon that was killed: whatever it was, tinyboxd recorded every turn
    until a second before it. See docs/flight-recorder.md.
    """
    path = find_crash(Folders.from_environment())
    if path is None:
        click.echo(json.dumps({"crash": None}) if as_json else "no run that is known ended without a clean stop")
        return
    flight, samples = read_flight(path)
    if not samples:
        raise TinyboxError(f"nothing in {path} can be read", hint="the run ended within its first second")
    if not flight.found_boot:
        flight = found_by(flight, boot_id())
    samples = tuple(sample for sample in samples if sample.time_s >= samples[-1].time_s - seconds)
    if as_json:
        click.echo(json.dumps({"crash": document(flight, samples)}, ensure_ascii=False))
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
        click.echo(picture(flight, samples, columns))


def find_crash(folders: Folders) -> Path | None:
    """The file of the last crash: that of the current run where it ended and no daemon runs that could put it aside."""
    now, kept = folders.state / NOW_FILE, folders.state / CRASH_FILE
    flight = read_header(now)
    if flight is not None and not flight.is_clean and not _is_running(folders):
        return now
    return kept if kept.exists() else None


def _is_running(folders: Folders) -> bool:
    try:
        fetch(str(folders.socket), "/healthz")
    except DaemonAbsent:
        return False
    except TinyboxError:
        return True  # it answers, though not what we like
    return True


def document(flight: Flight, samples: Sequence[Sample]) -> dict[str, Any]:
    """Everything, for scripts."""
    return {
        "box": flight.box,
        "boot": flight.boot,
        "has_whole_machine_stopped": flight.has_whole_machine_stopped,
        "began_unix_s": round(flight.began_unix_s, 3),
        "ended_unix_s": round(samples[-1].unix_s, 3),
        "reason": samples[-1].reason,
        "samples": [_row(sample, samples[-1].time_s) for sample in samples],
    }


def _row(sample: Sample, end_s: float) -> dict[str, Any]:
    cards = zip(sample.states, sample.gpus, strict=True)
    return {
        "before_end_s": round(end_s - sample.time_s, 3),
        "time_unix_s": round(sample.unix_s, 3),
        **sample.machine,
        "gpus": [{"id": f"gpu/{i}", "state": state, **card} for i, (state, card) in enumerate(cards)],
        "fans_rpm": list(sample.fans_rpm),
        "reason": sample.reason,
    }


def picture(flight: Flight, samples: Sequence[Sample], columns: int) -> str:
    """Curves and last words, as lines for a terminal."""
    end = samples[-1]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(end.unix_s))
    ended = "the whole machine stopped" if flight.has_whole_machine_stopped else "tinyboxd alone ended"
    what = "a power cut, a reset, a panic" if flight.has_whole_machine_stopped else "killed, or it fell over"
    lines = [f"{flight.box}, {when}: {ended} ({what})", f"last decided: {end.reason or 'nothing'}", ""]
    lines += _drawn(flight, samples, columns)
    if end.time_s - samples[0].time_s > 2 * LAST_S:
        last = [sample for sample in samples if sample.time_s >= end.time_s - LAST_S]
        lines += ["", *_drawn(flight, last, columns)]
    lines += ["", "at the end:", *(f"  {line}" for line in _last_words(end))]
    return "\n".join(line.rstrip() for line in lines)


def _drawn(flight: Flight, samples: Sequence[Sample], columns: int) -> list[str]:
    width = max(LEAST_COLUMNS, columns - LABEL_COLUMNS - RANGE_COLUMNS - 2)
    span_s = samples[-1].time_s - samples[0].time_s
    title = f"the last {span_s:.0f} s, {max(span_s / width, 0.001):.2g} s a column"
    return [title, *(line for curve in _curves(flight) if (line := _line(curve, samples, width)))]


def _curves(flight: Flight) -> list[Curve]:
    curves = [
        Curve("wall", "W", lambda s: s.machine["wall_w"]),
        Curve("outlet", "A", lambda s: s.machine["amps"]),
        Curve("line", "V", lambda s: s.machine["line_v"], None),
        Curve("breaker heat", "%", lambda s: _percent(s.machine["breaker_heat"])),
        Curve("processor", "W", lambda s: s.machine["cpu_w"]),
        Curve("inlet", "°C", lambda s: s.machine["inlet_c"], None),
        Curve("hottest card", "°C", _hottest_c, None),
    ]
    return curves + [Curve(f"gpu/{i}", "W", _watts_of(i)) for i in range(flight.gpus)]


def _watts_of(index: int) -> Callable[[Sample], float | None]:
    return lambda sample: sample.gpus[index]["power_w"]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _hottest_c(sample: Sample) -> float | None:
    told = [value for gpu in sample.gpus for name in ("edge_c", "junction_c") if (value := gpu[name]) is not None]
    return max(told, default=None)


def _line(curve: Curve, samples: Sequence[Sample], width: int) -> str:
    """One curve: the highest of what falls into a column; nothing where nobody told anything."""
    begin_s, end_s = samples[0].time_s, samples[-1].time_s
    per_s = (width - 1) / (end_s - begin_s) if end_s > begin_s else 0.0
    columns: list[float | None] = [None] * width
    for sample, after in itertools.zip_longest(samples, samples[1:]):
        if (value := curve.value(sample)) is None:
            continue
        until_s = sample.time_s if after is None or after.time_s - sample.time_s > IDLE_S else after.time_s
        first = int((sample.time_s - begin_s) * per_s)
        for at in range(first, max(first + 1, int((until_s - begin_s) * per_s))):
            columns[at] = value if (before := columns[at]) is None else max(before, value)
    told = [value for value in columns if value is not None]
    if not told:
        return ""
    low, high = min(told) if curve.least is None else curve.least, max(told)
    scale = (len(BARS) - 2) / (high - low) if high > low else 0.0
    bars = "".join(BARS[0 if v is None else 1 + max(0, round((v - low) * scale))] for v in columns)
    return f"{curve.label:{LABEL_COLUMNS}}{bars}  {min(told):,.4g} to {high:,.4g} {curve.unit}"


def _last_words(end: Sample) -> list[str]:
    lines = []
    for i, (state, gpu) in enumerate(zip(end.states, end.gpus, strict=True)):
        words = [
            _figure(gpu["power_w"], "W", gpu["cap_w"]),
            _figure(gpu["clock_mhz"], "MHz", gpu["clock_limit_mhz"]),
            _figure(gpu["junction_c"], "°C"),
            _figure(gpu["fan_rpm"], "rpm"),
            _figure(gpu["busy_pct"], "%"),
        ]
        lines.append(f"gpu/{i}  {state or 'unknown':9}" + "".join(f"  {word:>16}" for word in words))
    return lines


def _figure(value: float | None, unit: str, limit: float | None = None) -> str:
    of = "" if limit is None else f"/{limit:.0f}"
    return f"?{of} {unit}" if value is None else f"{value:.0f}{of} {unit}"
