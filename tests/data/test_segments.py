"""The sentence of each piece: borders from the text, the same in training and in translation."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from seq2seq.config import DataConfig, FilesConfig, ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.data.dataset import sampled_set, training_set
from seq2seq.data.rows import Rows
from seq2seq.data.segments import MAX_SENTENCE_PIECES, sentence_numbers
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Tokenizers
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tags import TaggedTokenizer
from seq2seq.text.tokenizer import Sampling
from seq2seq.translator import Translator

TEXTS = [
    "The man sleeps. The dog runs! A cat eats the fish of Mr. Smith, too.",
    "one two three",
    "a list:\n- the first line\n- the second line. The end",
    "这是猫。那是狗。",
]
KINDS = [
    TokenizerConfig(type="word", vocab_size=60),
    TokenizerConfig(type="bpe", vocab_size=330),
    TokenizerConfig(type="unigram", vocab_size=330),
    TokenizerConfig(type="char", vocab_size=60),
]


def by_sentence(config: TokenizerConfig, text: str) -> list[str]:
    """Return the text of each sentence, from the spans of its pieces."""
    (segments,) = train_tokenizer(TEXTS, config).segment([text])
    numbers = sentence_numbers(text, segments.spans)
    assert numbers[0] == 0
    assert all(after - before in (0, 1) for before, after in itertools.pairwise(numbers))
    found: dict[int, tuple[int, int]] = {}
    for number, (start, end) in zip(numbers, segments.spans, strict=True):
        found[number] = (found[number][0] if number in found else start, end)
    return [text[start:end].strip() for start, end in found.values()]


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.type)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXTS[0], ["The man sleeps.", "The dog runs!", "A cat eats the fish of Mr. Smith, too."]),
        (TEXTS[1], [TEXTS[1]]),
        (TEXTS[2], ["a list:", "- the first line", "- the second line.", "The end"]),
    ],
    ids=["stops", "one", "lines"],
)
def test_borders_come_from_the_text(config, text, expected):
    assert by_sentence(config, text) == expected


@pytest.mark.parametrize("config", [KINDS[0], KINDS[3]], ids=lambda config: config.type)
def test_borders_without_white_space(config):
    assert by_sentence(config, TEXTS[3]) == ["这是猫。", "那是狗。"]


def test_a_text_without_pieces_has_no_numbers():
    assert sentence_numbers("", []) == []
    assert sentence_numbers("A. B", []) == []


def test_sentences_without_pieces_leave_no_gap():
    assert sentence_numbers("One. Two. Three.", [(0, 3), (3, 4), (10, 15)]) == [0, 0, 1]


def test_a_part_of_a_text_is_numbered_from_0():
    assert sentence_numbers("A b. C d. E f.", [(7, 8), (8, 9), (10, 11), (12, 14)]) == [0, 0, 1, 1]


def test_a_long_sentence_is_divided():
    count = 2 * MAX_SENTENCE_PIECES + 3
    text = "w " * count + ". Next"
    spans = [(2 * place, 2 * place + 1) for place in range(count + 1)] + [(2 * count + 2, 2 * count + 6)]
    numbers = sentence_numbers(text, spans)
    assert [numbers.count(number) for number in range(4)] == [MAX_SENTENCE_PIECES, MAX_SENTENCE_PIECES, 4, 1]


# ---- training and translation


def translator_of(tokenizers: Tokenizers, *, most: int = 256, tag: str = "", **search: str) -> Translator:
    config = ModelConfig(encoder="hierarchical", embedding_size=4, hidden_size=4)
    sizes = {"src_size": tokenizers.src.size, "tgt_size": tokenizers.tgt.size, "shared": True}
    model = Seq2Seq(config, **sizes, max_source_length=most)
    return Translator(model, tokenizers, SearchConfig(**search), tag=tag)


def rows_of(folder: Path, tokenizers: Tokenizers, *, most: int, tag: str | None = None) -> tuple[DataConfig, Rows]:
    lines = [text.replace("\n", " ") + "\n" for text in TEXTS]
    for side in ("src", "tgt"):
        (folder / f"train.{side}").write_text("".join(lines), encoding="utf-8")
    files = FilesConfig(src="train.src", tgt="train.tgt", tag=tag)
    data = DataConfig(root=str(folder), train=files, max_source_length=most, too_long="cut")
    return data, Rows(training_set(data, *tokenizers, segments=True)[0], segments=True)


@pytest.mark.parametrize("most", [256, 12])
@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.type)
def test_training_and_translation_have_the_same_segments(tmp_path, config, most):
    tokenizer = train_tokenizer(TEXTS, config)
    tokenizers = Tokenizers(tokenizer, tokenizer)
    _, rows = rows_of(tmp_path, tokenizers, most=most)
    lines = (tmp_path / "train.src").read_text(encoding="utf-8").splitlines()
    translator = translator_of(tokenizers, most=most)
    translator.notices.shown = False
    borders = 0
    for row, line in enumerate(lines):
        trained, translated = rows.batch(torch.tensor([row]).numpy()), translator.pair_batch(line, line)
        assert torch.equal(trained.src, translated.src)
        assert torch.equal(trained.segments, translated.segments)
        assert trained.segments.shape == trained.src.shape
        borders += int(trained.segments.max())
    assert borders > 0


def test_sampled_segmentations_have_segments(tmp_path):
    tokenizer = train_tokenizer(TEXTS, KINDS[1])
    data, rows = rows_of(tmp_path, Tokenizers(tokenizer, tokenizer), most=256)
    sampled = sampled_set(data, tokenizer, tokenizer, segments=True, sampling=Sampling(dropout=0.5), seed=1, epoch=0)
    assert sampled[0]["src_ids"] != rows.dataset[0]["src_ids"]
    assert len(sampled[0]["segments"]) == len(sampled[0]["src_ids"])
    assert sampled[0]["segments"][-1] == rows.dataset[0]["segments"][-1] == 2


@pytest.mark.parametrize("given", ["in the line", "as an option"])
def test_a_tag_is_in_the_first_sentence(tmp_path, given):
    tokenizer = TaggedTokenizer(train_tokenizer(TEXTS, KINDS[0]), ["de"])
    tokenizers = Tokenizers(tokenizer, tokenizer)
    _, rows = rows_of(tmp_path, tokenizers, most=256, tag="de")
    trained = rows.batch(torch.tensor([0]).numpy())
    translator = translator_of(tokenizers, tag="de" if given == "as an option" else "")
    translated = translator.pair_batch(TEXTS[0] if translator.tag else f"<2de> {TEXTS[0]}", "a")
    assert torch.equal(trained.src, translated.src)
    assert torch.equal(trained.segments, translated.segments)
    assert trained.segments[0, :6].tolist() == [0, 0, 0, 0, 0, 1]


def test_each_part_of_a_split_line_has_its_sentences(monkeypatch):
    tokenizer = train_tokenizer(TEXTS, KINDS[0])
    translator = translator_of(Tokenizers(tokenizer, tokenizer), most=8, too_long="split")
    translator.notices.shown = False
    batches = []
    encode = translator.model.encode
    monkeypatch.setattr(translator.model, "encode", lambda batch, *_: batches.append(batch) or encode(batch))
    translator.translate([TEXTS[0]])
    found = sorted(
        batch.segments[row, : batch.src_lengths[row]].tolist() for batch in batches for row in range(len(batch.src))
    )
    assert found == [[0] * 5, [0] * 9, [0, 0, 0, 0, 1, 1, 1, 1, 1]]  # with the end of sentence
