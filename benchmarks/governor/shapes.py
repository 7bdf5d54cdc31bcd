"""Rows of a trace by the shape of the work. Times have three decimal places; everything random comes from `source`."""

import math
from collections.abc import Iterable, Sequence
from random import Random

from tinybox.replay.trace import Row

GPUS = 6
LENGTH_S = 60.0
KINDS = ("train", "prefill", "decode", "mixed")


def row(time_s: float, gpu: int, kind: str, load: float, duration_s: float) -> Row:
    """A row to the millisecond."""
    return Row(round(time_s, 3), gpu, kind, load, round(duration_s, 3))


def sorted_rows(rows: Iterable[Row], length_s: float = LENGTH_S) -> list[Row]:
    """In order of time, what goes beyond the end cut off."""
    kept = [row(r.time_s, r.gpu, r.kind, r.load, min(r.duration_s, length_s - r.time_s)) for r in rows]
    return sorted((r for r in kept if r.duration_s >= 0.001), key=lambda r: (r.time_s, r.gpu))


def steps(
    gpus: Sequence[int], step_s: float, *, from_s: float = 0.0, to_s: float = LENGTH_S, kind: str = "train"
) -> list[Row]:
    """Full load in steps back to back: one synchronous job if the kind is `train`."""
    count = round((to_s - from_s) / step_s)
    return [row(from_s + i * step_s, gpu, kind, 1.0, step_s) for i in range(count) for gpu in gpus]


def requests(source: Random, gpus: Sequence[int], least_s: float, most_s: float, kind: str) -> list[Row]:
    """Requests back to back on each card, independent of the others."""
    rows = []
    for gpu in gpus:
        at_s = 0.0
        while at_s < LENGTH_S - 0.001:
            lasts_s = round(source.uniform(least_s, most_s), 3)
            rows.append(row(at_s, gpu, kind, 1.0, lasts_s))
            at_s = round(at_s + lasts_s, 3)
    return sorted_rows(rows)


def layers(stage_s: float, *, kind: str = "decode") -> list[Row]:
    """A model split by layers: one card at a time, each waits for the one before."""
    count = math.floor(LENGTH_S / stage_s)
    return [Row(0.0, i % GPUS, kind, 1.0, stage_s, f"{i}", f"{i - 1}" if i else "") for i in range(count)]


def square(period_s: float, *, length_s: float = LENGTH_S, kind: str = "train") -> list[Row]:
    """All cards full for half of the period, idle for the other."""
    count = math.ceil(length_s / period_s)
    rows = [row(i * period_s, gpu, kind, 1.0, period_s / 2) for i in range(count) for gpu in range(GPUS)]
    return sorted_rows(rows, length_s)


def swing(compute_s: float, talk_s: float) -> list[Row]:
    """Synchronous training: all compute, then all exchange gradients at little power."""
    rows = []
    for i in range(math.ceil(LENGTH_S / (compute_s + talk_s))):
        at_s = i * (compute_s + talk_s)
        rows += [row(at_s, gpu, "train", 1.0, compute_s) for gpu in range(GPUS)]
        rows += [row(at_s + compute_s, gpu, "mixed", 0.15, talk_s) for gpu in range(GPUS)]
    return sorted_rows(rows)


def on_off(source: Random, least_s: float, most_s: float, *, loads: tuple[float, float] = (1.0, 1.0)) -> list[Row]:
    """Each card by itself: on for a while at some kind of work, then off for a while."""
    rows = []
    for gpu in range(GPUS):
        at_s = round(source.uniform(0, most_s), 3)
        while at_s < LENGTH_S - 0.001:
            lasts_s = round(source.uniform(least_s, most_s), 3)
            load = round(source.uniform(*loads), 2)
            rows.append(row(at_s, gpu, source.choice(KINDS), load, lasts_s))
            at_s = round(at_s + lasts_s + source.uniform(least_s, most_s), 3)
    return sorted_rows(rows)


def partial(source: Random) -> list[Row]:
    """Every card always at some kind of work, asked for a fifth to four fifths of its speed."""
    rows = []
    for gpu in range(GPUS):
        at_s = 0.0
        while at_s < LENGTH_S - 0.001:
            lasts_s = round(source.uniform(2, 8), 3)
            rows.append(row(at_s, gpu, source.choice(KINDS), round(source.uniform(0.2, 0.8), 2), lasts_s))
            at_s = round(at_s + lasts_s, 3)
    return sorted_rows(rows)


def poisson(source: Random, rate_hz: float, *, wave_s: float | None = None) -> list[float]:
    """Arrivals at random; with `wave_s` the rate swings between none and twice as many."""
    times, at_s = [], 0.0
    while (at_s := at_s + source.expovariate(2 * rate_hz)) < LENGTH_S:
        share = 0.5 if wave_s is None else (1 - math.cos(2 * math.pi * at_s / wave_s)) / 2
        if source.random() < share:
            times.append(at_s)
    return times


def bursts(source: Random, every_s: float, size: tuple[int, int]) -> list[float]:
    """Silence, then several requests within half a second."""
    times, at_s = [], 0.0
    while (at_s := at_s + source.expovariate(1 / every_s)) < LENGTH_S:
        times += [at_s + source.uniform(0, 0.5) for _ in range(source.randint(*size))]
    return sorted(times)


def served(source: Random, arrivals: Sequence[float]) -> list[Row]:
    """Requests on the card that is free first: 0.3 to 2 s of prefill, then 2 to 10 s of decode."""
    free_s, rows = [0.0] * GPUS, []
    for arrival_s in arrivals:
        gpu = min(range(GPUS), key=lambda i: (free_s[i], i))
        start_s = round(max(arrival_s, free_s[gpu]), 3)
        prefill_s, decode_s = round(source.uniform(0.3, 2), 3), round(source.uniform(2, 10), 3)
        free_s[gpu] = round(start_s + prefill_s + decode_s, 3)
        if start_s < LENGTH_S:
            rows.append(row(start_s, gpu, "prefill", 1.0, prefill_s))
            rows.append(row(start_s + prefill_s, gpu, "decode", 1.0, decode_s))
    return sorted_rows(row for row in rows if row.time_s < LENGTH_S)
