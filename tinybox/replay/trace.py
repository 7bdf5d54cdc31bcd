"""What cards are asked to do over time: a CSV of rows, checked whole before anything runs.

A row asks one GPU for a share of its uncapped speed from `time_s` for `duration_s`; work is full-speed GPU-seconds.
`train` rows of equal time and duration on several GPUs are one synchronous job. Rows that name another (`after`) or
are named are tasks: they run when their turn comes, until their work is done.
"""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from tinybox.core.errors import TinyboxError

KINDS = ("train", "prefill", "decode", "mixed")
NEEDED = ("time_s", "gpu", "kind", "load_pct", "duration_s")
OPTIONAL = ("id", "after")
OVERLAP_S = 0.001  # times have three decimal places: so much may be rounding
ROUNDING_S = 1e-9
Where = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Row:
    """`gpu` is asked for `load` (0 to 1 of its uncapped speed) from `time_s` for `duration_s`."""

    time_s: float
    gpu: int
    kind: str
    load: float
    duration_s: float
    id: str = ""
    after: str = ""

    @property
    def end_s(self) -> float:
        """Where the row ends, if it starts when it may."""
        return self.time_s + self.duration_s

    @property
    def work_s(self) -> float:
        """What the row asks for, in full-speed GPU-seconds."""
        return self.load * self.duration_s


@dataclass(frozen=True, slots=True)
class Trace:
    """Checked rows in order of time. Rows are referred to by their index.

    `groups` are the synchronous jobs; `after[i]` is the row that row i waits for (-1: none); `is_task[i]` says that
    it waits or is waited for. `end_s` is the latest end if every row ran as asked from its earliest start.
    """

    rows: tuple[Row, ...]
    groups: tuple[tuple[int, ...], ...]
    after: tuple[int, ...]
    is_task: tuple[bool, ...]
    end_s: float

    @classmethod
    def of(cls, rows: Iterable[Row], *, gpus: int = 6) -> "Trace":
        """A trace made in memory. Raises TinyboxError as `read_trace` does, naming rows in place of lines."""
        rows = tuple(rows)
        for i, row in enumerate(rows):
            _check_row(row, gpus, lambda i=i: f"trace: row {i + 1}")  # type: ignore[misc]
        return _trace(rows, "trace", lambda i: f"trace: row {i + 1}")

    def __deepcopy__(self, memo: object) -> "Trace":
        return self  # nothing in it changes, and a copied plant may well be asked by the same trace

    @property
    def work_s(self) -> float:
        """All that is asked for, in full-speed GPU-seconds."""
        return math.fsum(row.work_s for row in self.rows)


def read_trace(path: Path, *, gpus: int = 6) -> Trace:
    """Read a trace for a box of `gpus` cards. Raises TinyboxError naming the file, the line and what to do."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines, rows = _read(file, str(path), gpus)
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}", hint="give a trace that can be read") from None
    except UnicodeDecodeError as error:
        raise TinyboxError(f"{path}: not UTF-8 ({error.reason})", hint="save the trace as UTF-8 text") from None
    return _trace(rows, str(path), lambda i: f"{path}: line {lines[i]}")


def _read(file: TextIO, path: str, gpus: int) -> tuple[list[int], tuple[Row, ...]]:
    """Lines and rows, each row checked by itself."""
    reader = csv.reader(file, strict=True)
    lines: list[int] = []
    rows: list[Row] = []

    def where() -> str:
        return f"{path}: line {reader.line_num}"

    try:
        header = next((fields for fields in reader if fields), None)
        if header is None:
            raise TinyboxError(f"{path}: the file is empty", hint=f"the first line is {','.join(NEEDED)}")
        names = _columns(header, where())
        order = [names.index(name) if name in names else -1 for name in NEEDED + OPTIONAL]
        for fields in reader:
            if fields:
                row = _row(fields, order, len(names), where)
                _check_row(row, gpus, where)
                lines.append(reader.line_num)
                rows.append(row)
    except csv.Error as error:
        raise TinyboxError(f"{where()}: not CSV: {error}", hint="mend that line") from None
    return lines, tuple(rows)


def _columns(header: list[str], where: str) -> list[str]:
    names = [name.strip() for name in header]
    hint = f"columns are {', '.join(NEEDED)} and, if wanted, {', '.join(OPTIONAL)}"
    for name in names:
        if name not in NEEDED + OPTIONAL:
            raise TinyboxError(f"{where}: unknown column '{name}'", hint=hint)
        if names.count(name) > 1:
            raise TinyboxError(f"{where}: column '{name}' is there twice", hint="remove one of them")
    if missing := [name for name in NEEDED if name not in names]:
        raise TinyboxError(f"{where}: column '{missing[0]}' is missing", hint=hint)
    if "after" in names and "id" not in names:
        raise TinyboxError(f"{where}: column 'after' names rows, but column 'id' is missing", hint="add 'id'")
    return names


def _row(fields: list[str], order: list[int], count: int, where: Callable[[], str]) -> Row:
    if len(fields) != count:
        raise TinyboxError(f"{where()}: {len(fields)} fields, but {count} columns", hint="give every column one field")
    texts = [fields[i].strip() if i >= 0 else "" for i in order]
    try:
        time_s, load_pct, duration_s = float(texts[0]), float(texts[3]), float(texts[4])
        gpu = int(texts[1])
    except ValueError:
        name, text = _culprit(texts)
        raise TinyboxError(f"{where()}: {name} is '{text}'", hint="give a plain number") from None
    return Row(time_s, gpu, texts[2], load_pct / 100, duration_s, texts[5], texts[6])


def _culprit(texts: list[str]) -> tuple[str, str]:
    """Which field is no number."""
    for i, kind in ((0, float), (1, int), (3, float), (4, float)):
        try:
            kind(texts[i])
        except ValueError:
            return NEEDED[i], texts[i]
    raise AssertionError("every field is a number")


def _check_row(row: Row, gpus: int, where: Callable[[], str]) -> None:
    """What is wrong with a row whatever the others say."""
    if (
        0 <= row.gpu < gpus
        and row.kind in KINDS
        and 0 < row.load <= 1
        and 0 <= row.time_s < math.inf
        and OVERLAP_S <= row.duration_s < math.inf
    ):
        return
    if not 0 <= row.gpu < gpus:
        raise TinyboxError(f"{where()}: gpu is {row.gpu}", hint=f"the box has GPUs 0 to {gpus - 1}")
    if row.kind not in KINDS:
        raise TinyboxError(f"{where()}: kind is '{row.kind}'", hint=f"kinds are {', '.join(KINDS)}")
    if not 0 < row.load <= 1:
        raise TinyboxError(f"{where()}: load_pct is {row.load * 100:g}", hint="give more than 0 and at most 100")
    if not 0 <= row.time_s < math.inf:
        raise TinyboxError(f"{where()}: time_s is {row.time_s:g}", hint="give seconds from the start, 0 or more")
    raise TinyboxError(f"{where()}: duration_s is {row.duration_s:g}", hint="give seconds, 0.001 or more")


def _trace(rows: tuple[Row, ...], name: str, where: Where) -> Trace:
    """All that rows mean together."""
    if not rows:
        raise TinyboxError(f"{name}: no rows", hint="give at least one row below the header")
    for i in range(1, len(rows)):
        if rows[i].time_s < rows[i - 1].time_s:
            message = f"{where(i)}: time_s {rows[i].time_s:g} comes after {rows[i - 1].time_s:g}"
            raise TinyboxError(message, hint="sort the rows by time_s")
    after = _after(rows, where)
    is_task = [one >= 0 for one in after]
    for one in after:
        if one >= 0:
            is_task[one] = True
    groups = _groups(rows, is_task)
    rows = _trimmed(rows, is_task, groups, where)
    end_s = max(start_s + row.duration_s for start_s, row in zip(_starts(rows, after), rows, strict=True))
    return Trace(rows, groups, after, tuple(is_task), end_s)


def _after(rows: Sequence[Row], where: Where) -> tuple[int, ...]:
    """The index of the row each row waits for. Only earlier rows can be named: no cycle can be written."""
    known: dict[str, int] = {}
    after: list[int] = []
    for i, row in enumerate(rows):
        if row.after and row.after not in known:
            later = any(one.id == row.after for one in rows[i:])
            fault = "itself or a later row" if later else "a row that is not there"
            raise TinyboxError(f"{where(i)}: after '{row.after}' names {fault}", hint="name the id of an earlier row")
        after.append(known[row.after] if row.after else -1)
        if row.id in known:
            raise TinyboxError(f"{where(i)}: id '{row.id}' is there twice", hint="give every row an id of its own")
        if row.id:
            known[row.id] = i
    return tuple(after)


def _groups(rows: Sequence[Row], is_task: Sequence[bool]) -> tuple[tuple[int, ...], ...]:
    """`train` rows of equal time and duration; a task has a time of its own and is in no group."""
    found: dict[tuple[float, float], list[int]] = {}
    for i, row in enumerate(rows):
        if row.kind == "train" and not is_task[i]:
            found.setdefault((row.time_s, row.duration_s), []).append(i)
    return tuple(tuple(members) for members in found.values() if len(members) > 1)


def _trimmed(
    rows: tuple[Row, ...], is_task: Sequence[bool], groups: tuple[tuple[int, ...], ...], where: Where
) -> tuple[Row, ...]:
    """Rows of one GPU cut where the next one starts; a synchronous job as a whole."""
    last: dict[int, int] = {}
    cut: dict[int, float] = {}
    for i, row in enumerate(rows):
        if is_task[i]:
            continue
        before = last.get(row.gpu)
        if before is not None and (overlap_s := min(rows[before].end_s, row.end_s) - row.time_s) > ROUNDING_S:
            if overlap_s > OVERLAP_S + ROUNDING_S:
                message = f"{where(i)}: gpu {row.gpu} is asked from {row.time_s:g} s while its last row lasts"
                raise TinyboxError(f"{message} another {overlap_s:.3f} s", hint="rows of one GPU may not overlap")
            if row.end_s < rows[before].end_s:
                cut[i] = 0.0
                continue
            cut[before] = row.time_s - rows[before].time_s
        last[row.gpu] = i
    if not cut:
        return rows
    for members in groups:
        if any(i in cut for i in members):
            shortest_s = min(cut.get(i, rows[i].duration_s) for i in members)
            cut.update(dict.fromkeys(members, shortest_s))
    return tuple(replace(row, duration_s=cut[i]) if i in cut else row for i, row in enumerate(rows))


def _starts(rows: Sequence[Row], after: Sequence[int]) -> list[float]:
    starts: list[float] = []
    for row, before in zip(rows, after, strict=True):
        free_s = starts[before] + rows[before].duration_s if before >= 0 else 0.0
        starts.append(max(row.time_s, free_s))
    return starts


def earliest_starts(trace: Trace) -> list[float]:
    """When each row starts if all run as asked, each as if alone."""
    return _starts(trace.rows, trace.after)


def tasks_after(trace: Trace) -> dict[int, tuple[int, ...]]:
    """Which rows wait for a row, by its index."""
    found: dict[int, list[int]] = {}
    for i, before in enumerate(trace.after):
        if before >= 0:
            found.setdefault(before, []).append(i)
    return {before: tuple(rows) for before, rows in found.items()}
