"""A Sphinx extension for the reference: fields with their comments, plain text in docstrings, formulas as MathML.

Docstrings of this project are plain text with Google's sections. Signs that reStructuredText would read as markup, such
as the bars of |Y|, are escaped; ``literals`` and indented blocks stay.
"""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
import re
from typing import Any, TypeVar

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from write_settings import read_comments

LOG = getLogger(__name__)

# Targets that no page describes: other packages and private names. Names below seq2seq are checked.
UNKNOWN_TARGETS = [
    (r"py:.*", r"(?!seq2seq\.).*"),
    (r"py:.*", r"seq2seq\..*\._\w+"),
]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("autodoc-process-docstring", _before_napoleon, priority=100)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=900)
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("missing-reference", _find_exported)
    app.add_html_math_renderer("mathml", (_math, None), (_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _math(translator: Any, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers show without a script."""
    block = isinstance(node, nodes.math_block)
    tex = re.sub(r"\\dots(?![a-z])", r"\\ldots", node.astext())  # which latex2mathml lacks
    try:
        formula = latex2mathml.tex2mathml(tex, as_block=block)
    except MathError as error:
        LOG.warning("the formula %s cannot be written: %s", tex, error, location=node)
        raise nodes.SkipNode from None
    translator.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


# ---- references


def definition_of(target: str) -> str | None:
    """Return the name of an exported object in the module that defines it: seq2seq.Config -> seq2seq.config.Config."""
    found = pydoc.locate(target) if target.startswith("seq2seq.") else None
    name = getattr(found, "__qualname__", None)
    return f"{getattr(found, '__module__', '')}.{name}" if name else None


def _find_exported(app: Sphinx, env: Any, node: Any, contents: nodes.Element) -> nodes.Element | None:
    """Lead a reference to a name that a package exports to its definition; a type variable has no page."""
    target = node.get("reftarget", "")
    if target.startswith("seq2seq.") and isinstance(pydoc.locate(target), TypeVar):
        return contents
    definition = definition_of(target)
    if node.get("refdomain") != "py" or definition in (None, target):
        return None
    python = env.get_domain("py")
    link: nodes.Element | None = python.resolve_xref(
        env, node["refdoc"], app.builder, "obj", definition, node, contents
    )
    return link


# ---- docstrings


COLON = "\ue000"  # a colon that Napoleon must not read as the end of a type


def _before_napoleon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = escaped(lines)
    for number, line in enumerate(lines):
        before = lines[number - 1].strip() if number else ""
        if before in ("Returns:", "Yields:") or (number == 0 and what in ("property", "attribute")):
            lines[number] = line.replace(":", COLON)


def _after_napoleon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(COLON, ":") for line in lines]
    if inspect.isclass(obj):
        lines += field_lines(obj)


def escaped(lines: list[str]) -> list[str]:
    """Return the lines of a docstring with the signs of markup escaped, except in literals and code."""
    result: list[str] = []
    block: int | None = None  # the indentation of the paragraph that introduced a literal block
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        code = block is not None or line.lstrip().startswith((">>>", "..."))
        result.append(line if code else _escape_line(line))
        if block is None and line.rstrip().endswith("::"):
            block = indent
    return result


def _escape_line(line: str) -> str:
    parts = re.split(r"(``.+?``|:\w+:`[^`]+`)", line)
    return "".join(
        part if at % 2 else re.sub(r"([\\*|]|(?<=\w)_(?!\w))", r"\\\1", part) for at, part in enumerate(parts)
    )


# ---- fields


def _skip_fields(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the attributes of named tuples: ``field_lines`` describes them."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def field_lines(kind: type) -> list[str]:
    """Return a list of the fields of a data class or a named tuple, with the comments on their source lines."""
    if not (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")):
        return []
    comments = read_comments(inspect.getsource(inspect.getmodule(kind) or kind))
    lines = []
    for field, hint in inspect.get_annotations(kind).items():
        if not field.startswith("_"):
            written = getattr(hint, "__forward_arg__", hint)
            text = _escape_line(comments.get((kind.__name__, field), ""))
            lines.append(f"- ``{field}``: ``{written}``{f'. {text[:1].upper()}{text[1:]}' if text else ''}")
    return ["", "Fields:", "", *lines, ""] if lines else []
