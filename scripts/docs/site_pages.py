"""The generated pages of the documentation site: commands with their options, reference by subject, small systems."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ROOT / "scripts" / "tutorial"
SOURCE_TO_ROOT = "../../.."  # from build/docs/source, the source folder of Sphinx


class Subject(NamedTuple):
    """A page of the reference."""

    name: str
    title: str
    text: str
    modules: tuple[str, ...]  # below seq2seq; a folder stands for all its files


REFERENCE = (
    Subject("translator", "Translator", "Translate and score from Python.", ("", "translator", "translation")),
    Subject(
        "config",
        "Settings",
        "The data classes of all settings; :doc:`/settings` lists them.",
        ("config", "config_checks", "config_keys"),
    ),
    Subject("layers", "Layers", "The layers for systems of your own, and the other parts of a model.", ("layers",)),
    Subject("fast", "Fast twins", "The same layers with hand-written backward passes.", ("layers.fast",)),
    Subject(
        "model",
        "Model",
        "The model, its loss and its directory.",
        ("model", "loss", "model_dir", "ensemble", "shortlist"),
    ),
    Subject("search", "Search", "Beam search and sampling over a step function.", ("search", "searchable")),
    Subject("data", "Data", "Files to pairs, pairs to batches.", ("data",)),
    Subject("text", "Text", "Tokenizers, tags and words.", ("text",)),
    Subject("metrics", "Metrics", "Scores, intervals and comparisons.", ("metrics",)),
    Subject("training", "Training", "From the data to the best model.", ("training",)),
    Subject("serving", "Serving", "The HTTP server; :doc:`/serving` describes its requests.", ("serving",)),
    Subject("sharing", "Sharing", "Reports, model cards, the hub and ONNX; see :doc:`/sharing`.", ("sharing",)),
    Subject(
        "tools",
        "Checks and tools",
        "Checks of a model, pictures, files, threads and devices.",
        ("selfcheck", "gradients", "plot", "files", "hub", "threads", "device"),
    ),
)
WITHOUT_REFERENCE = {"commands", "__main__", "version"}  # the pages on the commands describe them


def heading(text: str, sign: str = "=") -> str:
    """Return a heading of reStructuredText."""
    return f"{text}\n{sign * max(len(text), 3)}\n"


def plain(text: str) -> str:
    """Escape the signs that reStructuredText reads as markup."""
    return re.sub(r"([\\*|`_])", r"\\\1", text)


# ---- the chapters


def galleries() -> list[Path]:
    """Return the folders of chapters that hold at least one."""
    folders = (ROOT / "docs" / "tutorials", ROOT / "docs" / "tutorials_zh")
    return [folder for folder in folders if any(folder.glob("plot_*.py"))]


# ---- reference


def modules_of(subject: Subject) -> list[str]:
    """Return the full names of the modules of a page, in the order of the page."""
    found = []
    for module in subject.modules:
        name = f"seq2seq.{module}".rstrip(".")
        folder = ROOT / name.replace(".", "/")
        found.append(name)
        if module and folder.is_dir():
            found += [f"{name}.{file.stem}" for file in sorted(folder.glob("*.py")) if file.stem != "__init__"]
    return found


def reference_pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page of the reference."""
    table = "".join(f"- :doc:`{subject.name}`: {subject.text}\n" for subject in REFERENCE)
    names = "".join(f"   {subject.name}\n" for subject in REFERENCE)
    introduction = "The interface in Python, written from the docstrings. Links labelled *source* show the code.\n"
    yield (
        "reference/index.rst",
        f"{heading('Reference')}\n{introduction}\n{table}\n.. toctree::\n   :hidden:\n\n{names}",
    )
    for subject in REFERENCE:
        lines = [heading(subject.title), subject.text, ""]
        for module in modules_of(subject):
            lines += [heading(f"``{module}``", "-"), f".. automodule:: {module}", "   :ignore-module-all:", ""]
            lines += exported(module)
        yield f"reference/{subject.name}.rst", "\n".join(lines)


def exported(module: str) -> list[str]:
    """Return the line on the names that a package exports from its modules."""
    package = importlib.import_module(module)
    names = [name for name in getattr(package, "__all__", ()) if not name.startswith("_")]
    places = {name: getattr(package, name).__module__ for name in names}
    links = [f":py:obj:`{name} <{place}.{name}>`" for name, place in places.items() if place != module]
    return [f"Names of this package: {', '.join(links)}.", ""] if links else []


# ---- commands


def command_pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page on a command, from the parsers of the arguments."""
    import typer

    from seq2seq.commands.app import app
    from seq2seq.commands.train import FLAGS

    group = typer.main.get_command(app)
    context = group.context_class(group, info_name="seq2seq")
    names = list(group.commands)  # type: ignore[attr-defined]
    lines = [heading("Commands"), "``seq2seq COMMAND --help`` prints the same.", ""]
    lines += [f"- :doc:`{name}`: {plain(_first_line(group.commands[name].help))}" for name in names]  # type: ignore[attr-defined]
    yield (
        "commands/index.rst",
        "\n".join([*lines, "", ".. toctree::", "   :hidden:", "", *(f"   {n}" for n in names), ""]),
    )
    for name in names:
        command = group.commands[name]  # type: ignore[attr-defined]
        inner = command.context_class(command, info_name=name, parent=context)
        lines = [heading(f"seq2seq {name}"), *map(plain, (command.help or "").splitlines()), ""]
        lines += [".. code-block:: text", "", f"   {_usage(command, inner)}", "", f".. program:: seq2seq {name}", ""]
        if name == "train":
            lines += [
                "Settings are given as ``KEY=VALUE``; :doc:`/settings` lists them. The flags are those of Hydra:",
                "",
            ]
            lines += [f"- ``{flag}``{_choices(flag.choices)}" for flag in FLAGS]
        for parameter in command.params:
            lines += _parameter(parameter, inner)
        yield f"commands/{name}.rst", "\n".join([*lines, ""])


def _first_line(text: str | None) -> str:
    return (text or "").split("\n")[0]


def _usage(command: object, context: object) -> str:
    usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")  # type: ignore[attr-defined]
    return usage.replace("{", "").replace("}...", "").replace("[[", "[").replace("]]", "]")


def _choices(choices: tuple[str, ...]) -> str:
    return f": {', '.join(choices)}" if choices else ""


METAVARS = {
    "<list[str]>": "TEXT",
    "<list[float]>": "X",
    "<str>": "TEXT",
    "<int>": "N",
    "<int range>": "N",
    "<float>": "X",
    "<float range>": "X",
    "<path>": "PATH",
}


def _parameter(parameter: object, context: object) -> list[str]:
    """Return the lines on an argument or an option."""
    record = parameter.get_help_record(context)  # type: ignore[attr-defined]
    if record is None:  # hidden
        return []
    names, text = record
    if parameter.param_type_name == "argument":  # type: ignore[attr-defined]
        return ["", f"``{names.split(' <')[0]}``", f"   {plain(text)}", ""]
    for typer_name, metavar in METAVARS.items():
        names = names.replace(typer_name, metavar)
    return ["", f".. option:: {names.replace(' / ', ', ')}", "", f"   {plain(text)}", ""]


# ---- small systems


def systems_page() -> str | None:
    """Return the page that shows the small systems of scripts/tutorial, or None if there are none."""
    files = sorted(SYSTEMS.glob("*.py"))
    if not files:
        return None
    scripts = [file for file in files if "__main__" in file.read_text(encoding="utf-8")]
    lines = [
        heading("Small systems"),
        "Each of these scripts trains a small system that is made of ``seq2seq.layers``.",
        "",
    ]
    for file in [*scripts, *(file for file in files if file not in scripts)]:
        relative = file.relative_to(ROOT)
        docstring = (ast.get_docstring(ast.parse(file.read_bytes())) or file.stem).split("\n\n")[0]
        lines += [heading(f"``{file.name}``", "-"), plain(" ".join(docstring.split())), ""]
        if file in scripts:
            lines += [".. code-block:: sh", "", f"   .venv/bin/python {relative} --help", ""]
        lines += [
            f".. literalinclude:: {SOURCE_TO_ROOT}/{relative}",
            "   :language: python",
            f"   :caption: {relative}",
            "",
        ]
    return "\n".join(lines)
