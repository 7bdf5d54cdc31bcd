"""The tables of docs/health.md."""

import re
from pathlib import Path

from tests.matrix.run import Row
from tinybox.core.snapshot import Severity
from tinybox.policy.checks.registry import CHECKS

PAGE = Path(__file__).parent.parent.parent / "docs/health.md"
LETTERS = {Severity.WARNING: "W", Severity.CRITICAL: "C"}


def checks_table() -> str:
    """One row for each check."""
    rows = ["| check | reads | limit | from | what to do |", "| --- | --- | --- | --- | --- |"]
    for check in CHECKS:
        lasts = f", for {check.after_s:g} s" if check.after_s > 3 and " for " not in check.limit else ""
        name = f"`{check.id}` {LETTERS[check.severity]}"
        rows.append(f"| {name} | {check.reads} | {check.limit}{lasts} | {check.source} | {check.advice} |")
    return "\n".join(rows)


HEAD = ["| fault | load | raises | after | how |", "| --- | --- | --- | --- | --- |"]


def fault_line(row: Row) -> str:
    """One fault's row."""
    told = sorted(row.seen_s, key=lambda check: (row.seen_s[check], check))
    raised = " ".join(f"`{check}`" for check in told) or "nothing: burn-in or nobody sees it"
    after = f"{max(row.seen_s.values()):.0f} s" if row.seen_s else ""
    load = f"{row.kind.load_pct:.0f} %" if row.kind.load_pct else "idle"
    return f"| `{row.fault_id}` {row.kind.words} | {load} | {raised} | {after} | {row.how} |"


def known_lines() -> dict[str, str]:
    """The rows that the document has, by the fault's id."""
    lines = (line for line in part("faults").splitlines() if line.startswith("| `"))
    return {line.split("`")[1]: line for line in lines}


def part(name: str) -> str:
    """What stands between the marks in the document."""
    match = re.search(f"<!-- {name} -->\n(.*?)<!-- /{name} -->", PAGE.read_text(), re.DOTALL)
    if match is None:
        raise ValueError(f"{PAGE} has no marks for '{name}'")
    return match[1].strip()


def put(name: str, text: str) -> None:
    """Put it there."""
    page = PAGE.read_text()
    head, mark, rest = page.partition(f"<!-- {name} -->\n")
    _, end, tail = rest.partition(f"<!-- /{name} -->")
    PAGE.write_text(f"{head}{mark}\n{text}\n\n{end}{tail}")
