"""Training on every format, on data sets, on tagged and weighted corpora, with validation pairs taken from train."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
import yaml
from pyarrow import parquet
from small_runs import assert_same_run, config_of, everything, state_of

from seq2seq.config import Config, FilesConfig
from seq2seq.model_dir import load_settings
from seq2seq.training.train import train
from seq2seq.translator import Translator


def rows_of(folder: Path) -> list[dict[str, str]]:
    sides = [(folder / f"train.{side}").read_text().splitlines() for side in ("src", "tgt")]
    return [{"src": src, "tgt": tgt} for src, tgt in zip(*sides, strict=True)]


def as_format(folder: Path, ending: str) -> Any:
    """Write the training pairs in a format; return the value of data.train.file."""
    rows, path = rows_of(folder), folder / f"moved{ending}"
    if ending == ".csv":
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([["src", "tgt"], *(row.values() for row in rows)])
    elif ending == ".json":
        path.write_text(json.dumps(rows))
    elif ending == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif ending == "dataset":
        return datasets.Dataset.from_list(rows)
    return str(path)


@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet", "dataset"])
def test_a_run_continues_with_the_same_pairs_in_another_format(folder: Path, ending: str) -> None:
    unbroken, broken = config_of(folder, "unbroken"), config_of(folder, "broken", train__max_updates=2)
    train(unbroken)
    train(broken)
    broken.train.max_updates = unbroken.train.max_updates
    broken.data.train = FilesConfig(file=as_format(folder, ending))
    train(broken)
    assert_same_run(unbroken, broken)
    saved = yaml.safe_load((Path(broken.run_dir) / "config.yaml").read_text())["data"]["train"]["file"]
    assert saved == ("datasets.Dataset of 161 rows" if ending == "dataset" else broken.data.train.file)


def tagged(folder: Path, run: str, **changes: Any) -> Config:
    """Return the configuration of two corpora with tags and weights, and validation pairs taken from train."""
    config = everything(folder, run, **changes)
    rows = [row for row in rows_of(folder) if row["src"]]
    for name, reverse in (("same", False), ("reversed", True)):
        lines = [row | {"tgt": row["tgt"][::-1]} if reverse else row for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config.data.train = FilesConfig(file=["same.jsonl", "reversed.jsonl"], tag=["same", "back"], weight=[1.5, 0.5])
    config.data.valid, config.data.valid_share = FilesConfig(), 0.1
    return config


def test_tagged_and_weighted_corpora_are_resumed_exactly(folder: Path) -> None:
    unbroken, broken = tagged(folder, "unbroken"), tagged(folder, "broken", train__max_updates=7)
    train(unbroken)
    train(broken)
    broken.train.max_updates = unbroken.train.max_updates
    train(broken)
    assert_same_run(unbroken, broken)
    _, tokenizers = load_settings(Path(unbroken.run_dir) / "model")
    assert tokenizers.src.size == tokenizers.tgt.size
    assert tokenizers.src.tags == ("back", "same")


def test_changed_weights_and_shares_are_refused(folder: Path) -> None:
    config = tagged(folder, "run", train__max_updates=3)
    train(config)
    before = state_of(config)
    config.train.max_updates = 6
    config.data.train.weight = [1.5, 1]
    with pytest.raises(
        ValueError, match=r"^the training data or its tokenizer must stay as it was when the run in .* started"
    ):
        train(config)
    config.data.train.weight = [1.5, 0.5]
    config.data.valid_share = 0.2
    with pytest.raises(ValueError, match=r"another configuration: data\.valid_share \(was 0\.1, is 0\.2\)"):
        train(config)
    assert state_of(config)["progress"] == before["progress"]


def test_a_tag_selects_what_the_model_writes(folder: Path) -> None:
    """Reversed and plain copies of the same sources need the tag to be told apart."""
    config = config_of(
        folder, "run", model__hidden_size=48, train__max_updates=250, train__valid_every=250, train__batch_tokens=512
    )
    corpora = tagged(folder, "run").data
    config.data.train, config.data.valid, config.data.valid_share = corpora.train, corpora.valid, corpora.valid_share
    config.data.train.weight = None
    train(config)
    translator = Translator.load(config.run_dir)
    lines = [row["src"] for row in rows_of(folder)[1:60]]
    same, back = (translator.with_tag(tag).score(lines, lines) for tag in ("same", "back"))
    better = sum(sum(one) > sum(other) for one, other in zip(same, back, strict=True))
    assert better > 0.9 * len(lines)


def test_training_from_a_model_without_the_tag_is_refused(folder: Path) -> None:
    first = tagged(folder, "first", train__max_updates=3)
    train(first)
    second = tagged(folder, "second", train__max_updates=3, train__init_from=str(first.run_dir))
    train(second)
    third = tagged(folder, "third", train__init_from=str(first.run_dir))
    third.data.train.tag = ["same", "other"]
    message = f"with train.init_from={first.run_dir}, data.train.tag must be one of the model's tags: back, same; but is other"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(third)


def test_the_corpora_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tagged(folder, "run", train__max_updates=1)
    train(config)
    lines = capsys.readouterr().err.splitlines()
    first, second = (line for line in lines if line.startswith("corpus "))
    count = re.search(r"(\d+) pairs", first)
    assert count is not None
    assert (first, second) == (
        f"corpus 1: {count[1]} pairs, weight 1.5, tag same",
        f"corpus 2: {count[1]} pairs, weight 0.5, tag back",
    )
    assert any("held out from data.train by data.valid_share=0.1; 0 of these pairs" in line for line in lines)


def test_no_effect_of_a_weight_of_one(folder: Path) -> None:
    plain, weighted = config_of(folder, "plain"), config_of(folder, "weighted", data__train__weight=1)
    train(plain)
    train(weighted)
    assert_same_run(plain, weighted)
