"""Starts of a run: larger vocabularies, other sizes, frozen parts, pretrained vectors."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import refused, run
from small_runs import assert_same_run, config_of, everything, weights_of
from torch import nn

from seq2seq import model_dir
from seq2seq.config import Config, TokenizerConfig
from seq2seq.text.factory import train_tokenizer
from seq2seq.training.train import train
from seq2seq.training.vectors import set_vectors
from seq2seq.translator import Translator

CPU = torch.device("cpu")


def trained(folder: Path, run: str = "first", /, **changes: Any) -> Config:
    config = config_of(folder, run, train__max_updates=2, **changes)
    train(config)
    return config


TYPES: list[dict[str, Any]] = [
    {"tokenizer.type": "word"},
    {"tokenizer.type": "bpe", "tokenizer.vocab_size": 300},
    {"tokenizer.type": "unigram", "tokenizer.vocab_size": 300},
    {"tokenizer.type": "char"},
    {"tokenizer.type": "word", "tokenizer.vocab_size": 30, "tokenizer.shared": False},
]


@pytest.mark.parametrize("kind", TYPES)
def test_extended_models_keep_the_rows_of_their_pieces(folder: Path, kind: dict[str, Any]) -> None:
    config = trained(folder, **kind, **{"model.tie_embeddings": "output"} if kind["tokenizer.type"] == "bpe" else {})
    (folder / "new.txt").write_text("apple bananas\n12 cherries\n" * 20)
    output = folder / "extended"
    both = () if config.tokenizer.shared else ("--tgt-corpus", folder / "new.txt")
    result = run("extend", config.run_dir, "--corpus", folder / "new.txt", *both, "--output", output, "--pieces", 7)
    assert result.exit_code == 0, result.output
    place = "shared vocabulary" if config.tokenizer.shared else "source vocabulary, 4 pieces in the target vocabulary"
    assert re.fullmatch(
        rf"added \d pieces in the {place}; to train it, set train.init_from={output}", result.stderr.splitlines()[-1]
    )
    old, _, before = model_dir.load(config.run_dir, CPU)
    new, _, after = model_dir.load(output, CPU)
    names = {"src_embedding.weight": "src", "tgt_embedding.weight": "tgt", "readout.logits.weight": "tgt"}
    names["readout.logits.bias"] = "tgt"
    for name, weight in new.state_dict().items():
        kept = old.state_dict()[name]
        if name in names:
            one, two = getattr(before, names[name]), getattr(after, names[name])
            assert two.size > one.size
            assert two.pieces(range(one.size)) == one.pieces(range(one.size))
            for index in range(one.size, two.size):
                ids = one.encode(two.decode([index]))
                assert torch.allclose(weight[index], kept[ids].mean(dim=0)), name
            weight = weight[: one.size]
        assert torch.equal(weight, kept), name
    again = config_of(
        folder, "again", **kind, train__init_from=str(output), **{"model.tie_embeddings": config.model.tie_embeddings}
    )
    train(again)
    assert Translator.load(again.run_dir, device="cpu").tokenizers.src.size == after.src.size


def test_new_words_are_known_after_an_extension(folder: Path) -> None:
    config = trained(folder, tokenizer__type="unigram", tokenizer__vocab_size=300)
    (folder / "new.txt").write_text("apple bananas\n12 cherries\n" * 20)
    assert run("extend", config.run_dir, "--corpus", folder / "new.txt", "--output", folder / "two").exit_code == 0
    before, after = (
        model_dir.load(path, CPU)[2].src.segment(["bananas"])[0].pieces for path in (config.run_dir, folder / "two")
    )
    assert len(after) < len(before)


def test_errors_of_extend(folder: Path) -> None:
    config = trained(folder)
    (folder / "new.txt").write_text("apple\n" * 20)
    (folder / "old.txt").write_text("1 2 3\n" * 20)
    command = ("extend", config.run_dir, "--output", folder / "out", "--corpus")
    assert refused(*command, folder / "old.txt") == "the corpus must have pieces that the model lacks, but has none"
    assert refused(*command, folder / "new.txt", "--tgt-corpus", folder / "new.txt") == (
        "--tgt-corpus must be omitted, because source and target share one vocabulary; use --corpus"
    )
    model = Path(config.run_dir) / "model"
    assert refused("extend", model, "--output", model, "--corpus", folder / "new.txt") == (
        f"--output must be a new folder, but {model} holds a model"
    )


def test_a_start_with_another_size_takes_what_fits(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = trained(folder, train__average=0.0)
    with caplog.at_level(logging.WARNING):
        second = trained(
            folder, "second", model__encoder_layers=2, train__init_from=first.run_dir, train__learning_rate=0.0
        )
    old, new = weights_of(first), weights_of(second)
    (message,) = [record.getMessage() for record in caplog.records if "start at random" in record.getMessage()]
    random = message.partition(f"since train.init_from={first.run_dir} has other sizes: ")[2].split(", ")
    assert message.startswith(f"{len(random)} of {len(new)} parameters start at random, ")
    assert random
    assert all(name.startswith("encoder.") for name in random)
    for name, weight in new.items():
        assert (name in random) or torch.equal(weight, old[name]), name


def test_frozen_parts_do_not_change(folder: Path) -> None:
    start = trained(folder, train__average=0.0)
    parts = ["encoder", "src_embedding", "decoder.attention"]
    second = config_of(folder, "second", train__init_from=start.run_dir, train__freeze=parts)
    train(second)
    old, new = weights_of(start), weights_of(second)
    for name in old:
        frozen = name.startswith(("encoder.", "src_embedding.", "decoder.attention."))
        assert torch.equal(old[name], new[name]) is frozen, name


def test_frozen_coverage_and_exact_resume(folder: Path) -> None:
    options = {"model.coverage": "sum", "loss.coverage_weight": 1.0, "train.freeze": ["decoder.attention"]}
    unbroken, broken = (everything(folder, run, **options) for run in ("unbroken", "broken"))
    train(unbroken)
    broken.train.max_updates = 5
    train(broken)
    early = weights_of(broken)
    broken.train.max_updates = unbroken.train.max_updates
    train(broken)
    assert_same_run(unbroken, broken)
    names = [name for name in early if name.startswith("decoder.attention.")]
    assert any("coverage" in name for name in names)
    assert all(torch.equal(early[name], weights_of(broken)[name]) for name in names)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (
            ["encodr"],
            "train.freeze must name parts of the model (src_embedding, tgt_embedding, encoder, decoder, readout), but is encodr",
        ),
        (
            ["src_embedding", "tgt_embedding", "encoder", "decoder", "readout"],
            "train.freeze must leave a part of the model to train, but names all of them; remove one",
        ),
    ],
)
def test_wrong_parts_to_freeze(folder: Path, freeze: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(config_of(folder, train__freeze=freeze))


WORDS = train_tokenizer(["the cats sat"] * 20, TokenizerConfig(type="word", vocab_size=20))
SUBWORDS = train_tokenizer(
    ["the cats sat on the mats"] * 20, TokenizerConfig(vocab_size=290, user_defined_symbols=["▁cats"])
)


@pytest.mark.parametrize("header", ["", "3 2\n"])
@pytest.mark.parametrize("tokenizer", [WORDS, SUBWORDS])
def test_vectors_go_to_the_rows_of_their_pieces(tmp_path: Path, header: str, tokenizer: Any) -> None:
    (tmp_path / "vectors.txt").write_text(header + "cats 1.5 -2\nzebra 3 4\nNew York 5 6 \n")
    embedding = nn.Embedding(tokenizer.size, 2)
    before = embedding.weight.detach().clone()
    assert set_vectors(embedding, tokenizer, str(tmp_path / "vectors.txt"), setting="train.src_vectors") == 1
    index = tokenizer.id("cats" if tokenizer is WORDS else "▁cats")
    assert embedding.weight[index].tolist() == [1.5, -2.0]
    before[index] = embedding.weight[index].detach()
    assert torch.equal(before, embedding.weight)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "cats 1\n",
            "train.src_vectors must name vectors of model.embedding_size=2 numbers, but line 1 of {path} has 1",
        ),
        ("cats 1 x\n", "line 1 of {path} must hold a piece and finite numbers, but holds 1 x"),
        ("cats 1 nan\n", "line 1 of {path} must hold a piece and finite numbers, but holds 1 nan"),
        ("dogs 1 2\n", "train.src_vectors must name vectors of pieces of the vocabulary, but {path} has none of them"),
        (
            "2 3\ncats 1 2 3\nsat 1 2 3\n",
            "train.src_vectors must name vectors of model.embedding_size=2 numbers, but line 2 of {path} has 3",
        ),
    ],
)
def test_errors_of_vectors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(path=path))}$"):
        set_vectors(nn.Embedding(WORDS.size, 2), WORDS, str(path), setting="train.src_vectors")


def test_vectors_in_training_frozen_or_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "vectors.txt"
    path.write_text("".join(f"{digit} {' '.join([str(digit / 10)] * 16)}\n" for digit in range(10)))
    for name, freeze, equal in (("frozen", ["src_embedding"], True), ("free", None, False)):
        config = config_of(folder, name, train__src_vectors=str(path), train__freeze=freeze)
        train(config)
        assert f"10 of 14 src pieces start with the vectors of {path}\n" in capsys.readouterr().err
        tokenizer = model_dir.load_settings(Path(config.run_dir) / "last")[1].src
        row = weights_of(config)["src_embedding.weight"][tokenizer.id("3")]
        assert torch.equal(row, torch.full((16,), 0.3)) is equal
