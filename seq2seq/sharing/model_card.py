"""The model card: a README in Markdown, written from the run, with places that a person must fill in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from seq2seq import __version__, model_dir
from seq2seq.data.sources import entries
from seq2seq.files import read_file
from seq2seq.sharing.run_record import RunRecord
from seq2seq.translator import Translator

CARD = "README.md"
PLACEHOLDER = "FILL IN"
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|&~$:@])")


def write_card(name: str, run: RunRecord, translator: Translator) -> str:
    """Write the card of a run's model. Whatever comes from the run is escaped, so it stays text.

    Args:
        name: of the model on the hub, user/name.
        translator: the model of the run.
    """
    header = {"license": PLACEHOLDER, "library_name": "seq2seq", "tags": ["seq2seq", "recurrent-neural-network"]}
    lines = [
        "---",
        *yaml.safe_dump(header, sort_keys=False).splitlines(),
        "---",
        "",
        f"# {plain_text(name)}",
        "",
        f"{PLACEHOLDER}: the task, the languages, and for whom the model is meant.",
        "",
        "## Use",
        "",
        "```python",
        "from seq2seq import Translator",
        "",
        f'translator = Translator.load("hf:{name}")',
        f'translator.translate(["{PLACEHOLDER}: a source text"])',
        "```",
        "",
        "## Scores",
        "",
        *_score_lines(run),
        "",
        "## Data",
        "",
        *_data_lines(run),
        f"- {PLACEHOLDER}: where the data come from, and their licence",
        "",
        "## Model",
        "",
        *_model_lines(run, translator),
        "",
        "## Limits",
        "",
        f"- A source has at most {translator.model.max_source_length:,} pieces; a longer one is cut or split.",
        "- The model imitates its training data. On other kinds of texts its output can be fluent and wrong.",
        f"- {PLACEHOLDER}: the errors that you know of",
        "",
        "## Licence",
        "",
        f"{PLACEHOLDER}: the licence of the model, and whose work it is based on. Name it in the first lines of this page too.",
        "",
    ]
    return "\n".join(lines)


def check_card(path: Path, folder: Path) -> bytes:
    """Return the content of a card that is complete and describes the model in a folder.

    Raises:
        ValueError: it is not filled in, names no licence, or describes another state of the model.
    """
    content = read_file(path)
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8, but is not; save it as UTF-8") from error
    open_places = [str(number) for number, line in enumerate(lines, start=1) if PLACEHOLDER in line]
    if open_places:
        raise ValueError(
            f"{path} must be filled in before the model is pushed, but says {PLACEHOLDER} in line {', '.join(open_places)}"
        )
    if not _has_licence(lines):
        raise ValueError(
            f"{path} must name the licence in its header, as in license: mit, but does not; add the line between the first "
            "two lines of ---"
        )
    if weights_digest(folder).encode() not in content:
        raise ValueError(
            f"{path} must describe the model that is pushed, but lacks the SHA-256 of its {model_dir.WEIGHTS}; rename the "
            "card, and push again to have it written for this model"
        )
    return content


def plain_text(text: object) -> str:
    """Escape a text for Markdown and HTML, on one line.

    >>> plain_text("<b>")
    '\\\\<b\\\\>'
    """
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 of the weights of a model directory."""
    return hashlib.sha256(read_file(folder / model_dir.WEIGHTS)).hexdigest()


def _has_licence(lines: list[str]) -> bool:
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return False
    try:
        header: Any = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except yaml.YAMLError:
        return False
    return isinstance(header, dict) and isinstance(header.get("license"), str) and bool(header["license"].strip())


def _score_lines(run: RunRecord) -> Iterator[str]:
    """Make the table of the scores that the run logged: those of the test files, else of the saved model's validation."""
    record, prefix = (run.test, "test_") if run.test else (run.best or {}, "valid_")
    given = record.get("signatures")
    signatures = {name.lower(): text for name, text in given.items()} if isinstance(given, dict) else {}
    yield f"On the {'test' if run.test else 'validation'} pairs of the run:"
    yield ""
    yield "| metric | score | signature |"
    yield "| --- | --- | --- |"
    for key, value in record.items():
        name = key.removeprefix(prefix)
        if key == name or not isinstance(value, int | float) or name == "cut":
            continue
        # the log names validation scores as train.metric does: chrf has the signature of chrF2
        signature = signatures.get(name.lower()) or signatures.get(
            {"chrf": "chrf2", "chrf++": "chrf2++"}.get(name, ""), ""
        )
        yield f"| {plain_text(name)} | {value:.2f} | {plain_text(signature)} |"


def _data_lines(run: RunRecord) -> Iterator[str]:
    data = run.config.data
    if data.hub:
        yield f"- data set of the hub: {plain_text(data.hub)}"
    for split in ("train", "valid", "test"):
        files = getattr(data, split)
        named = [
            Path(each).name if isinstance(each, str) else each
            for kind in ("src", "tgt", "file")
            for each in entries(getattr(files, kind))
        ]
        if named:
            yield f"- {split}: {', '.join(map(plain_text, named))}"
    if run.data:
        yield from (f"- {plain_text(line)}" for line in run.data.lines())


def _model_lines(run: RunRecord, translator: Translator) -> Iterator[str]:
    folder = model_dir.find(run.path)
    model, tokenizer = run.config.model, run.config.tokenizer
    number = sum(parameter.numel() for _, parameter in translator.model.named_parameters())
    size = (folder / model_dir.WEIGHTS).stat().st_size / 2**20
    yield f"- {number:,} parameters, {size:.1f} MiB"
    layers = {
        side: f"{getattr(model, f'{side}_layers')} layers, {getattr(model, side)}" for side in ("encoder", "decoder")
    }
    yield f"- cell {model.cell}; encoder: {layers['encoder']}; decoder: {layers['decoder']}"
    yield f"- embeddings {model.embedding_size}, hidden {model.hidden_size}; attention {plain_text(model.attention)}, copy {model.copy}, coverage {model.coverage}"
    sizes = f"{translator.tokenizers.src.size:,} source and {translator.tokenizers.tgt.size:,} target pieces"
    yield f"- tokenizer {tokenizer.type}: {sizes}"
    if run.best:
        yield f"- saved after update {run.best['update']:,}, trained by seq2seq, card written by version {__version__}"
    yield f"- SHA-256 of {model_dir.WEIGHTS}: `{weights_digest(folder)}`"
