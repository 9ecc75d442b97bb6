"""Imports point down: no module imports one above it, and layers/ and search/ import only torch and their folder."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import seq2seq

PACKAGE = Path(__file__).parents[1] / "seq2seq"
FLOORS = (  # from the top down; a module may import from its floor and the floors below
    {"commands", "__main__"},
    {"sharing"},
    {"training", "selfcheck", "gradients", "serving"},
    {"translator"},
    {"ensemble", "shortlist", "translation"},
    {"model_dir", "metrics"},
    {"model"},
    {"searchable"},
    {"search", "data", "loss", "plot"},
    {"text", "layers"},
    {"device", "files", "threads", "hub"},
    {"config_checks"},
    {"config"},
    {"config_keys", "version"},
)
PURE = {"layers", "search"}  # these import only torch, the standard library and their folder
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """Return the folder or file directly in the package: layers for seq2seq.layers.cells; empty for the package."""
    return module.partition(".")[2].partition(".")[0]


def floor(module: str) -> int:
    """Return the floor of a dotted name, 0 for the top; the package is below all floors, since its names are lazy."""
    room = room_of(module)
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found or not room, f"{module} has no floor yet: give {room} its place in FLOORS"
    return found[0] if room else len(FLOORS)


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file) for file in FILES}


def imports(file: Path, tree: ast.AST) -> Iterator[str]:
    """Return every module that ``tree`` imports, at any depth, with relative names resolved."""
    package = list(file.relative_to(PACKAGE.parent).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:  # from seq2seq import config, Translator imports .config and .translator
                module = f"{source}.{alias.name}"
                exported = seq2seq.EXPORTS.get(alias.name, source) if source == "seq2seq" else source
                yield module if module in MODULES else exported


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_down(file: Path) -> None:
    importer = name_of(file)
    room = room_of(importer)
    for imported in imports(file, ast.parse(file.read_bytes())):
        if room in PURE:
            folder = f"seq2seq.{room}"
            outside = imported.split(".")[0] in {"torch", *sys.stdlib_module_names}
            assert outside or f"{imported}.".startswith(f"{folder}."), f"{importer} imports {imported}"
        elif room and imported.split(".")[0] == "seq2seq":
            assert floor(imported) >= floor(importer), f"{importer} imports {imported}, which lies above it"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_the_package_is_not_imported_as_a_whole(file: Path) -> None:
    """Through the attributes of the package, a module could use modules above it."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            assert "seq2seq" not in [alias.name for alias in node.names], f"line {node.lineno}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_import_of_the_project_inside_a_function(file: Path) -> None:
    if room_of(name_of(file)) == "commands":  # commands import large packages when they run, so that --help is quick
        return
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inside = [name for name in imports(file, node) if name.split(".")[0] == "seq2seq"]
            assert not inside, f"{name_of(file)} imports {inside} inside a function, line {node.lineno}"


def test_no_cycle() -> None:
    graph = {name_of(file): set(imports(file, ast.parse(file.read_bytes()))) & MODULES for file in FILES}
    del graph["seq2seq"]  # it imports only the version until a name is used, see tests/test_package.py
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
