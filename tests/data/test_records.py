"""Records of every format, data sets of the datasets library, hub folders, patterns, tags, weights and held-out pairs."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from seq2seq.config import DataConfig, FilesConfig
from seq2seq.data.corpus import (
    Pair,
    has_split,
    is_held_out,
    read_pairs,
    read_split,
    training_tags,
    training_text,
    training_weights,
)
from seq2seq.data.dataset import training_set
from seq2seq.data.records import Field, read_json_lines, read_records
from seq2seq.data.rows import Rows
from seq2seq.text.tokenizer import SPECIALS
from seq2seq.text.word import WordTokenizer

PAIRS = [
    ("a man, asleep", 'ein "Mann", der schläft'),
    (' "quoted" ', "'"),
    ("", "empty source"),
    ("NA", "null"),
    ("1", "007"),
    ("a\u2028b\x0cc", "日本語 😀"),
    ("true", "-"),
]


@pytest.fixture(autouse=True)
def _temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows_of(pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"id": number, "src": src, "tgt": tgt} for number, (src, tgt) in enumerate(pairs)]


def write_text(folder: Path, pairs: Sequence[tuple[str, str]]) -> FilesConfig:
    for side, texts in zip(("src", "tgt"), zip(*pairs, strict=True), strict=True):
        (folder / f"x.{side}").write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return FilesConfig(src="x.src", tgt="x.tgt")


def write_tsv(folder: Path, pairs: Sequence[tuple[str, str]]) -> FilesConfig:
    lines = ["src\ttgt", *map("\t".join, pairs)]
    (folder / "x.tsv").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return FilesConfig(file="x.tsv")


def write_csv(folder: Path, pairs: Sequence[tuple[str, str]]) -> FilesConfig:
    with (folder / "x.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "src", "tgt"])
        writer.writeheader()
        writer.writerows(rows_of(pairs))
    return FilesConfig(file="x.csv")


def write_jsonl(folder: Path, pairs: Sequence[tuple[str, str]]) -> FilesConfig:
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(pairs)))
    return FilesConfig(file="x.jsonl")


def write_json(folder: Path, pairs: Sequence[tuple[str, str]]) -> FilesConfig:
    (folder / "x.json.gz").write_bytes(gzip.compress(json.dumps(rows_of(pairs), indent=1).encode()))
    return FilesConfig(file="x.json.gz")


def write_parquet(folder: Path, pairs: Sequence[tuple[str, str]]) -> FilesConfig:
    parquet.write_table(pyarrow.Table.from_pylist(rows_of(pairs)), folder / "x.parquet", row_group_size=3)
    return FilesConfig(file="x.parquet")


def make_dataset(folder: Path, pairs: Sequence[tuple[str, str]]) -> FilesConfig:
    return FilesConfig(file=datasets.Dataset.from_list(rows_of(pairs)))


WRITERS = [write_text, write_tsv, write_csv, write_jsonl, write_json, write_parquet, make_dataset]


def pairs_of(data: DataConfig, split: str = "train") -> list[Pair]:
    return list(read_pairs(getattr(data, split), data, split))


def fails(data: DataConfig, message: str) -> None:
    """Check that reading train fails with exactly this message, on one line."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$") as info:
        pairs_of(data)
    assert "\n" not in str(info.value)


def record_file(path: Path, **settings: Any) -> DataConfig:
    return DataConfig(train=FilesConfig(file=str(path)), **settings)


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same_pairs_and_rows(
    write: Callable[[Path, Sequence[tuple[str, str]]], FilesConfig], tmp_path: Path
) -> None:
    data = DataConfig(root=str(tmp_path), train=write(tmp_path, PAIRS))
    assert pairs_of(data) == PAIRS
    expected = DataConfig(root=str(tmp_path), train=write_text(tmp_path, PAIRS))
    tokenizer = WordTokenizer([*SPECIALS, "a", "man", "Mann", "1"])
    found, report = training_set(data, tokenizer, tokenizer, copies=True)
    rows, same_report = training_set(expected, tokenizer, tokenizer, copies=True)
    assert found.to_list() == rows.to_list()
    assert len(found) == len(PAIRS) - 1
    assert report == same_report
    assert Rows(found, copies=True).fingerprint == Rows(rows, copies=True).fingerprint


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_json, write_parquet, make_dataset])
def test_line_breaks_in_a_text_become_spaces(write: Callable[..., FilesConfig], tmp_path: Path) -> None:
    data = DataConfig(root=str(tmp_path), train=write(tmp_path, [("two\nlines", "or\r\nthree\n")]))
    assert pairs_of(data) == [("two lines", "or three ")]


# ---- CSV


def test_csv_columns_by_number_and_long_values(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f'"{"a" * 200_000}","b, ""c"""\nd,\n')
    assert pairs_of(record_file(path, src_field="0", tgt_field="1")) == [("a" * 200_000, 'b, "c"'), ("d", "")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            'a,b\n"c\n\nd,e\n',
            "line 3 to 5: not valid CSV (unexpected end of data); a text that holds a comma or a line break must be in "
            'quotes ("), and a quote in it must be doubled',
        ),
        (
            'a,"b"c\n',
            "line 2: not valid CSV (',' expected after '\"'); a text that holds a comma or a line break must be in "
            'quotes ("), and a quote in it must be doubled',
        ),
        (
            'a,"b\nb"\nc,d,e\n',
            "line 4: has 3 columns, but the header has 2; the usual cause is a comma inside a text that is not in quotes "
            '(")',
        ),
        (
            "a,b\n\nc,d\n",
            "line 3: a line must hold a record, but is blank; remove it (blank lines are skipped at the end of a file only)",
        ),
    ],
)
def test_bad_csv(rows: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("src,tgt\n" + rows)
    fails(record_file(path), f"{path}, {message}")


def test_a_csv_value_in_quotes_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('text\na\n""\nb\n\n')
    assert [record.texts for record in read_records(path, [Field("text", "--src-field")])] == [("a",), ("",), ("b",)]


# ---- JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[{"src": "a", "tgt": "b"},\n {]',
            ", line 2: not valid JSON (Expecting property name enclosed in double quotes)",
        ),
        (
            '{"src": "a"}\n{"src": "b"}',
            ", line 2: not valid JSON (Extra data); a file with one object per line must end in .jsonl",
        ),
        (
            '{"src": "a", "tgt": "b"}',
            ': the file must hold an array of records, but holds {"src": "a", "tgt": "b"}; '
            "a file with one object per line must end in .jsonl",
        ),
        ('[{"src": "a", "tgt": "b"}, 3]', ", record 2: a record must be a JSON object, but is 3"),
        ('[{"src": "a", "tgt": 1}]', ", record 1: tgt must be a string, but is 1"),
        ("[" * 100_000, ": not valid JSON (nested too deeply, or a number too long)"),
    ],
)
def test_bad_json(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    fails(record_file(path), f"{path}{message}")


NESTED = [{"id": 1, "translation": {"en": "a", "fr": "b"}}, {"id": 2, "translation": {"en": "c", "fr": "d"}}]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.parquet"])
def test_nested_keys(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "x.parquet":
        parquet.write_table(pyarrow.Table.from_pylist(NESTED), path)
    else:
        path.write_text("\n".join(map(json.dumps, NESTED)) if name == "x.jsonl" else json.dumps(NESTED))
    assert pairs_of(record_file(path, src_field="translation.en", tgt_field="translation.fr")) == [
        ("a", "b"),
        ("c", "d"),
    ]
    where = {"x.jsonl": "line", "x.json": "record", "x.parquet": "row"}[name]
    only = "only: translation.en, translation.fr" if name == "x.parquet" else "only: id, translation.en, translation.fr"
    fails(
        record_file(path, src_field="translation.en", tgt_field="translation.de"),
        f"{path}, {where} 1: the record has no key translation.de, {only}; set data.tgt_field to one of them",
    )


def test_a_key_with_a_dot_comes_before_a_nested_one() -> None:
    stream = io.BytesIO(b'{"a.b": "flat", "a": {"b": "nested"}}\n')
    assert [record.texts for record in read_json_lines(stream, "input", [Field("a.b", "--src-field")])] == [("flat",)]


# ---- Parquet and data sets


def test_bad_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    fails(record_file(path), f"{path} cannot be read: No such file or directory")
    path.write_text("no Parquet")
    with pytest.raises(ValueError, match=f"^{path} cannot be read: Parquet magic bytes not found"):
        pairs_of(record_file(path))
    parquet.write_table(pyarrow.table({"src": ["a", None], "tgt": ["b", "c"]}), path)
    fails(record_file(path), f"{path}, row 2: src must be a string, but is null")
    fails(
        record_file(path, src_field="text"),
        f"{path}, row 1: the record has no key text, only: src, tgt; set data.src_field to one of them",
    )


def test_all_values_of_a_record(tmp_path: Path) -> None:
    fields = [Field("src", "--src-field")]
    for write, number in ((write_csv, "0"), (write_jsonl, 0), (write_json, 0), (write_parquet, 0)):
        path = tmp_path / write(tmp_path, PAIRS).file
        (first, *_) = read_records(path, fields, all_values=True)
        assert first == ((PAIRS[0][0],), {"id": number, "src": PAIRS[0][0], "tgt": PAIRS[0][1]})


def test_a_dataset_that_is_no_dataset_is_refused() -> None:
    splits = datasets.DatasetDict(train=datasets.Dataset.from_list(rows_of(PAIRS)))
    fails(
        DataConfig(train=FilesConfig(file=splits)),
        "data.train.file must be a datasets.Dataset, but is a DatasetDict; choose a split of it, or save it",
    )
    data = DataConfig(train=FilesConfig(file=splits["train"].select([1])), tgt_field="de")
    fails(
        data,
        "the data set of data.train.file, row 1: the record has no key de, only: id, src, tgt; set data.tgt_field to one "
        "of them",
    )


def hub_folder(folder: Path, *splits: str) -> DataConfig:
    """Write a folder of the layout of a data set on the hub."""
    (folder / "set" / "data").mkdir(parents=True)
    for number, split in enumerate(splits):
        table = pyarrow.Table.from_pylist(rows_of(PAIRS[number : number + 2]))
        parquet.write_table(table, folder / "set" / "data" / f"{split}-00000-of-00001.parquet")
    return DataConfig(root=str(folder), hub="set")


def test_a_hub_folder(tmp_path: Path) -> None:
    data = hub_folder(tmp_path, "train", "validation", "test")
    assert pairs_of(data) == PAIRS[:2]
    assert read_split(data, "valid") == PAIRS[1:3]
    assert read_split(data, "test") == PAIRS[2:4]
    assert has_split(data, "test")
    data.valid = write_jsonl(tmp_path, PAIRS)
    assert read_split(data, "valid") == PAIRS


def test_a_hub_folder_without_a_split(tmp_path: Path) -> None:
    data = hub_folder(tmp_path, "train")
    assert not has_split(data, "test")
    with pytest.raises(
        ValueError,
        match=r"^data\.hub=set has no split validation or valid or dev, only: train; set data\.valid\.file, or "
        r"data\.valid_share to take them from data\.train$",
    ):
        read_split(data, "valid")
    data.valid_share = 0.5
    assert {*read_split(data, "valid"), *pairs_of(data)} == set(PAIRS[:2])


def test_a_hub_name_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ValueError,
        match=r"^data\.hub=nobody/nothing can't be loaded: .*; it must be a data set of the hub \(user/name\) or a folder "
        r"with its files, and data\.hub_config one of its configurations$",
    ) as info:
        pairs_of(DataConfig(root=str(tmp_path), hub="nobody/nothing"))
    assert "\n" not in str(info.value)


# ---- patterns


def test_patterns(tmp_path: Path) -> None:
    for number, (src, tgt) in enumerate(PAIRS[:3]):
        (tmp_path / f"part-{number}.en").write_text(src + "\n", encoding="utf-8")
        (tmp_path / f"part-{number}.de").write_text(tgt + "\n", encoding="utf-8")
    files = FilesConfig(src="part-*.en", tgt="part-[0-9].de")
    assert pairs_of(DataConfig(root=str(tmp_path), train=files)) == PAIRS[:3]
    (tmp_path / "part-[0-9].de").write_text("a name\n")  # a file of this name comes before the pattern
    fails(
        DataConfig(root=str(tmp_path), train=files),
        "data.train.src and data.train.tgt must name equally many files, but data.train.src names 3 and data.train.tgt "
        "names 1",
    )
    fails(
        DataConfig(root=str(tmp_path), train=FilesConfig(file="*.jsonl")),
        f"data.train.file must name files, but no file matches {tmp_path}/*.jsonl",
    )


# ---- validation pairs from train


def test_valid_share_divides_train_by_source(tmp_path: Path) -> None:
    many = [(f"source {number % 1000}", f"target {number}") for number in range(2000)]
    data = DataConfig(root=str(tmp_path), train=write_jsonl(tmp_path, many), valid_share=0.1)
    train, valid = pairs_of(data), read_split(data, "valid")
    assert sorted(train + valid) == sorted(many)
    assert not {pair.src for pair in train} & {pair.src for pair in valid}
    assert 140 < len(valid) < 260
    assert list(training_text(data, "tgt")) == [pair.tgt for pair in train]
    reordered = DataConfig(root=str(tmp_path), train=write_csv(tmp_path, many[::-1]), valid_share=0.1)
    assert sorted(read_split(reordered, "valid")) == sorted(valid)
    larger = DataConfig(root=str(tmp_path), train=data.train, valid_share=0.2)
    assert set(valid) < set(read_split(larger, "valid"))
    tokenizer = WordTokenizer([*SPECIALS, "source"])
    rows, report = training_set(data, tokenizer, tokenizer)
    assert len(rows) == report.pairs_read == len(train)
    assert report.lines()[-1] == (
        f"valid: {len(valid)} pairs, held out from data.train by data.valid_share=0.1; 0 of these pairs and 0 of their "
        "sources also occur in train"
    )


def test_valid_share_that_cannot_work(tmp_path: Path) -> None:
    data = DataConfig(root=str(tmp_path), train=write_jsonl(tmp_path, [("a", "b")]), valid_share=1e-9)
    message = "data.valid_share=1e-09 takes no pair from data.train for validation; raise it"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_split(data, "valid")
    data.valid = data.train
    message = (
        "data.valid_share takes the validation pairs from data.train, but data.valid names files; remove one of them"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_split(data, "valid")
    assert is_held_out("a", 0.999999)
    assert not is_held_out("a", 0.0)


# ---- several corpora


def two_corpora(folder: Path, **settings: Any) -> DataConfig:
    for name, text in (("de", "Hund"), ("fr", "chien")):
        rows = [{"src": f"dog {number}", "tgt": text} for number in range(20)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataConfig(root=str(folder), train=FilesConfig(file=["de.jsonl", "fr.jsonl"], **settings))


def test_tags_of_corpora(tmp_path: Path) -> None:
    data = two_corpora(tmp_path, tag=["de", None])
    assert [pairs_of(data)[number] for number in (0, 20)] == [("<2de> dog 0", "Hund"), ("dog 0", "chien")]
    assert next(training_text(data, "src")) == "dog 0"
    data.train.tag = "x"
    assert {pair.src.split()[0] for pair in pairs_of(data)} == {"<2x>"}
    data.train.tag = ["fr", "de"]
    assert training_tags(data) == ["de", "fr"]
    data.valid.tag = "it"
    with pytest.raises(ValueError, match=r"^data\.valid\.tag must be a tag of data\.train\.tag \(de, fr\), but is it$"):
        training_tags(data)
    data.train.tag = ["de"]
    fails(data, "data.train.tag must be one value or a value for each of the 2 corpora, but has 1")
    data.train.tag = "to German"
    fails(data, "data.train.tag must be one word without < and >, such as de, but is to German")


def test_weights_draw_pairs(tmp_path: Path) -> None:
    data = two_corpora(tmp_path, weight=[2.5, 0.5])
    tokenizer = WordTokenizer([*SPECIALS, "dog", "Hund", "chien"])
    dataset, _ = training_set(data, tokenizer, tokenizer)
    plain, rows = Rows(dataset), Rows(dataset, weights=training_weights(data))
    assert plain.draw(seed=1, epoch=0).tolist() == list(range(40))
    assert plain.fingerprint != rows.fingerprint
    counts = [np.bincount(rows.draw(seed=1, epoch=epoch), minlength=40) for epoch in range(200)]
    assert {*np.concatenate([count[:20] for count in counts])} == {2, 3}
    assert {*np.concatenate([count[20:] for count in counts])} == {0, 1}
    mean = np.mean(counts, axis=0)
    assert mean[:20].mean() == pytest.approx(2.5, abs=0.05)
    assert mean[20:].mean() == pytest.approx(0.5, abs=0.05)
    assert rows.draw(seed=1, epoch=3).tolist() == rows.draw(seed=1, epoch=3).tolist()
    assert rows.draw(seed=1, epoch=3).tolist() != rows.draw(seed=2, epoch=3).tolist()
    few = Rows(dataset, weights=[1e-9, 1e-9])
    with pytest.raises(ValueError, match=r"^data\.train\.weight draws none of the 40 pairs in epoch 0; raise it$"):
        few.draw(seed=1, epoch=0)


def test_the_cache_distinguishes_a_pattern_from_a_list_of_its_files(tmp_path: Path) -> None:
    data, tokenizer = two_corpora(tmp_path), WordTokenizer([*SPECIALS, "dog", "Hund", "chien"])
    found = {}
    for files in ("*.jsonl", ["de.jsonl", "fr.jsonl"]):
        data.train.file = files
        rows, _ = training_set(data, tokenizer, tokenizer)
        found[str(files)] = rows["corpus"][0], rows["corpus"][-1]
    assert list(found.values()) == [(0, 0), (0, 1)]


@pytest.mark.parametrize("weight", [0, -1, 1001, float("nan"), True, "two"])
def test_bad_weights(weight: Any) -> None:
    data = DataConfig(train=FilesConfig(file="x.jsonl", weight=weight))
    message = f"data.train.weight must be numbers above 0 and at most 1000, but is {weight}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        training_weights(data)


def test_a_weight_of_a_split_that_is_not_drawn() -> None:
    data = DataConfig(test=FilesConfig(file="x.jsonl", weight=2))
    message = "data.test.weight has no effect, since only training pairs are drawn by weight; remove it"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        training_weights(data)
