"""The tutorial chapters are Python, have the header of a gallery page, and use only the public interface.

The build of the documentation runs them; here they are only read.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
ENGLISH = sorted((DOCS / "tutorials").glob("plot_*.py"))
CHAPTERS = [*ENGLISH, *sorted((DOCS / "tutorials_zh").glob("plot_*.py"))]
NAMES = [f"{path.parent.name}/{path.stem}" for path in CHAPTERS]


def code_of(path: Path) -> str:
    """Return the code of a chapter without comments and without texts, which translations may change."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = tree.body[1:]  # the header
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            node.value = ""
    return ast.unparse(tree)


def test_there_are_ten_chapters_in_order() -> None:
    assert [path.stem[:8] for path in ENGLISH] == [f"plot_{number:02}_" for number in range(1, 11)]


@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_a_chapter_has_a_header_and_blocks(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    compile(source, path.name, "exec")
    number = int(path.stem[5:7])
    _, title, line, *text = (ast.get_docstring(tree, clean=False) or "").split("\n")
    assert title.startswith(f"{number}. ")
    assert set(line) == {"="}
    assert len(line) >= len(title)
    assert len(" ".join(text)) > 100
    assert source.count("\n# %%\n") >= 3
    assert "plt.subplots" in source
    assert ".set(xlabel=" in source or "xlabel=" in source


@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_a_chapter_uses_the_public_interface(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.module
            parts = [*node.module.split("."), *(name.name for name in node.names)]
            assert parts[0] in ("matplotlib", "torch", "seq2seq")
            assert not any(part.startswith("_") for part in parts)
        if isinstance(node, ast.Attribute):
            assert not re.match("_[a-z]", node.attr)


@pytest.mark.parametrize("path", [path for path in CHAPTERS if path not in ENGLISH], ids=lambda path: path.stem)
def test_a_translation_has_the_same_code(path: Path) -> None:
    assert code_of(path) == code_of(DOCS / "tutorials" / path.name)
