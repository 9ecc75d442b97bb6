"""Write docs/settings.md, the page of all settings, from seq2seq/config.py and the files under conf/.

python scripts/docs/write_settings.py

The key, type, default and range of a setting come from the dataclasses; its description is the comment on its source
line. tests/test_docs.py checks that the committed page equals what this script writes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import tokenize
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seq2seq import config
from seq2seq.config import Config

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "settings.md"
GROUPS = {
    "data": "a corpus",
    "model": "a size or kind of model",
    "experiment": "a whole recipe: corpus, model and training",
}
TITLES = {
    "": "Run",
    "data": "Data",
    "tokenizer": "Tokenizer",
    "model": "Model",
    "loss": "Loss",
    "train": "Training",
    "search": "Search",
}
INTRODUCTION = """\
# Settings

<!-- Written by scripts/docs/write_settings.py from seq2seq/config.py and conf/. Do not edit this page. -->

Every setting of a training run, with its default and its range. `seq2seq train` takes settings as `KEY=VALUE`:

```sh
seq2seq train model.cell=gru model.encoder_layers=2 model.residual=true model.attention=general
seq2seq train tokenizer.type=bpe tokenizer.dropout=0.1     # a new segmentation of the text in each epoch
seq2seq train tokenizer.nbest=16     # likewise with tokenizer.type=unigram
seq2seq train train.seed=1,2 --multirun     # a sweep: one run for each value, and a table of their scores
seq2seq train train.profile=true     # report at the end how the time of an update was spent
seq2seq train train.precision=bf16     # matrix products in half precision; fp16 requires a GPU
seq2seq train --cfg job experiment=bulletins train.seed=2     # print the whole configuration and stop
```

- A list of files is written `[a,b]`, an empty value `null`.
- `seq2seq train --help` prints all keys with the values of the bundled task.
- A key or a value that does not exist is an error that names the nearest key or the possible values. A setting that
  cannot have an effect together with the others is an error too.
- The settings of a run are saved in `RUN/config.yaml`; those of a model, with its search, in `MODEL/config.json`.
- `translate`, `evaluate` and `score` take their own flags instead: `seq2seq translate --help` lists them.
"""


def page() -> str:
    """The whole page."""
    comments = read_comments(inspect.getsource(config))
    return "\n".join([INTRODUCTION, *_groups(), *_section(Config, "", comments)]).rstrip() + "\n"


def read_comments(source: str) -> dict[tuple[str, str], str]:
    """The comment of every field of every class, by the names of the class and the field.

    The comment stands on the lines of the field or, if there is none, on lines of its own directly above it.
    """
    by_line, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            by_line[token.start[0]] = token.string.lstrip("# ").rstrip()
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    comments = {}
    for kind in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for item in kind.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                lines = [*range(item.lineno, (item.end_lineno or item.lineno) + 1)]
                if not any(line in by_line for line in lines):
                    first = item.lineno
                    while first - 1 in alone:
                        first -= 1
                    lines = [*range(first, item.lineno)]
                comments[kind.name, item.target.id] = " ".join(by_line[line] for line in lines if line in by_line)
    return comments


def _groups() -> list[str]:
    """The choices of each group, with the comment that begins each file."""
    lines = ["## Groups", "", "A group sets several keys at once. Keys given on the command line win over a group.", ""]
    lines += ["| choice | sets |", "| --- | --- |"]
    for group, subject in GROUPS.items():
        lines.append(f"| **`{group}=`** | {subject} |")
        for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
            lines.append(f"| `{group}={path.stem}` | {_cell(_first_comment(path))} |")
    return [*lines, ""]


def _first_comment(path: Path) -> str:
    """The comment at the top of a YAML file, without Hydra's package line."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            kept.append(line.lstrip("# "))
    return " ".join(kept)


def _section(kind: type, prefix: str, comments: dict[tuple[str, str], str]) -> Iterator[str]:
    """A heading and the table of a dataclass, then the same of the dataclasses in it."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    title = TITLES.get(prefix.rstrip("."), f"`{prefix.rstrip('.')}`")
    yield from (f"{'##' if prefix.count('.') < 2 else '###'} {title}", "")
    plain = [item for item in fields if not dataclasses.is_dataclass(hints[item.name])]
    yield from ("| key | value | default | description |", "| --- | --- | --- | --- |")
    for item in plain:
        values = (f"`{prefix}{item.name}`", _values(hints[item.name], item.metadata), _default(item.default))
        yield f"| {' | '.join(values)} | {_cell(comments.get((kind.__name__, item.name), ''))} |"
    yield ""
    for item in fields:
        if item not in plain:
            yield from _section(typing.cast(type, hints[item.name]), f"{prefix}{item.name}.", comments)


def _values(hint: Any, metadata: typing.Mapping[str, Any]) -> str:
    """The type of a setting and its range, or its choices."""
    if choices := metadata.get("choices"):
        return ", ".join(f"`{choice}`" for choice in choices)
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    names = {bool: "`true`, `false`", int: "integer", float: "number", str: "text", Any: "text or a list of texts"}
    text = next(name for kind, name in names.items() if kind in kinds)
    least, below = metadata.get("least"), metadata.get("below")
    bounds = [] if least is None else [f"≥ {least:g}"]
    if below is not None:
        bounds.append("< 2^63" if below == 2**63 else f"< {below:g}")
    if most := metadata.get("most"):
        bounds.append(f"≤ {most[0]:,}")
    return " ".join([text, ", ".join(bounds)]).strip()


def _default(value: Any) -> str:
    if value is None:
        return "`null`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    """Text for a cell of a table, with a capital letter at its start unless it begins with a symbol or a choice."""
    text = text.replace("|", "\\|")
    first = text.split(" ", 1)[0].rstrip(";,")
    return text[:1].upper() + text[1:] if len(first) > 1 and first.isalpha() else text


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
