"""The import arrows: every module imports downwards only, and the two pure folders know nothing above themselves."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "seq2seq"
FLOORS = (  # from the roof down; a room may import its own floor and the floors below
    {"commands", "__main__"},
    {"training", "selfcheck"},
    {"translator"},
    {"model_dir", "metrics"},
    {"model"},
    {"searchable"},
    {"search", "data", "loss", "plot"},
    {"text", "layers"},
    {"config"},
)
PURE = {"layers", "search"}  # torch, the standard library and their own folder
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """layers for seq2seq.layers.cells; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def floor(module: str) -> int:
    """The floor of a dotted name, 0 the roof; the package itself lies under everything."""
    room = room_of(module)
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found or not room, f"{module} has no floor yet: give {room} its place in FLOORS"
    return found[0] if room else len(FLOORS)


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file) for file in FILES}


def imports(file: Path, tree: ast.AST) -> Iterator[str]:
    """Every module imported below ``tree``, at any depth, with relative names resolved."""
    package = list(file.relative_to(PACKAGE.parent).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:  # from seq2seq import config imports seq2seq.config
                yield f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_down(file: Path) -> None:
    importer = name_of(file)
    room = room_of(importer)
    for imported in imports(file, ast.parse(file.read_bytes())):
        if room in PURE:
            own = f"seq2seq.{room}"
            pure = imported.split(".")[0] in {"torch", *sys.stdlib_module_names} or f"{imported}.".startswith(f"{own}.")
            assert pure, f"{importer} imports {imported}, but {own} knows torch, the standard library and itself"
        elif room and imported.split(".")[0] == "seq2seq":
            assert floor(imported) >= floor(importer), f"{importer} imports {imported}, which lies above it"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_import_of_the_project_inside_a_function(file: Path) -> None:
    if room_of(name_of(file)) == "commands":  # imports where used, so that --help is quick
        return
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inside = [name for name in imports(file, node) if name.split(".")[0] == "seq2seq"]
            assert not inside, f"{name_of(file)} imports {inside} inside a function, line {node.lineno}"


def test_no_cycle() -> None:
    graph = {name_of(file): set(imports(file, ast.parse(file.read_bytes()))) & MODULES for file in FILES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
