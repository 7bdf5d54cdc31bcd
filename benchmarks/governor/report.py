"""The matrix for people: a console table, a markdown table between its markers in a document, a dated proof."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

from benchmarks.governor.matrix import HIGHEST, POLICIES, Cell
from benchmarks.governor.targets import Speed, Target, targets_of
from benchmarks.governor.workloads import Workload
from tinybox.core.errors import TinyboxError

BEGIN, END = "<!-- table:governor -->", "<!-- /table -->"
TITLES = {
    "bounded": "bounded",
    "strict": "strict",
    "fixed150": "power-limit 150",
    HIGHEST: "highest fixed",
    "static": "equal static",
    "proportional": "proportional",
    "none": "no limit",
}


@dataclass(frozen=True, slots=True)
class Results:
    """All that was measured. `plants` are how many were drawn for ours and for the others."""

    cells: tuple[Cell, ...]
    speeds: tuple[Speed, ...]
    workloads: tuple[Workload, ...]
    highest_mhz: dict[str, int]
    plants: tuple[int, int]
    seeds: str
    command: str
    day: date
    took_s: float

    @property
    def boxes(self) -> tuple[str, ...]:
        """In the order given."""
        return tuple(speed.box for speed in self.speeds)

    def of(self, box: str, workload: str, policy: str) -> tuple[Cell, ...]:
        """One workload under one policy over the plants."""
        return tuple(c for c in self.cells if (c.box, c.workload, c.policy) == (box, workload, policy))

    def targets(self, box: str) -> list[Target]:
        """Rows of the target table."""
        speed = next(speed for speed in self.speeds if speed.box == box)
        return targets_of([cell for cell in self.cells if cell.box == box], speed)


def entry(cells: Sequence[Cell]) -> str:
    """Worst and median work against steady, and what went wrong, of one policy over the plants."""
    if not cells:
        return ""
    ratios = [cell.vs_steady for cell in cells]
    words = f"{min(ratios):.2f} {median(ratios):.2f}"
    if any(cell.trips for cell in cells):
        return f"{words} **trips**"
    if any(cell.promise_broken_s > 0 for cell in cells):
        words += " †"
    if any(cell.needless for cell in cells):
        words += " ‡"
    return words


def work_table(results: Results, box: str) -> list[list[str]]:
    """A line for each workload: the policies, then the details of ours."""
    names = [name for name in POLICIES if any(cell.policy == name for cell in results.cells)]
    head = ["workload", *(TITLES[name] for name in names), "of the bound", "strict of its optimum", "× highest fixed"]
    rows = [[*head, "writes/min"]]
    for work in results.workloads:
        cells = results.of(box, work.name, "bounded")
        fixed = [cell.vs_highest for cell in cells if cell.vs_highest is not None]
        strict = [cell.vs_strict for cell in results.of(box, work.name, "strict")]
        rows.append(
            [
                work.name,
                *(entry(results.of(box, work.name, name)) for name in names),
                f"{min(cell.vs_bound for cell in cells):.2f}" if cells else "",
                f"{min(strict):.2f}" if strict else "",
                f"{min(fixed):.2f}" if fixed else "",
                f"{max(cell.writes_per_min for cell in cells):.0f}" if cells else "",
            ]
        )
    return rows


def target_table(targets: Sequence[Target]) -> list[list[str]]:
    """A line for each target."""
    verdict = {True: "pass", False: "**miss**", None: ""}
    rows = [["target", "asked", "measured", "", "worst at"]]
    return rows + [[t.what, t.asked, t.measured, verdict[t.passes], t.where] for t in targets]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, the first row its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def plain(rows: Sequence[Sequence[str]]) -> str:
    """The same in columns for a terminal."""
    rows = [[text.replace("**", "") for text in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)


def machine() -> str:
    """The machine in general terms."""
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        system = platform.system()
    return f"{os.cpu_count()} cores of a {platform.machine()} machine, {system}, Python {platform.python_version()}"


def about(results: Results) -> str:
    """Where the figures come from."""
    ours, others = results.plants
    fixed = ", ".join(f"{mhz:,} MHz on {box}" for box, mhz in results.highest_mhz.items())
    return (
        f"{results.day.isoformat()}, `{results.command}`: bounded and strict on {ours} drawn plants, the others "
        f"on {others}, {results.seeds}; {machine()}; {results.took_s / 60:.0f} min. The highest fixed clock that keeps "
        f"the promises on the worst plant is {fixed}."
    )


LEGEND = (
    "Work over that of `steady`: worst and median over plants. † a promise is broken on some plant, ‡ a needless last "
    "resort. More than 1 is banked within the promise's ten seconds. The last columns are the worst of bounded, and of "
    "strict against the optimum of its own invariant."
)


def tables(results: Results, *, level: int = 3) -> str:
    """Everything as markdown."""
    parts = [about(results)]
    for box in results.boxes:
        parts.append(f"{'#' * level} Targets, `{box}`\n\n{markdown(target_table(results.targets(box)))}")
        parts.append(f"{'#' * level} Work, `{box}`\n\n{LEGEND}\n\n{markdown(work_table(results, box))}")
    return "\n\n".join(parts)


def write_between(path: Path, text: str) -> None:
    """Replace what stands between the markers of a document. Raises TinyboxError where they are not there once each."""
    try:
        before = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}", hint=f"give it a line {BEGIN} and {END}") from None
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or BEGIN in tail:
        raise TinyboxError(f"{path}: no place for the table", hint=f"give it a line {BEGIN} and one {END} after it")
    path.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}", encoding="utf-8")


def write_proof(folder: Path, results: Results) -> Path:
    """A dated document of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"governor-{results.day.isoformat()}.md"
    path.write_text(f"# The governor on drawn plants\n\n{tables(results, level=2)}\n", encoding="utf-8")
    return path


def console(results: Results) -> str:
    """For the terminal."""
    parts = [about(results).replace("`", "")]
    for box in results.boxes:
        parts += [f"Targets, {box}", plain(target_table(results.targets(box)))]
        parts += [f"Work over steady, {box}: worst and median over plants", plain(work_table(results, box))]
    return "\n\n".join(parts) + "\n"
