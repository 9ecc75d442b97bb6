"""Tokenizing in several processes gives the rows, the report and the random segmentations of one process."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from seq2seq.config import DataConfig, FilesConfig, TokenizerConfig
from seq2seq.data import tokenizing
from seq2seq.data.corpus import training_text
from seq2seq.data.dataset import sampled_set, training_set
from seq2seq.data.report import Repeats
from seq2seq.data.rows import Rows
from seq2seq.data.tokenizing import PairTokenizer, RandomSegmentation
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.sentencepiece import SentencePieceTokenizer
from seq2seq.text.tokenizer import SPECIALS, Sampling, Segments, Tokenizer
from seq2seq.text.word import WordTokenizer

PAIRS = 3500  # not a multiple of the size of a batch


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataConfig, Tokenizer]:
    folder = tmp_path_factory.mktemp("corpus")
    words = [f"{first}{second}" for first in "abcdef" for second in "uvwxyz"]
    random = np.random.Generator(np.random.PCG64(1))
    for side in ("src", "tgt"):
        lines = [" ".join(random.choice(words, size=random.integers(0, 7))) for _ in range(PAIRS)]
        (folder / f"train.{side}").write_text("".join(f"{line}\n" for line in lines))
    (folder / "valid.tsv").write_text("au av\tau\n\tav\nau\tau\n")
    data = DataConfig(
        root=str(folder),
        train=FilesConfig(src="train.src", tgt="train.tgt"),
        valid=FilesConfig(file="valid.tsv"),
        src_field="0",
        tgt_field="1",
        max_source_length=5,
    )
    config = TokenizerConfig(type="bpe", vocab_size=300)
    return data, train_tokenizer(training_text(data, "src"), config)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tokenizing, "PAIRS_PER_PROCESS", 500)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("copies", [False, True])
def test_the_rows_and_the_report_do_not_depend_on_the_number_of_processes(
    corpus: tuple[DataConfig, Tokenizer], copies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, tokenizer = corpus
    one, report = training_set(data, tokenizer, tokenizer, copies=copies, segments=True)
    assert 0 < report.empty < report.pairs_read == PAIRS
    assert report.duplicates > 0
    assert report.too_long_source > 0
    for processes, parts in ((2, 2), (8, 4)):
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / f"cache{processes}")
        rows, same = training_set(data, tokenizer, tokenizer, copies=copies, segments=True, processes=processes)
        assert len(list((tmp_path / f"cache{processes}").rglob("rows-*"))) == parts
        assert same == report
        assert rows[:] == one[:]
        assert Rows(rows, copies=copies).fingerprint == Rows(one, copies=copies).fingerprint


def test_random_segmentations_do_not_depend_on_the_number_of_processes(
    corpus: tuple[DataConfig, Tokenizer], tmp_path: Path
) -> None:
    data, tokenizer = corpus

    def sampled(epoch: int, processes: int) -> dict[str, list[object]]:
        options = {"sampling": Sampling(dropout=0.3), "seed": 1, "epoch": epoch, "processes": processes}
        return sampled_set(data, tokenizer, tokenizer, **options)[:]

    assert sampled(0, 3) == sampled(0, 1) != sampled(1, 3)
    assert not list((tmp_path / "cache").rglob("tmp*"))  # the files have no name any more


class ShortSamples(WordTokenizer):
    """Segments a word into two pieces, but samples one."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [2 * row for row in super().encode_batch(texts)]

    def segment(self, texts: Sequence[str]) -> list[Segments]:
        return [Segments(*(2 * values for values in row)) for row in super().segment(texts)]

    def sample(self, texts: Sequence[str], sampling: Sampling, seed: int) -> list[Segments]:
        return super().segment(texts)


def test_a_pair_that_is_too_long_is_not_kept_when_its_sample_is_short() -> None:
    tokenizer = ShortSamples([*SPECIALS, "a"])
    random = RandomSegmentation(Sampling(), 1, 0)
    tokenize = PairTokenizer(
        tokenizer, tokenizer, limits=(5, 5), too_long="drop", copies=False, segments=False, random=random
    )
    texts = {"src": ["a a", "a a a", "a a a a a"], "tgt": ["a"] * 3, "corpus": [0] * 3}
    rows, _ = tokenize(texts, 0)
    assert rows.to_pydict()["src_ids"] == [[4, 4]], "the deterministic segmentations have 4, 6 and 10 pieces"


def test_a_killed_process_ends_the_training_with_a_message(
    corpus: tuple[DataConfig, Tokenizer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, tokenizer = corpus
    main = os.getpid()

    def killed(self: SentencePieceTokenizer, texts: list[str]) -> list[list[int]]:
        assert os.getpid() != main
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    message = (
        "a process that tokenized the training text ended with the code -9, probably for lack of memory; "
        "set train.threads=1, which tokenizes in one process"
    )
    with monkeypatch.context() as patched:
        patched.setattr(SentencePieceTokenizer, "encode_batch", killed)
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            training_set(data, tokenizer, tokenizer, processes=2)
    assert training_set(data, tokenizer, tokenizer, processes=2)[1].pairs_read == PAIRS


def test_an_error_in_one_process_is_raised_and_the_others_leave_no_file(
    corpus: tuple[DataConfig, Tokenizer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, tokenizer = corpus
    encode = SentencePieceTokenizer.encode_batch

    def fails(self: SentencePieceTokenizer, texts: list[str]) -> list[list[int]]:
        if len(texts) < tokenizing.BATCH:  # the last batch
            raise ValueError("this text cannot be tokenized")
        return encode(self, texts)

    monkeypatch.setattr(SentencePieceTokenizer, "encode_batch", fails)
    with pytest.raises(ValueError, match=r"^this text cannot be tokenized$"):
        training_set(data, tokenizer, tokenizer, processes=2)
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_tokenizing_in_one_process_goes_on_when_the_shell_that_started_it_ends(
    corpus: tuple[DataConfig, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, tokenizer = corpus
    parents = itertools.chain([os.getppid()], itertools.repeat(1))  # a process without a parent gets another one
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    assert training_set(data, tokenizer, tokenizer)[1].pairs_read == PAIRS


def test_a_process_whose_training_was_killed_ends_without_a_file(
    corpus: tuple[DataConfig, Tokenizer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, tokenizer = corpus
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with pytest.raises(ValueError, match=r"^a process that tokenized the training text ended with the code 1, "):
        training_set(data, tokenizer, tokenizer, processes=2)
    assert not list((tmp_path / "cache").rglob("rows-*"))


def test_a_daemon_tokenizes_by_itself(
    corpus: tuple[DataConfig, Tokenizer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker of multiprocessing.Pool is a daemon, and cannot have processes."""
    data, tokenizer = corpus
    monkeypatch.setitem(vars(multiprocessing.current_process())["_config"], "daemon", True)
    training_set(data, tokenizer, tokenizer, processes=2)
    assert [path.name.partition("of")[2] for path in (tmp_path / "cache").rglob("rows-*")] == ["1.arrow"]


def test_of_too_many_pairs_a_sample_is_compared(tmp_path: Path) -> None:
    random = np.random.Generator(np.random.PCG64(1))
    pairs = [(f"source {number}", "target") for number in random.integers(0, 5000, size=10_000).tolist()]
    exact, sampled = Repeats(DataConfig(), len(pairs)), Repeats(DataConfig(), len(pairs), most=3000)
    for repeats in (exact, sampled):
        repeats.add(*zip(*pairs, strict=True))
    expected = len(pairs) - len(Counter(pairs))
    assert (exact.divisor, exact.duplicates()) == (1, expected)
    assert sampled.divisor == 4
    assert sampled.duplicates() % 4 == 0
    assert abs(sampled.duplicates() - expected) < 0.1 * expected
