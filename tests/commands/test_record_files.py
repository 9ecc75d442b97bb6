"""Records as the input of translate, evaluate and score; tags; the lead baseline; inspect."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
import torch
from command_line import refused, run, write
from pyarrow import parquet

from seq2seq import model_dir
from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.model_dir import Settings, Tokenizers
from seq2seq.text.factory import train_tokenizer
from seq2seq.translator import Translator

ROOT = Path(__file__).parents[2]
TEXT = ["a man sleeps .", "two women walk in the rain", "the dog runs", "A child, laughing."]
RECORDS: list[dict[str, Any]] = [
    {"id": number, "text": {"en": line}, "score": number / 2} for number, line in enumerate(TEXT)
]
FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def save_model(folder: Path, tags: Sequence[str] = ()) -> str:
    """Save an untrained model, whose translations differ from line to line and from tag to tag."""
    tokenizer = TokenizerConfig(type="char", vocab_size=50)
    tokenizers = model_dir.with_tags(Tokenizers(*[train_tokenizer(TEXT, tokenizer)] * 2), tags)
    search = SearchConfig(beam_size=2, max_length_ratio=1.0, max_length_extra=3, too_long="split")
    config = ModelConfig(cell="gru", embedding_size=8, hidden_size=8, copy="pointer")
    settings = Settings(config, tokenizer, search, 12)
    torch.manual_seed(3)
    model_dir.save_settings(folder, settings, tokenizers)
    made = model_dir.build_model(settings, tokenizers)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= 4
    model_dir.save_weights(folder, made)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("tagged") / "model", ["de", "fr"])


def records_file(folder: Path, ending: str, values: dict[str, Sequence[str]]) -> Path:
    """Write a file of records with the given columns."""
    path = folder / f"records{ending}"
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    if ending == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == ".json":
        path.write_text(json.dumps(rows))
    elif ending == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif ending == ".tsv":
        path.write_text("".join("\t".join(row) + "\n" for row in [list(values), *(row.values() for row in rows)]))
    else:
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([list(values), *(row.values() for row in rows)])
    return path


# ---- translate


@pytest.mark.parametrize("ending", FORMATS)
def test_records_are_translated_like_lines(model: str, ending: str, tmp_path: Path) -> None:
    path = records_file(tmp_path, ending, {"id": list("abcd"), "text": TEXT})
    lines = run("translate", model, text="".join(line + "\n" for line in TEXT))
    found = run("translate", model, "--input", path, "--src-field", "text")
    assert (found.exit_code, found.stdout_bytes, found.stderr) == (0, lines.stdout_bytes, lines.stderr)
    as_json = run("translate", model, "--input", path, "--src-field", "text", "--format", "jsonl")
    rows = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [row["translation"] for row in rows] == lines.stdout.splitlines()
    assert [(row["id"], row["text"]) for row in rows] == list(zip("abcd", TEXT, strict=True))


def test_json_keeps_the_other_values_of_a_record(model: str) -> None:
    text = "".join(json.dumps(record) + "\n" for record in RECORDS)
    options = ["--src-field", "text.en", "--format", "jsonl"]
    rows = [json.loads(line) for line in run("translate", model, *options, text=text).stdout.splitlines()]
    plain = run("translate", model, "--format", "jsonl", text="".join(line + "\n" for line in TEXT))
    expected = [json.loads(line) for line in plain.stdout.splitlines()]
    for row, record, translation in zip(rows, RECORDS, expected, strict=True):
        assert row == translation | {"id": record["id"], "text": record["text"], "input_score": record["score"]}
    several = run("translate", model, *options, "--n-best", 2, text=text).stdout.splitlines()
    assert [[best["id"] for best in json.loads(line)] for line in several] == [[n, n] for n in range(4)]


def test_a_field_of_lines_is_refused(model: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", "a dog\n")
    message = (
        f"--src-field applies to files of records (.jsonl, .json, .tsv, .csv, .parquet), but {path} is read line by line; "
        "remove it"
    )
    assert refused("translate", model, "--input", path, "--src-field", "text") == message
    assert refused("score", model, "--src", path, "--tgt", path, "--src-field", "text") == message
    assert refused("evaluate", "--hyp", path, "--ref", path, "--ref-field", "x").startswith("--ref-field applies to")


def test_errors_name_the_option_and_the_line(model: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{"src": "a"}\n{"text": "b"}\n')
    message = f"{path}, line 2: the record has no key src, only: text; set --src-field to one of them"
    assert refused("translate", model, "--input", path) == message
    message = "standard input, line 1: the record has no key x, only: src; set --src-field to one of them"
    assert refused("translate", model, "--src-field", "x", text=b'{"src": "a"}\n') == message


# ---- evaluate and score


@pytest.mark.parametrize("ending", FORMATS)
def test_records_are_scored_like_lines(model: str, ending: str, tmp_path: Path) -> None:
    path = records_file(tmp_path, ending, {"en": TEXT, "fr": TEXT[::-1], "mine": [*TEXT[:2], *TEXT[:2]]})
    src = write(tmp_path / "src", "".join(line + "\n" for line in TEXT))
    tgt = write(tmp_path / "tgt", "".join(line + "\n" for line in TEXT[::-1]))
    hyp = write(tmp_path / "hyp", "".join(line + "\n" for line in [*TEXT[:2], *TEXT[:2]]))
    fields = ["--src", path, "--src-field", "en"]
    lines = run("score", model, "--src", src, "--tgt", tgt)
    found = run("score", model, *fields, "--tgt", path, "--tgt-field", "fr")
    assert (found.exit_code, found.stdout) == (0, lines.stdout)
    refs = ["--ref", path, "--ref-field", "fr"]
    lines = run("evaluate", "--hyp", hyp, "--ref", tgt, "--metric", "chrf")
    found = run("evaluate", "--hyp", path, "--hyp-field", "mine", *refs, "--metric", "chrf")
    assert (found.exit_code, found.stdout) == (0, lines.stdout)
    lines = run("evaluate", model, "--src", src, "--ref", tgt, "--metric", "chrf")
    found = run("evaluate", model, *fields, *refs, "--metric", "chrf")
    assert (found.exit_code, found.stdout) == (0, lines.stdout)


def test_default_fields(model: str, tmp_path: Path) -> None:
    pairs = write(tmp_path / "x.jsonl", "".join(json.dumps({"src": line, "tgt": line}) + "\n" for line in TEXT))
    assert run("score", model, "--src", pairs, "--tgt", pairs).stdout.count("\n") == 4
    out = tmp_path / "out.jsonl"
    assert run("translate", model, "--input", pairs, "--format", "jsonl", "--output", out).exit_code == 0
    translated = run("evaluate", "--hyp", out, "--ref", pairs, "--metric", "chrf").stdout
    assert translated == run("evaluate", model, "--src", pairs, "--ref", pairs, "--metric", "chrf").stdout


def test_options_without_effect_are_refused(tmp_path: Path, model: str) -> None:
    path = write(tmp_path / "x.jsonl", '{"translation": "a", "tgt": "a", "src": "a"}\n')
    hyp, ref = ["--hyp", path], ["--ref", path]
    assert refused("evaluate", *hyp, *ref, "--tag", "de") == "--tag has no effect without MODEL; remove it"
    assert refused("evaluate", *hyp, *ref, "--src-field", "x") == "--src-field has no effect without --src; remove it"
    message = "--hyp-field has no effect without --hyp; remove it"
    assert refused("evaluate", model, "--src", path, *ref, "--hyp-field", "x") == message


# ---- tags


def test_tags(tagged: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "".join(line + "\n" for line in TEXT)
    found = {tag: run("translate", tagged, "--tag", tag, text=text) for tag in ("de", "fr")}
    assert found["de"].stdout != found["fr"].stdout
    inline = run("translate", tagged, text="".join(f"<2de> {line}\n" for line in TEXT))
    assert inline.stdout == found["de"].stdout
    assert not any("tag" in message for message in caplog.messages)
    assert run("translate", tagged, text=text).exit_code == 0
    warning = (
        "line 1 has no tag, but the model was trained with the tags de, fr; give one of them with --tag, or put <2de> and a "
        "space before the line"
    )
    assert warning in caplog.messages
    assert "4 lines have no tag, but the model was trained with the tags de, fr" in caplog.messages
    src = write(tmp_path / "src", text)
    scores = {tag: run("score", tagged, "--src", src, "--tgt", src, "--tag", tag).stdout for tag in ("de", "fr")}
    assert scores["de"] != scores["fr"]
    chrf = ["--metric", "chrf"]
    by_model = run("evaluate", tagged, "--src", src, "--ref", src, "--tag", "de", *chrf)
    hyp = write(tmp_path / "hyp", found["de"].stdout)
    assert by_model.stdout == run("evaluate", "--hyp", hyp, "--ref", src, *chrf).stdout


def test_unknown_tags_are_refused(tagged: str, model: str) -> None:
    assert refused("translate", tagged, "--tag", "it") == "the tag must be one of the model's tags: de, fr; but is it"
    assert (
        refused("translate", model, "--tag", "de") == "the tag must be empty, because the model has no tags; but is de"
    )


def test_every_part_of_a_long_line_has_the_tag_and_positions_are_those_of_the_line(tagged: str) -> None:
    line = "the dog runs the dog runs"
    (found,) = Translator.load(tagged, device="cpu").with_tag("fr").search([line])[0]
    assert found.source_pieces.count("<2fr>") == 3
    assert found.source_pieces[0] == "<2fr>"
    spelled = "".join(piece for piece in found.source_pieces if piece != "<2fr>").replace("▁", " ").strip()
    assert spelled == line
    for source in filter(None, found.copied_from):
        piece = found.source_pieces[source.source_piece]
        expected = "" if piece == "<2fr>" else piece.replace("▁", "")
        assert line[source.start : source.end] == expected


def test_a_translator_keeps_its_tag_with_other_search_settings(tagged: str) -> None:
    translator = Translator.load(tagged, device="cpu").with_tag("fr")
    assert translator.with_search(beam_size=1).tag == "fr"
    assert translator.with_tag("de").tag == "de"


@pytest.mark.parametrize("tags", ["de", [1], [""], {"de": 1}])
def test_damaged_tags(tagged: str, tags: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in Path(tagged).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    content = json.loads((folder / "config.json").read_text())
    assert content["tags"] == ["de", "fr"]
    (folder / "config.json").write_text(json.dumps(content | {"tags": tags}))
    assert refused("translate", folder) == (
        f"{folder}/config.json is damaged: tags must be a list of texts, but is {tags}; copy the model directory again"
    )


# ---- the lead baseline


def test_lead(tmp_path: Path) -> None:
    rows = [{"doc": "One two, three four five. Six.", "sum": "a b c"}, {"doc": "", "sum": "a b c d e"}]
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    script = [sys.executable, str(ROOT / "scripts" / "lead.py"), str(path), "--train", str(path)]
    done = subprocess.run(
        [*script, "--src-field", "doc", "--tgt-field", "sum"], capture_output=True, cwd=ROOT, check=True
    )
    assert done.stdout == b"One two, three four\n\n"
    done = subprocess.run(script, capture_output=True, cwd=ROOT, check=False, text=True)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: {path}, line 1: the record has no key tgt, only: doc, sum; set --tgt-field to one of them\n"
    )


# ---- a hub data set


def test_a_hub_folder_replaces_the_bundled_corpus(folder: Path) -> None:
    (folder / "set").mkdir()
    (folder / "train.jsonl").rename(folder / "set" / "train.jsonl")
    (folder / "valid.jsonl").rename(folder / "set" / "validation.jsonl")
    found = run("inspect", "--json", "data.hub=set", *SMALL)
    assert found.exit_code == 0, (found.output, found.exception)
    content = json.loads(found.stdout)
    assert (content["report"]["pairs_read"], content["valid_pairs"]) == (82, 3)


# ---- inspect

SMALL = [
    "tokenizer.type=word",
    "tokenizer.vocab_size=14",
    "model.embedding_size=8",
    "model.hidden_size=8",
    "train.threads=1",
    "train.device=cpu",
    "train.batch_tokens=64",
    "data.src_field=en",
    "data.tgt_field=fr",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus with unknown words that can be copied, a long pair, equal sides and validation pairs from train."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    pairs = [(f"we saw name{number} here today", f"nous avons vu name{number} ici") for number in range(80)]
    pairs += [("the same text here", "the same text here"), ("long " * 30, "longue " * 30)]
    rows = [{"en": en, "fr": fr} for en, fr in pairs]
    write(tmp_path / "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path / "valid.jsonl", "".join(json.dumps(row) + "\n" for row in rows[:3]))
    return tmp_path


def inspected(*settings: str) -> dict[str, Any]:
    files = ["data.train.file=train.jsonl", "data.valid.file=valid.jsonl"]
    result = run("inspect", "--json", *files, *SMALL, *settings)
    assert result.exit_code == 0, (result.output, result.exception)
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def test_inspect_finds_what_is_unusual(folder: Path) -> None:
    found = inspected("data.max_source_length=20", "data.max_target_length=40", "train.max_updates=1")
    assert found["report"]["pairs_read"] == 82
    assert found["report"]["too_long_source"] == 1
    assert found["vocabulary"] == {"src": 14, "tgt": 14}
    assert found["valid_pairs"] == 3
    assert found["copyable"]["pairs"] == 82
    assert 80 <= found["copyable"]["unknown_in_source"] <= found["copyable"]["unknown"]
    counts = {suspects["kind"]: suspects["count"] for suspects in found["suspects"]}
    assert counts["both sides equal"] == 1
    assert found["suspects"][0]["shown"] == [[81, "the same text here", "the same text here"]]
    assert found["cost"]["updates_per_epoch"] > 1
    assert found["cost"]["seconds"] > 0
    assert found["cost"]["peak_memory"] > 2**20
    first = found["examples"][0]
    assert first["src_pieces"] == ["we", "saw", "name0", "here", "today"]
    assert first["tgt_pieces"] == ["nous", "avons", "vu", "name0", "ici", "</s>"]
    assert (first["src_ids"][2], first["tgt_ids"][3], first["copy_ids"]) == (1, 1, [])
    findings = "\n".join(found["findings"])
    for part in (
        "1.2% of the pairs have a source above data.max_source_length=20 and are dropped: raise it, or set data.too_long=cut",
        "3 pairs of data.valid also occur in data.train, so their scores are too good: remove them from data.train, or set "
        "data.valid_share instead of data.valid",
        "3 validation pairs give an uncertain score: give data.valid more pairs",
        "1 pairs are suspicious (both sides equal): look at them in the files of data.train",
        "of the target pieces are unknown, and many occur in the source: set model.copy=pointer",
        "train.max_updates=1 ends within the first epoch",
    ):
        assert part in findings
    assert sorted(path.name for path in folder.iterdir()) == ["cache", "train.jsonl", "valid.jsonl"]


def test_advice_of_inspect_follows_the_settings(folder: Path) -> None:
    found = inspected("model.copy=pointer", "data.too_long=cut", "data.max_source_length=20", "model.layer_norm=true")
    first = found["examples"][0]
    assert first["copy_ids"][2] == first["tgt_ids"][3] == 14
    findings = "\n".join(found["findings"])
    assert "model.copy=pointer" not in findings
    assert "data.max_source_length=20 and are cut: raise it" in findings
    assert "the decoder is trained step by step, since model.layer_norm=true" in findings
    assert "the first epoch" not in findings


@pytest.mark.parametrize(("kind", "remedy"), [("word", ", or set tokenizer.type=bpe"), ("char", "")])
def test_advice_on_unknown_pieces_suits_the_tokenizer(kind: str, remedy: str, folder: Path) -> None:
    words = [f"{first}{second}" for first in "abcdefghij" for second in "klmnopqrst"]
    rows = [{"en": "we saw it", "fr": f"nous {word} ici"} for word in words]
    write(folder / "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    findings = inspected(f"tokenizer.type={kind}", "tokenizer.shared=false")["findings"]
    (found,) = [line for line in findings if "are unknown" in line]
    assert found.endswith(f"of the target pieces are unknown: raise tokenizer.vocab_size{remedy}")


def test_inspect_as_text(folder: Path) -> None:
    result = run("inspect", "data.train.file=train.jsonl", "data.valid_share=0.1", "data.train.tag=fr", *SMALL)
    assert result.exit_code == 0, (result.output, result.exception)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("train: ")
    assert any(line.endswith("pairs, weight 1, tag fr") for line in lines)
    assert "vocabulary: 15 source and 15 target ids" in lines
    assert any(line.startswith("  source: <2fr>:14 we:") for line in lines)
    assert any(line.startswith("update: ") and "target tokens/s" in line for line in lines)
    assert "advice:" in lines


def test_inspect_applies_vectors_and_frozen_parts(folder: Path) -> None:
    write(folder / "vectors", "here " + " ".join(["0.5"] * 8) + "\n")
    found = inspected("train.src_vectors=vectors", "train.freeze=[encoder]")
    assert found["start"][0].endswith(" src pieces start with the vectors of vectors")
    assert found["start"][1].endswith(" parameters are frozen by train.freeze")


def test_errors_of_inspect_are_those_of_train(folder: Path) -> None:
    assert refused("inspect", "model.celll=gru") == "there is no setting model.celll; the nearest is model.cell"
    message = refused("inspect", "data.train.file=train.jsonl", "data.valid.file=none.jsonl", *SMALL)
    assert message == "none.jsonl cannot be read: No such file or directory"
    files = ["data.train.file=train.jsonl", "data.valid.file=valid.jsonl"]
    message = refused("inspect", *files, "train.freeze=[tail]", *SMALL)
    assert message.startswith("train.freeze must name parts of the model (")
