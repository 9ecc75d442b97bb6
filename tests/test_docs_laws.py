"""docs/laws.md names tests that exist, and every law that selfcheck prints."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from seq2seq.selfcheck import CHECKS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "laws.md").read_text(encoding="utf-8")
SECTIONS = {part.split("\n")[0]: part for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]}
NAMED = sorted(set(re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", PAGE)))


def functions(path: Path) -> set[str]:
    """Return the names of the functions of a file."""
    return {node.name for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_named_test_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file(), f"docs/laws.md names {path}, which does not exist"
    assert name in functions(ROOT / path), f"docs/laws.md names {path}::{name}, which does not exist"


@pytest.mark.parametrize("law", SECTIONS)
def test_every_law_has_a_source_tests_and_says_whether_selfcheck_runs_it(law: str) -> None:
    section = SECTIONS[law]
    assert re.search(r"^- Source: \S", section, re.MULTILINE)
    assert re.search(r"^- selfcheck: (yes|no)\b", section, re.MULTILINE)
    assert re.search(r"^- Tests: `tests/", section, re.MULTILINE)


def test_the_page_marks_exactly_the_laws_of_selfcheck() -> None:
    marked = {law for law, section in SECTIONS.items() if "\n- selfcheck: yes" in section}
    assert marked == {law for law, _ in CHECKS}
