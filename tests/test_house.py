"""The house rules that a program can check: unique names, no law numbers, short functions, plain docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).resolve().parents[1]
PACKAGE = TOP / "seq2seq"
LONG, LONGEST, MOST_LONG = 40, 60, 5  # statements of a function; how many functions may exceed the first number
UNCLEAR = {"own", "apart", "direct", "room", "seen", "told", "Made", "settle", "lower", "ended", "passed"}
UNCLEAR |= {"trg", "enc_out", "memory_bank", "alpha", "helpers", "utils", "common", "base", "misc"}
TEXT_SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".sh"}
TEXT_NAMES = {"Makefile", "run"}
LAW_NUMBER = re.compile(r"\bR[1-9][0-9]?\b")
OTHER_MEANING = re.compile("rouge", re.IGNORECASE)  # R1 and R2 of a line about ROUGE are scores

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    """A file of the package."""

    path: str
    tree: ast.Module


class Place(NamedTuple):
    """A name and where it is defined."""

    name: str
    where: str


def parse(source: str, path: str = "example.py") -> Module:
    return Module(path, ast.parse(textwrap.dedent(source)))


MODULES = [Module(str(path.relative_to(TOP)), ast.parse(path.read_bytes())) for path in sorted(PACKAGE.rglob("*.py"))]


# ---- one name, one thing


def target_names(statement: ast.stmt) -> Iterator[ast.Name | ast.Attribute]:
    """Return the names and attributes that a statement assigns to."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    else:
        return
    for target in targets:
        for node in ast.walk(target):
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
                yield node


def module_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Return the statements of a module, including those in conditions, without those of functions and classes."""
    for statement in body:
        yield statement
        if not isinstance(statement, (Function, ast.ClassDef)):
            for name in ("body", "orelse", "finalbody"):
                yield from module_statements(getattr(statement, name, []))
            for handler in getattr(statement, "handlers", []):
                yield from module_statements(handler.body)


def public_definitions(module: Module) -> Iterator[Place]:
    """Return the public classes and the constants that a module defines."""
    for statement in module_statements(module.tree.body):
        if isinstance(statement, ast.ClassDef):
            names = [statement.name]
        else:
            targets = [node.id for node in target_names(statement) if isinstance(node, ast.Name)]
            names = [name for name in targets if name.isupper() and name not in ("LOG", "LOGGER")]
        for name in names:
            if not name.startswith("_"):
                yield Place(name, f"{module.path}:{statement.lineno}")


def shared_names(modules: list[Module]) -> dict[str, list[str]]:
    """Return the names that more than one module defines, with their modules."""
    places = defaultdict(set)
    for module in modules:
        for name, where in public_definitions(module):
            places[name].add(where)
    return {name: sorted(found) for name, found in places.items() if len({p.split(":")[0] for p in found}) > 1}


def test_no_two_public_classes_or_constants_share_a_name() -> None:
    assert shared_names(MODULES) == {}


def test_a_shared_name_is_found() -> None:
    one = parse("class Step:\n    SIZE = 1\n\nif True:\n    SIZE: int = 1\n_KEPT = 1\nword = 1\nLOGGER = 1\n", "one.py")
    two = parse("SIZE, OTHER = 2, 3\n_KEPT = 2\nword = 2\nLOGGER = 2\nfrom one import Step\n", "two.py")
    assert shared_names([one, two]) == {"SIZE": ["one.py:5", "two.py:1"]}
    assert shared_names([one, parse("class Step: ...", "two.py")]) == {"Step": ["one.py:1", "two.py:1"]}


# ---- laws have names


def tracked_files() -> list[Path]:
    """Return the text files that git tracks."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git repository, so that the files of the project are not known")
    paths = [TOP / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and (path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES)]


def law_numbers(text: str, path: str = "example.py") -> list[str]:
    """Return the lines that refer to a law by a number."""
    return [
        f"{path}:{number}: {line.strip()}"
        for number, line in enumerate(text.split("\n"), start=1)
        if LAW_NUMBER.search(line) and not OTHER_MEANING.search(line)
    ]


def test_laws_have_names_not_numbers() -> None:
    files = tracked_files()
    assert {"test_house.py", "README.md", "Makefile", "run", "train.yaml"} <= {path.name for path in files}
    found = [
        line for path in files for line in law_numbers(path.read_text(encoding="utf-8"), str(path.relative_to(TOP)))
    ]
    assert found == [], "\n".join(["use the name of the law:", *found])


def test_a_law_number_is_found() -> None:
    number = "R" + "27"  # in parts, because this file is checked too
    assert law_numbers(f"a\n# ---- {number}: resume\n") == [f"example.py:2: # ---- {number}: resume"]
    assert law_numbers(f'Check("{number[:2]}", "text")') != []
    assert law_numbers(f"see {number}.") != []
    for other in (f"ROUGE-1 is {number[:2]}", "R is a letter", "R_1, PR12, R2D2, R0, R100", "an RNN of 2 layers"):
        assert law_numbers(other) == [], other


# ---- functions are short


def has_docstring(node: ast.AST) -> bool:
    return isinstance(node, (ast.Module, ast.ClassDef, Function)) and ast.get_docstring(node, clean=False) is not None


def statements(function: Function) -> int:
    """Return the statements of a body, including nested ones, without docstrings."""
    nodes = [node for statement in function.body for node in ast.walk(statement)]
    return sum(isinstance(node, ast.stmt) for node in nodes) - sum(map(has_docstring, [function, *nodes]))


def lengths(modules: list[Module]) -> dict[str, int]:
    """Return the statements of every function, including methods and nested functions."""
    return {
        f"{module.path}:{node.lineno} {node.name}": statements(node)
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, Function)
    }


def test_functions_are_short() -> None:
    found = {name: length for name, length in lengths(MODULES).items() if length > LONG}
    assert len(found) <= MOST_LONG, f"more than {MOST_LONG} functions have over {LONG} statements: {found}"
    longest = {name: length for name, length in found.items() if length > LONGEST}
    assert longest == {}, f"no function may have over {LONGEST} statements"


def test_statements_are_counted() -> None:
    source = '''
        def outer(a, b=lambda: 0):
            """Text."""
            x = 1
            if x:
                for y in a:
                    x += 1
            else:
                return 2

            def inner():
                """Text."""
                return 3

            return x
    '''
    assert lengths([parse(source)]) == {"example.py:2 outer": 8, "example.py:11 inner": 1}
    long = "def f(x):\n" + "    x += 1\n" * (LONG + 1)
    assert [length for length in lengths([parse(long)]).values() if length > LONG] == [LONG + 1]


# ---- docstrings


def riddles(module: Module) -> list[str]:
    """Return the docstrings that begin with "What"."""
    return [
        f"{module.path}:{getattr(node, 'lineno', 1)}: {(ast.get_docstring(node) or '').splitlines()[0]}"
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.Module, ast.ClassDef, Function))
        and re.match(r"\s*what\b", ast.get_docstring(node) or "", re.IGNORECASE)
    ]


def test_docstrings_begin_with_a_verb_or_name_the_thing() -> None:
    found = [line for module in MODULES for line in riddles(module)]
    assert found == [], "\n".join(["begin with a verb or name the thing:", *found])


def test_a_docstring_that_begins_with_what_is_found() -> None:
    source = '"""What this is."""\nclass A:\n    """What it is."""\n    def f(self):\n        """Whatever."""\n'
    assert riddles(parse(source)) == ["example.py:1: What this is.", "example.py:2: What it is."]


# ---- words


def defined_names(module: Module) -> Iterator[Place]:
    """Return the names of the module, its functions, classes, arguments, attributes and variables outside functions."""
    yield Place(Path(module.path).stem, module.path)
    variables = [*module_statements(module.tree.body)]
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.ClassDef, Function)):
            yield Place(node.name, f"{module.path}:{node.lineno}")
        if isinstance(node, ast.ClassDef):
            variables += module_statements(node.body)
        if isinstance(node, ast.arg):
            yield Place(node.arg, f"{module.path}:{node.lineno}")
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield Place(node.attr, f"{module.path}:{node.lineno}")
    for statement in variables:
        for node in target_names(statement):
            if isinstance(node, ast.Name):
                yield Place(node.id, f"{module.path}:{node.lineno}")


def is_unclear(name: str) -> bool:
    """Whether a name, without the underscore of a private name, is unclear."""
    word = name.lstrip("_")
    return word in UNCLEAR or (word.isupper() and word.lower() in UNCLEAR)


def unclear_names(module: Module) -> list[str]:
    """Return the definitions with an unclear name."""
    return list(dict.fromkeys(f"{where}: {name}" for name, where in defined_names(module) if is_unclear(name)))


def test_names_are_words_of_the_field() -> None:
    found = [line for module in MODULES for line in unclear_names(module)]
    assert found == [], "\n".join(["use a word of the field:", *found])


def test_an_unclear_name_is_found() -> None:
    source = """
        import base
        from misc import utils
        alpha = 1
        ROOM = 2
        class Made:
            own: int
            def _settle(self, told):
                self.passed = told.room
                seen = "x".lower()
                return lambda trg: trg
    """
    found = {line.split(": ")[1] for line in unclear_names(parse(source))}
    assert found == {"alpha", "ROOM", "Made", "own", "_settle", "told", "passed", "trg"}
    assert unclear_names(parse("", "seq2seq/utils.py")) == ["seq2seq/utils.py: utils"]
