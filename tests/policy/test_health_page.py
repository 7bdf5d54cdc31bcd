"""docs/health.md says what the code does."""

import re

from tests.matrix.__main__ import every_kind
from tests.matrix.page import checks_table, known_lines, part


def test_the_documents_table_of_checks_is_that_of_the_code() -> None:
    assert part("checks") == checks_table(), "run 'python -m tests.matrix --write'"


def test_the_documents_matrix_has_every_kind_of_fault_with_its_checks() -> None:
    lines = known_lines()
    written = {fault: set(re.findall(r"`([^`]+)`", line.split("|")[3])) for fault, line in lines.items()}
    wanted = {kind.id: set(kind.checks) for _, kind in every_kind()}
    assert written == wanted, "run 'python -m tests.matrix --missing --write'"
