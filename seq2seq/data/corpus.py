"""Read the sentence pairs of the splits train, valid and test, with tags, weights and a share held out for validation."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from seq2seq.config import DataConfig, FilesConfig
from seq2seq.data.records import RECORD_READERS
from seq2seq.data.sources import Pair, PairSource, entries, given, is_named, sources
from seq2seq.text.tags import add_tag


class CorpusPair(NamedTuple):
    """A pair and the number, from 0, of the corpus that it comes from: of the entry in the setting that names its source."""

    pair: Pair
    corpus: int


def read_pairs(files: FilesConfig, data: DataConfig, split: str) -> Iterator[Pair]:
    """Read all pairs of one split, source after source; in a corpus with a tag, the source texts begin with it.

    Args:
        files: ``data.train``, ``data.valid`` or ``data.test``.
        data: holds the folder of relative file names, the field names of records, and the share held out for validation.
        split: "train", "valid" or "test".

    Raises:
        ValueError: the settings name no files, or files that do not fit together.
        CorpusError: a file cannot be used.
    """
    return (pair for pair, _ in read_corpus_pairs(files, data, split))


def read_corpus_pairs(files: FilesConfig, data: DataConfig, split: str) -> Iterator[CorpusPair]:
    """Read all pairs of one split with the numbers of their corpora; see ``read_pairs``."""
    if split == "valid" and data.valid_share:
        if given(data.valid):
            raise ValueError(
                "data.valid_share takes the validation pairs from data.train, but data.valid names files; remove one of them"
            )
        files, key = data.train, "train"
    else:
        key = split
    found = sources(files, data, key)
    tags = corpus_tags(data, key)
    return itertools.chain.from_iterable(_tagged(source, tags[source.corpus], data, split) for source in found)


def _tagged(source: PairSource, tag: str, data: DataConfig, split: str) -> Iterator[CorpusPair]:
    for pair in _divided(source, data, split):
        yield CorpusPair(Pair(add_tag(tag, pair.src), pair.tgt), source.corpus)


def _divided(source: PairSource, data: DataConfig, split: str) -> Iterator[Pair]:
    """Read the pairs of a source; if validation pairs are taken from train, only those of the split."""
    pairs = source.pairs(data)
    if not data.valid_share or split == "test":
        return pairs
    return (pair for pair in pairs if is_held_out(pair.src, data.valid_share) == (split == "valid"))


def is_held_out(src: str, share: float) -> bool:
    """Return whether data.valid_share takes the pairs with this source text from train.

    A fixed hash of the text decides, so the choice depends neither on the order of the pairs nor on a seed of the run, and
    a source is never in both splits.
    """
    number = int.from_bytes(hashlib.blake2b(src.encode(errors="surrogatepass"), digest_size=8).digest(), "big")
    return number < share * 2**64


def read_split(data: DataConfig, split: str) -> list[Pair]:
    """Read all pairs of a split into memory; of ``valid``, only the first ``data.valid_lines`` unless that is 0.

    Raises:
        ValueError: as in ``read_pairs``, or the split holds no pair.
    """
    pairs = read_pairs(getattr(data, split), data, split)
    limit = data.valid_lines if split == "valid" and data.valid_lines else None
    found = list(itertools.islice(pairs, limit))
    if not found and split == "valid" and data.valid_share:
        raise ValueError(f"data.valid_share={data.valid_share} takes no pair from data.train for validation; raise it")
    if not found:
        raise ValueError(f"data.{split} must hold at least one pair, but its files are empty")
    return found


def training_text(data: DataConfig, side: str) -> Iterator[str]:
    """Read the raw texts of one side ("src" or "tgt") of the training pairs, without tags, to train a tokenizer on."""
    found = sources(data.train, data, "train")
    return (getattr(pair, side) for source in found for pair in _divided(source, data, "train"))


def corpus_tags(data: DataConfig, split: str = "train") -> list[str]:
    """Return the tag of each corpus of a split, empty where there is none.

    Raises:
        ValueError: a tag is not one word, or there are not as many as corpora.
    """
    return [_tag(value, f"data.{split}.tag") for value in _each(getattr(data, split), "tag", "", split)]


def training_tags(data: DataConfig) -> list[str]:
    """Return the tags of the training corpora, sorted.

    Raises:
        ValueError: a tag is not one word, or validation or test pairs have a tag that no training pair has.
    """
    found = {split: set(corpus_tags(data, split)) - {""} for split in ("train", "valid", "test")}
    for split in ("valid", "test"):
        for tag in sorted(found[split] - found["train"]):
            known = ", ".join(sorted(found["train"])) or "none"
            raise ValueError(f"data.{split}.tag must be a tag of data.train.tag ({known}), but is {tag}")
    return sorted(found["train"])


def training_weights(data: DataConfig) -> list[float]:
    """Return the weight of each training corpus: how many times an epoch draws its pairs.

    Raises:
        ValueError: a weight is not a positive number, or there are not as many as corpora.
    """
    for split in ("valid", "test"):
        if getattr(data, split).weight is not None:
            raise ValueError(
                f"data.{split}.weight has no effect, since only training pairs are drawn by weight; remove it"
            )
    weights = _each(data.train, "weight", 1.0, "train")
    for weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= _MOST_WEIGHT:
            raise ValueError(f"data.train.weight must be numbers above 0 and at most {_MOST_WEIGHT}, but is {weight}")
    return [float(weight) for weight in weights]


_MOST_WEIGHT = 1000  # an epoch holds every pair that often


def has_split(data: DataConfig, split: str) -> bool:
    """Return whether a split has pairs: from sources, or taken from train."""
    return (split == "valid" and data.valid_share > 0) or is_named(data, split)


def check_fields(data: DataConfig) -> None:
    """Check that field names are set only if a split has files of records.

    Raises:
        ValueError: a field name is set, but all splits are parallel files.
    """
    if data.hub is not None or any(entries(files.file) for files in (data.train, data.valid, data.test)):
        return
    for side in ("src", "tgt"):
        name = getattr(data, f"{side}_field")
        if name != side:
            raise ValueError(
                f"data.{side}_field={name} applies to files of records only ({', '.join(RECORD_READERS)}), but data names "
                "none; remove it, or set data.train.file instead of data.train.src and data.train.tgt"
            )


def split_stamps(data: DataConfig, split: str) -> list[tuple[int, str, int, int]]:
    """Identify the sources of a split without reading them; empty if there are none, or if they are those of train.

    A stamp begins with the number of the corpus: the files of a pattern are one corpus, those of a list are several.
    """
    if split != "train" and (not has_split(data, split) or (split == "valid" and data.valid_share)):
        return []
    found = sources(getattr(data, split), data, split)
    return [(source.corpus, *stamp) for source in found for stamp in source.stamps()]


def _each(files: FilesConfig, name: str, default: Any, split: str) -> list[Any]:
    """Return the value of a setting for each corpus of a split: one value stands for all of them.

    Raises:
        ValueError: there are neither one value nor as many as corpora.
    """
    value = getattr(files, name)
    count = max(len(entries(files.file)), len(entries(files.src)), 1)
    if not isinstance(value, (list, tuple)):
        return [default if value is None else value] * count
    if len(value) != count:
        raise ValueError(
            f"data.{split}.{name} must be one value or a value for each of the {count} corpora, but has {len(value)}"
        )
    return [default if each is None else each for each in value]


def _tag(value: Any, key: str) -> str:
    tag = str(value)
    if any(char.isspace() or char in "<>" for char in tag):
        raise ValueError(f"{key} must be one word without < and >, such as de, but is {tag}")
    return tag
