"""docs/faults.md names tests that exist, and every row of its tables names one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_docs_laws import functions

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
TABLE = re.compile(r"^\| (?!kind of fault|---)(.*) \|$", re.MULTILINE)
ROWS = [tuple(row.split(" | ")) for row in TABLE.findall(PAGE.partition("\n## The drill\n")[0])]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_fault_names_tests_that_exist(row: tuple[str, ...]) -> None:
    assert len(row) == 4, "kind of fault, before, now, tests"
    assert all(row)
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[3])
    assert named
    for path, name in named:
        assert name in functions(ROOT / path), f"docs/faults.md names {path}::{name}, which does not exist"


def test_no_fault_is_lost_by_its_form() -> None:
    assert len(ROWS) == PAGE.count("\n| ") - 2 * PAGE.count("\n| --- |") - drill_lines()
    assert len({row[0] for row in ROWS}) == len(ROWS)


def drill_lines() -> int:
    """Count the rows of the table of the drill."""
    drill = PAGE.partition("\n## The drill\n")[2]
    return drill.count("\n| ") - 2 * drill.count("\n| --- |")
