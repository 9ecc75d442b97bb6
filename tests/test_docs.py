"""The documentation: its code blocks run, its links lead somewhere, and its generated parts are up to date.

Shell and Python blocks of the pages run in one folder with small files under the names that the pages use. Trainings are
shortened to two updates of a tiny model. A block that cannot run carries the reason in a comment directly above it:
``<!-- not run: trains for an hour -->``. A block below ``<!-- file: my_conf/data/x.yaml -->`` is the content of that file.
A block below ``<!-- added to: seq2seq/loss.py -->`` is an addition to that module and is executed among its names; one below
``<!-- new file: seq2seq/layers/x.py -->`` is a new module. A ``text`` block after a shell block is its output: every line of it must
occur in the real output, with other numbers; ``...`` stands for lines left out, and ``<!-- not compared: why -->``
exempts the block.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import gzip
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import typer
from typer.testing import CliRunner

import seq2seq
from seq2seq.commands.app import app
from seq2seq.config import Config, keys
from seq2seq.training.train import train
from seq2seq.translation import Translation

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
SHELL = ("sh", "bash", "console")
MARKS = r"(not run|not compared|file|added to|new file): ."
PLAIN_COMMANDS = ("head", "cp", "cat")  # run as they are
LINES = 40  # of each small corpus
TINY = (
    "train.max_updates=2",
    "train.valid_every=2",
    "train.log_every=1",
    "train.batch_tokens=200",
    "tokenizer.vocab_size=400",
    "model.embedding_size=8",
    "model.hidden_size=8",
    "data.valid_lines=2",
    "search.beam_size=2",
    "search.max_length_ratio=1",
    "search.max_length_extra=1",
)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int  # of the opening fence, from 1
    language: str
    text: str
    mark: str  # the comment directly above it, without its signs; else empty
    follows: int  # how many lines that are not blank and no comment lie between it and the block before

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    between, number = 1, 0
    while number < len(lines):
        if not lines[number].startswith("```"):
            between += bool(lines[number].strip()) and not lines[number].startswith("<!--")
            number += 1
            continue
        end = lines.index("```", number + 1)
        above = re.fullmatch("<!-- (.*) -->", lines[number - 1]) if number else None
        text = "\n".join(lines[number + 1 : end])
        language = lines[number].removeprefix("```").strip()
        yield Block(page, number + 1, language, text, above[1] if above else "", between)
        between, number = 0, end + 1


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def is_run(block: Block) -> bool:
    return not re.match("(not run|added to|new file): .", block.mark)


def marked(block: Block, name: str) -> str:
    """The text after ``name:`` in the mark of a block, or an empty text."""
    return block.mark.removeprefix(f"{name}: ") if block.mark.startswith(f"{name}: ") else ""


def output_of(block: Block) -> str | None:
    """The output that the page shows for a shell block, if it is to be compared."""
    later = BLOCKS[BLOCKS.index(block) + 1 :]
    if not later or later[0].page != block.page or later[0].language != "text" or later[0].follows:
        return None
    return None if re.match("not compared: .", later[0].mark) else later[0].text


# ---- the folder in which the blocks run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files under the names that the pages use, and a tiny model in runs/mine."""
    folder = tmp_path_factory.mktemp("docs")
    write_bundled(folder / "data")
    bundled = folder / "data" / "phrasebook"
    for split in ("train", "valid", "test"):
        sides = [(bundled / f"{split}.{language}").read_text(encoding="utf-8") for language in ("en", "fr")]
        for text, language in zip(sides, ("en", "fr"), strict=True):
            (folder / f"{split}.{language}").write_text(text, encoding="utf-8")
        records = [{"en": en, "fr": fr} for en, fr in zip(*map(str.splitlines, sides), strict=True)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        write_multi30k(folder / "FOLDER", {"test": "test2016"}.get(split, split), sides)
    for name, source in {
        "in.txt": "test.en",
        "baseline.txt": "test.fr",
        "mine.txt": "test.fr",
        "reports.txt": "test.en",
        "headlines.txt": "test.en",
        "test.headline": "test.en",
        "train.zh": "train.en",
        "valid.zh": "valid.en",
    }.items():
        shutil.copy(folder / source, folder / name)
    (folder / "terms.tsv").write_text("dog\tchien\nman\thomme\n", encoding="utf-8")
    (folder / "beginning.txt").write_text("un\n", encoding="utf-8")
    for block in BLOCKS:
        if name := marked(block, "file"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(block.text + "\n", encoding="utf-8")
    write_other_texts(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", sys.argv)
        files = [f"data.{split}.{side}={split}.{kind}" for split in ("train", "valid") for side, kind in SIDES]
        run_seq2seq(["train", "name=mine", "model.copy=pointer", *files])
    shutil.copytree(folder / "runs" / "mine", folder / "runs" / "new")
    return folder


SIDES = (("src", "en"), ("tgt", "fr"))


def write_bundled(data: Path) -> None:
    """The first lines of every file of the bundled corpora."""
    for path in [*(ROOT / "data").glob("phrasebook/*"), *(ROOT / "data").glob("bulletins/*")]:
        target = data / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source:
            target.write_bytes(b"".join(line for line, _ in zip(source, range(LINES), strict=False)))


def write_other_texts(folder: Path) -> None:
    """Pairs of another corpus than the phrasebook, new.en and new.fr."""
    records = [json.loads(line) for line in (folder / "data" / "bulletins" / "train.jsonl").read_bytes().splitlines()]
    for name, key in (("new.en", "report"), ("new.fr", "headline")):
        (folder / name).write_text("".join(f"{record[key]}\n" for record in records), encoding="utf-8")


def write_multi30k(folder: Path, split: str, sides: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    for text, language in zip(sides, ("en", "de"), strict=True):
        (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(text.encode()))


# ---- running blocks


def run_line(line: str) -> str:
    """Run a line of a shell block in the current folder and return what it prints."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="<>|")
    lexer.whitespace_split = True
    words = list(lexer)
    if not words:
        return ""
    given = b""
    if words[0] == "echo":
        given = " ".join(words[1 : words.index("|")]).encode() + b"\n"
        words = words[words.index("|") + 1 :]
    if words[0] == "make":  # only that the target exists: it would install and train
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        return ""
    if words[0] in PLAIN_COMMANDS:
        return subprocess.run(["bash", "-c", line], check=True, capture_output=True, text=True).stdout
    assert words[0] == "seq2seq", f"the tests cannot run this line; mark its block with <!-- not run: why -->: {line}"
    if "<" in words:
        given = Path(words[words.index("<") + 1]).read_bytes()
    printed = run_seq2seq([word for at, word in enumerate(words) if not is_redirection(words, at)][1:], given)
    if ">" in words:
        Path(words[words.index(">") + 1]).write_text(printed, encoding="utf-8")
    return printed


def is_redirection(words: list[str], at: int) -> bool:
    return words[at] in ("<", ">") or (at > 0 and words[at - 1] in ("<", ">"))


def run_seq2seq(arguments: list[str], given: bytes = b"") -> str:
    if arguments[0] in ("train", "inspect"):
        settings = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
        name = settings.get("name", settings.get("experiment", settings.get("data", "phrasebook")))
        shutil.rmtree(Path("runs") / name, ignore_errors=True)
        names_files = any(key.startswith(("data.root", "data.train")) for key in settings)
        arguments = [*arguments, *TINY, *([] if names_files else [f"data.root={Path('data').resolve()}"])]
    result = CliRunner().invoke(app, arguments, input=given)
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result.output


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in SHELL and is_run(b)], ids=str)
def test_a_shell_block_runs(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", sys.argv)  # Hydra reads and changes it
    printed = "".join(run_line(line) for line in block.text.replace("\\\n", " ").splitlines())
    if shown := output_of(block):
        found = {without_numbers(line) for line in printed.splitlines()}
        for line in shown.splitlines():
            assert line == "..." or without_numbers(line) in found, f"{block}: the output has no line like: {line}"


def without_numbers(line: str) -> str:
    return re.sub(r"\d[\d,.]*", "N", line).strip()


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python" and is_run(b)], ids=str)
def test_a_python_block_runs(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(seq2seq, "train", train_tiny, raising=False)
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", [b for b in BLOCKS if marked(b, "added to") or marked(b, "new file")], ids=str)
def test_an_addition_to_the_package_fits(block: Block) -> None:
    """It is executed among the names of its module, or alone if it is a new one, and defines something new."""
    names: dict[str, Any] = {"__name__": "addition"}
    if file := marked(block, "added to"):
        names |= vars(importlib.import_module(file.removesuffix(".py").replace("/", ".")))
    before = set(names)
    exec(compile(block.text, str(block), "exec", dont_inherit=True, flags=annotations.compiler_flag), names)
    assert set(names) - before - {"__builtins__", "annotations"}, f"{block} defines nothing that its module lacks"


def train_tiny(config: Config) -> None:
    """Train as the page does, with two updates of a tiny model."""
    config = copy.deepcopy(config)
    for setting in TINY:
        key, _, value = setting.partition("=")
        section, name = key.split(".")
        setattr(getattr(config, section), name, int(value))
    train(config)


def test_every_key_of_the_jsonl_output_is_described() -> None:
    text = (ROOT / "docs" / "translating.md").read_text(encoding="utf-8")
    keys = [field.name for field in dataclasses.fields(Translation)] + ["invalid_utf8", "beam"]
    assert [key for key in keys if not re.search(rf"^\| [^|]*`{key}`[^|]* \|", text, re.MULTILINE)] == []


def test_every_option_of_translate_is_described() -> None:
    text = (ROOT / "docs" / "translating.md").read_text(encoding="utf-8") + (ROOT / "README.md").read_text(
        encoding="utf-8"
    )
    command = typer.main.get_command(app).commands["translate"]  # type: ignore[attr-defined]
    names = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    assert names
    assert {name for name in names if not re.search(rf"{name}\b", text)} == set()


def test_blocks_have_a_known_language_and_marks_give_a_reason() -> None:
    for block in BLOCKS:
        assert block.language in (*SHELL, "python", "text", "yaml"), f"{block} has the language {block.language!r}"
        assert not block.mark or re.match(MARKS, block.mark), f"{block} has the mark {block.mark}"
        assert block.language != "yaml" or marked(block, "file"), f"{block} has no mark with the name of its file"


# ---- links and names


def headings_of(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    anchors: set[str] = set()
    for title in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = sum(re.fullmatch(re.escape(anchor) + r"(-\d+)?", other) is not None for other in anchors)
        anchors.add(f"{anchor}-{number}" if number else anchor)
    return anchors


STOPS = re.findall(
    r"^\*\*(\d+)\. \[(\w+)\]\(\.\./([^)]+)\)", (ROOT / "docs" / "road.md").read_text(), flags=re.MULTILINE
)


def test_the_road_has_fifteen_stops() -> None:
    assert [int(number) for number, _, _ in STOPS] == list(range(1, 16))
    assert len({name for _, name, _ in STOPS}) == 15


@pytest.mark.parametrize(("number", "name", "file"), STOPS)
def test_every_stop_of_the_road_names_a_definition(number: str, name: str, file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name]
    assert ast.get_docstring(found), f"{name} has no docstring"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "data" / "README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link} leads to no file"
        assert not anchor or anchor in headings_of(target), f"{page.name}: {link} leads to no heading"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "data" / "README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_named_paths_exist(page: Path) -> None:
    named = re.findall(r"`((?:seq2seq|conf|scripts|tests|docs|data)/[\w./-]*)`", page.read_text(encoding="utf-8"))
    new = {marked(block, "new file") for block in BLOCKS}
    missing = [name for name in named if "NAME" not in name and name not in new and not (ROOT / name).exists()]
    assert not missing, f"{page.name} names files that do not exist: {missing}"


def test_the_tree_of_the_readme_is_that_of_the_package() -> None:
    (tree,) = (block.text for block in BLOCKS if block.text.startswith("seq2seq/\n"))
    named = [line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ") and line[2] != " "]
    package = {path.name for path in (ROOT / "seq2seq").iterdir() if not path.name.startswith(("_", "py.typed"))}
    assert set(named) == package
    for line in tree.splitlines():
        if not line.startswith(" "):
            assert (ROOT / line.split()[0]).is_dir(), line


# ---- generated parts


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_page_of_settings_is_up_to_date() -> None:
    again = "it is out of date; run .venv/bin/python scripts/docs/write_settings.py"
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == load("write_settings").page(), again


def test_the_page_of_settings_has_every_key() -> None:
    sections = {key.rpartition(".")[0] for key in keys()}
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [key for key in keys() if key not in sections and f"| `{key}` |" not in page] == []


def test_comments_are_read_beside_and_above_a_field() -> None:
    source = "class A:\n    # above\n    # it\n    a: int = 1\n    b: str = f(\n        2,  # first\n    )  # second\n    c: int = 3\n"
    expected = {("A", "a"): "above it", ("A", "b"): "first second", ("A", "c"): ""}
    assert load("write_settings").read_comments(source) == expected


def test_the_picture_of_the_road_is_up_to_date() -> None:
    again = "it is out of date; run .venv/bin/python scripts/docs/draw_road.py"
    assert (ROOT / "docs" / "road.svg").read_text(encoding="utf-8") == load("draw_road").picture(), again


def test_the_picture_of_the_road_names_files_that_exist() -> None:
    for box in load("draw_road").BOXES:
        assert (ROOT / "seq2seq" / box.file).is_file(), box.file
