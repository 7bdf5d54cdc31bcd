"""The tables of docs/health.md, printed, or written into it: every check, and every kind of fault of any box."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import start_twin
from tests.matrix.live import shown
from tests.matrix.page import HEAD, checks_table, fault_line, known_lines, put
from tests.matrix.run import Row, is_live_only, replayed
from tinybox.core.box import load_box
from tinybox.twin.faults.kinds import FaultKind
from tinybox.twin.faults.known import known_faults

BOXES = ("red", "blue", "green")  # a kind of fault is tried on the first that has it


def every_kind() -> Iterator[tuple[str, FaultKind]]:
    """Each kind of fault with the box that shows it."""
    known: set[str] = set()
    for box in BOXES:
        for kind in known_faults(load_box(box)):
            if kind.id not in known:
                yield box, kind
            known.add(kind.id)


def rows(kinds: list[tuple[str, FaultKind]]) -> dict[str, Row]:
    """Each fault by its id."""
    found: dict[str, Row] = {}
    for box, kind in kinds:
        if not is_live_only(box, kind):
            found[kind.id] = _told(replayed(box, kind))
    for box in BOXES:
        if live := [kind for one, kind in kinds if one == box and is_live_only(box, kind)]:
            found |= _live(box, live)
    return found


def _live(box: str, kinds: list[FaultKind]) -> dict[str, Row]:
    with tempfile.TemporaryDirectory() as folder:
        rig = start_twin(Path(folder) / "twin", box=box)
        try:
            return {kind.id: _told(shown(rig, kind)) for kind in kinds}
        finally:
            rig.end_daemons()
            rig.run("twin", "down")


def _told(row: Row) -> Row:
    verdict = "fine"
    if row.missing or row.other:
        verdict = f"missing {sorted(row.missing)}, other {row.other_evidence}"
    sys.stderr.write(f"{row.fault_id}: {verdict}\n")
    return row


def main() -> int:
    """Exit 1 where a fault does not raise what it should, or raises something else."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/health.md")
    parser.add_argument("--checks", action="store_true", help="the table of checks alone: no fault is tried")
    parser.add_argument("--missing", action="store_true", help="only the faults that the document has no row for")
    asked = parser.parse_args()
    if asked.write:
        put("checks", checks_table())
    sys.stdout.write(checks_table() + "\n")
    if asked.checks:
        return 0
    kinds = list(every_kind())
    lines = known_lines() if asked.missing else {}
    found = rows([(box, kind) for box, kind in kinds if kind.id not in lines])
    lines |= {fault_id: fault_line(row) for fault_id, row in found.items()}
    table = "\n".join([*HEAD, *(lines[kind.id] for _, kind in kinds)])
    sys.stdout.write("\n" + table + "\n")
    if asked.write:
        put("faults", table)
    return int(any(row.missing or row.other for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
