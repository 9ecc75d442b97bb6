"""Reading pairs: lines, files and every error; and the cached training set with its report."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import io
import json
import os
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config import DataConfig, FilesConfig, TokenizerConfig
from seq2seq.data.copy_ids import source_copies
from seq2seq.data.corpus import Pair, read_pairs, read_split, training_text
from seq2seq.data.corpus import given as split_given
from seq2seq.data.dataset import sampled_set, training_set
from seq2seq.data.lines import CorpusError, read_lines
from seq2seq.data.report import Report
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.sentencepiece import SentencePieceTokenizer
from seq2seq.text.tokenizer import SPECIALS, UNK, Sampling, Segments
from seq2seq.text.word import WordTokenizer

BOM = b"\xef\xbb\xbf"


class CountingTokenizer(WordTokenizer):
    """Count the texts that are segmented, for encoding or anything else."""

    encoded = 0

    def segment(self, texts: Sequence[str]) -> list[Segments]:
        self.encoded += len(texts)
        return super().segment(texts)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(path: Path, content: str | bytes) -> Path:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def parallel(folder: Path, **settings: Any) -> DataConfig:
    return DataConfig(root=str(folder), train=FilesConfig(src="a.src", tgt="a.tgt"), **settings)


def records(folder: Path, name: str, **settings: Any) -> DataConfig:
    return DataConfig(root=str(folder), train=FilesConfig(file=name), **settings)


def train_pairs(data: DataConfig) -> list[Pair]:
    return list(read_pairs(data.train, data, "train"))


def fails(data: DataConfig, message: str) -> None:
    """Check that reading train fails with exactly this message, on one line."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$") as info:
        train_pairs(data)
    assert "\n" not in str(info.value)


# ---- lines


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"\n", [""]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\r\nb\rc\n\r", ["a\r", "b\rc", ""]),
        ("a\u2028b\u0085c\x0cd\x0be\x1cf\n\u2029".encode(), ["a\u2028b\u0085c\x0cd\x0be\x1cf", "\u2029"]),
        (BOM + b"a\n" + BOM + b"b", ["a", "\ufeffb"]),
        (BOM, []),
        (BOM + b"\n", [""]),
        (b"a\x00b\n", ["a\x00b"]),
    ],
)
@pytest.mark.parametrize("name", ["x.txt", "x.gz"])
def test_lines(content: bytes, lines: list[str], name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, content)
    assert list(read_lines(path)) == list(read_lines(str(path))) == lines
    assert list(read_lines(io.BytesIO(content))) == lines


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(st.text(max_size=8).filter(lambda line: "\n" not in line and not line.endswith("\r"))))
def test_lines_that_were_written_are_read_again(lines: list[str]) -> None:
    content = "".join(line + "\n" for line in lines).encode()
    assert list(read_lines(io.BytesIO(BOM + content))) == lines


def test_a_slow_stream_yields_each_line_at_once() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as stream, open(writer, "wb", buffering=0) as end:
        lines = read_lines(stream, "standard input")
        for line in ("one", "two"):
            end.write(f"{line}\n".encode())
            assert next(lines) == line
        end.write(b"last")
        end.close()
        assert list(lines) == ["last"]
        assert not stream.closed


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
def test_bad_utf8(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, b"good\ncaf\xe9 \n")
    message = f"{path}, line 2: byte 0xe9 at position 4 is not valid UTF-8; convert the file to UTF-8"
    with pytest.raises(CorpusError, match=f"^{re.escape(message)}$"):
        list(read_lines(path))
    reason = "byte 0xff at position 1 is not valid UTF-8; convert the file to UTF-8"
    with pytest.raises(CorpusError, match=rf"^standard input, line 1: {reason}$"):
        list(read_lines(io.BytesIO(b"\xff\xfea\x00"), "standard input"))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.txt cannot be read: No such file or directory$"):
        list(read_lines(tmp_path / "none.txt"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "socket", "a socket"), (Path("/dev/zero"), "a device")):
        message = f"{path} must be a file or a pipe of lines, but is {kind}; give the name of a file"
        with pytest.raises(CorpusError, match=f"^{re.escape(message)}$"):
            list(read_lines(path))
    assert list(read_lines("/dev/null")) == []
    plain = tmp_path / "plain.gz"
    whole = gzip.compress(b"".join(b"%d\n" % (n * n) for n in range(20000)))
    plain.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match=r"plain\.gz cannot be read after line \d+: Compressed file ended"):
        list(read_lines(plain))
    plain.write_bytes(whole[:2000] + b"\x00" * 500 + whole[2500:])
    with pytest.raises(CorpusError, match=r"plain\.gz cannot be read"):
        list(read_lines(plain))


# ---- parallel files


def test_parallel_files_in_order(tmp_path: Path) -> None:
    write(tmp_path / "1.en", "a\n\nc\u2028d\n")
    write(tmp_path / "1.de.gz", "A\r\nB\r\nC")
    write(tmp_path / "2.en", "e")
    write(tmp_path / "2.de", BOM + b"E\n")
    files = FilesConfig(src=["1.en", str(tmp_path / "2.en")], tgt=["1.de.gz", "2.de"])
    data = DataConfig(root=str(tmp_path), train=files, valid=FilesConfig(src="2.en", tgt="2.de"))
    assert train_pairs(data) == [("a", "A"), ("", "B"), ("c\u2028d", "C"), ("e", "E")]
    assert list(read_pairs(data.valid, data, "valid")) == [Pair("e", "E")]
    assert list(training_text(data, "src")) == ["a", "", "c\u2028d", "e"]
    assert list(training_text(data, "tgt")) == ["A", "B", "C", "E"]


@pytest.mark.parametrize(("src", "tgt"), [(5, 3), (3, 5), (0, 1), (1, 0)])
def test_parallel_files_of_different_length(src: int, tgt: int, tmp_path: Path) -> None:
    data = parallel(tmp_path)
    write(tmp_path / "a.src", "x\n" * src)
    write(tmp_path / "a.tgt", "y\n" * tgt)
    fails(
        data,
        f"{tmp_path}/a.src has {src} lines but {tmp_path}/a.tgt has {tgt}; parallel files must match line by line",
    )


def test_settings_without_usable_files(tmp_path: Path) -> None:
    def check(message: str, **files: Any) -> None:
        fails(DataConfig(root=str(tmp_path), train=FilesConfig(**files)), message)

    nothing = "data.train names no files; set data.train.src and data.train.tgt, or data.train.file"
    check(nothing)
    check(nothing, src=[], tgt="", file=[])
    uneven = "data.train.src and data.train.tgt must name equally many files, but data.train.src names"
    check(f"{uneven} 1 and data.train.tgt names 0", src="a.en")
    check(f"{uneven} 0 and data.train.tgt names 2", tgt=["a.de", "b.de"])
    check(f"{uneven} 2 and data.train.tgt names 1", src=["a", "b"], tgt="c")
    both = "data.train must have either src and tgt or file, but has both; remove data.train.file or the others"
    check(both, src="a", tgt="b", file="c.tsv")
    check(both, src="a", file="c.tsv")
    ending = "data.train.file must end in .jsonl, .json, .tsv, .csv or .parquet (text formats also with .gz), but is"
    check(f"{ending} {tmp_path}/c.xml", file="c.xml")
    check(f"{ending} {tmp_path}/c.gz", file=["a.tsv", "c.gz"])
    check(f"{tmp_path}/a.en cannot be read: No such file or directory", src="a.en", tgt="a.de")


def test_settings_are_checked_before_the_first_pair(tmp_path: Path) -> None:
    data = DataConfig(root=str(tmp_path))
    message = "data.test names no files; set data.test.src and data.test.tgt, or data.test.file"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_pairs(data.test, data, "test")


def test_the_home_folder_in_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    advice = "write ./{} for a path in the current folder"
    message = "{} must start with the home folder of a user, but ~nobodyhere has none; " + advice
    data = DataConfig(train=FilesConfig(src="~nobodyhere/a", tgt="b"))
    fails(data, message.format("~nobodyhere/a", "~nobodyhere/a"))
    fails(dataclasses.replace(data, root="~nobodyhere"), message.format("~nobodyhere", "~nobodyhere"))
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a", "x\n")
    assert train_pairs(DataConfig(root="~", train=FilesConfig(src="~/a", tgt="a"))) == [("x", "x")]


def test_given() -> None:
    assert not split_given(FilesConfig())
    assert not split_given(FilesConfig(src=[], tgt="", file=None))
    assert split_given(FilesConfig(src="a"))
    assert split_given(FilesConfig(file=["a"]))


def test_read_split_keeps_the_first_valid_lines(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", "a\tb\nc\td\ne\tf\n")
    files = FilesConfig(file="a.tsv")
    data = DataConfig(root=str(tmp_path), valid=files, test=files, src_field="0", tgt_field="1", valid_lines=2)
    assert read_split(data, "valid") == [("a", "b"), ("c", "d")]
    assert len(read_split(data, "test")) == 3
    assert len(read_split(dataclasses.replace(data, valid_lines=0), "valid")) == 3
    write(tmp_path / "a.tsv", "")
    with pytest.raises(ValueError, match=r"^data\.test must hold at least one pair, but its files are empty$"):
        read_split(data, "test")


# ---- records


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_jsonl(name: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"en": "a\u2028b", "de": "A"}, {"de": "", "id": 3, "en": "two\nlines\r\nor three"}]
    write(tmp_path / name, "\n".join(json.dumps(row, ensure_ascii=len(row) > 2) for row in rows))
    pairs = train_pairs(records(tmp_path, name, src_field="en", tgt_field="de"))
    assert pairs == [("a\u2028b", "A"), ("two lines or three", "")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "not valid JSON (Expecting property name enclosed in double quotes)"),
        ("{", "not valid JSON (Expecting property name enclosed in double quotes)"),
        (
            "[" * 100000,
            "not valid JSON (nested too deeply)",
        ),
        ('["a", "b"]', 'a record must be a JSON object, but is ["a", "b"]'),
        ('{"en": "a", "de": "b"}', "the record has no key src, only: en, de; set data.src_field to one of them"),
        ('{"src": "a", "en": "b"}', "the record has no key tgt, only: src, en; set data.tgt_field to one of them"),
        ("{}", "the record has no key src, only: none; set data.src_field to one of them"),
        ('{"src": null, "tgt": "b"}', "src must be a string, but is null"),
        ('{"src": "a", "tgt": [1, "x"]}', 'tgt must be a string, but is [1, "x"]'),
        ('{"src": "a\\ud800", "tgt": ""}', "src must be valid text, but holds half of a surrogate pair"),
    ],
)
def test_bad_jsonl(line: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{"src": "a", "tgt": "b"}\n' + line + "\n")
    fails(records(tmp_path, "x.jsonl"), f"{path}, line 2: {message}")


@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
def test_tsv_by_number_and_by_name(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, 'id\tde\ten\r\n1\t"A\ta\'\r\n2\t\t "b" \n')
    assert train_pairs(records(tmp_path, name, src_field="en", tgt_field="de")) == [("a'", '"A'), (' "b" ', "")]
    assert train_pairs(records(tmp_path, name, src_field="en", tgt_field="0")) == [("a'", "1"), (' "b" ', "2")]
    numbers: Any = {"src_field": 2, "tgt_field": 1}  # as Hydra parses them
    assert train_pairs(records(tmp_path, name, **numbers))[0] == ("en", "de")


def test_every_tsv_file_has_its_own_header(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", "src\ttgt\na\tA\n")
    write(tmp_path / "b.tsv", "tgt\tsrc\nB\tb\n")
    data = DataConfig(root=str(tmp_path), train=FilesConfig(file=["a.tsv", "b.tsv"]))
    assert train_pairs(data) == [("a", "A"), ("b", "B")]


def test_bad_tsv(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "en\tde\na\tb\nalone\n")
    data = records(tmp_path, "x.tsv", src_field="en", tgt_field="de")
    columns = "data.src_field is column 0 and data.tgt_field is column 1, counted from 0"
    fails(data, f"{path}, line 3: has 1 column, but {columns}")
    fails(
        dataclasses.replace(data, src_field="0", tgt_field="2"),
        f"{path}, line 1: has 2 columns, but data.src_field is column 0 and data.tgt_field is column 2, counted from 0",
    )
    fails(
        dataclasses.replace(data, tgt_field="fr"),
        f"{path}, line 1: the header has no column fr, only: en, de;"
        " set data.tgt_field to a name there or to a column number from 0",
    )
    write(path, "")
    fails(data, f"{path}: the first line must be a header with the columns en and de, but the file is empty")


@pytest.mark.parametrize(("src_field", "subject"), [("en", "the header"), ("0", "line 1")])
@pytest.mark.parametrize(("row", "count"), [("a\tb\tc", "3 columns"), ("a\tb\t", "3 columns"), ("a", "1 column")])
def test_rows_of_another_width_are_refused(row: str, count: str, src_field: str, subject: str, tmp_path: Path) -> None:
    first = "en\tde" if src_field == "en" else "A\tB"
    path = write(tmp_path / "x.tsv", f"{first}\na\tb\n{row}\n")
    data = records(tmp_path, "x.tsv", src_field=src_field, tgt_field="de" if src_field == "en" else "1")
    if count == "1 column":
        message = "data.src_field is column 0 and data.tgt_field is column 1, counted from 0"
    else:
        message = f"{subject} has 2; the usual cause is a tab inside a text, which must be replaced by a space"
    fails(data, f"{path}, line 3: has {count}, but {message}")


def test_a_missing_column_that_is_not_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "a\tb\tc\nd\te\n")
    fails(
        records(tmp_path, "x.tsv", src_field="0", tgt_field="1"),
        f"{path}, line 2: has 2 columns, but line 1 has 3; the usual cause is a tab inside a text, which must be replaced "
        "by a space",
    )


ROWS = {".tsv": ("a\tb\n", "src\ttgt\n"), ".jsonl": ('{"src": "a", "tgt": "b"}\n', "")}


@pytest.mark.parametrize("ending", ROWS)
@pytest.mark.parametrize("blank", ["\n", "\r\n", "\n\n \n", " "])
def test_blank_lines_at_the_end_are_skipped(ending: str, blank: str, tmp_path: Path) -> None:
    row, header = ROWS[ending]
    write(tmp_path / f"x{ending}", header + row + row + blank)
    assert train_pairs(records(tmp_path, f"x{ending}")) == [("a", "b")] * 2


@pytest.mark.parametrize("ending", ROWS)
@pytest.mark.parametrize("blank", ["\n", " \r\n", "\n\n"])
def test_blank_lines_before_a_record_are_refused(ending: str, blank: str, tmp_path: Path) -> None:
    row, header = ROWS[ending]
    path = write(tmp_path / f"x{ending}", header + row + blank + row)
    fails(
        records(tmp_path, f"x{ending}"),
        f"{path}, line {2 + bool(header)}: a line must hold a record, but is blank; remove it (blank lines are skipped at "
        "the end of a file only)",
    )


def test_a_row_of_empty_columns_is_not_blank(tmp_path: Path) -> None:
    write(tmp_path / "x.tsv", "src\ttgt\na\tb\n\t\n")
    assert train_pairs(records(tmp_path, "x.tsv")) == [("a", "b"), ("", "")]


@pytest.mark.parametrize(
    ("first", "warns"),
    [
        ("src\ttgt", True),
        ("EN\tDE", True),
        ("source_text\ttarget_text", True),
        ("English\tGerman sentence", True),
        ("a man\tein Mann", False),
        ("1\t2", False),
        ("no\tno", False),
        ("the source of the river\tthe target", False),
    ],
)
def test_a_header_that_is_read_as_a_pair_is_reported_once(
    first: str, warns: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "x.tsv", f"{first}\na\tb\n")
    data = records(tmp_path, "x.tsv", src_field="0", tgt_field="1")
    assert train_pairs(data) == train_pairs(data) == [tuple(first.split("\t")), ("a", "b")]
    shown = first.replace("\t", " | ")
    message = (
        f"{path}, line 1, looks like a header ({shown}) but is read as a pair, because data.src_field and data.tgt_field "
        "are column numbers; set them to the names of the columns, or ignore this if line 1 is a pair"
    )
    assert caplog.messages == [message] * warns


@pytest.mark.parametrize("name", ["X.TSV", "x.Tsv.GZ", "x.TSV.gz"])
def test_endings_ignore_case(name: str, tmp_path: Path) -> None:
    content = b"src\ttgt\na\tb\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    assert train_pairs(records(tmp_path, name)) == [("a", "b")]


@pytest.mark.parametrize("name", ["x", "x.txt", "x.GZ"])
def test_compressed_files_are_known_by_their_content(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert list(read_lines(tmp_path / name)) == ["one", "two"]
    with (tmp_path / name).open("rb") as stream:
        assert list(read_lines(stream)) == ["one", "two"]
        assert not stream.closed
    assert list(read_lines(io.BytesIO(gzip.compress(b"one\n")))) == ["one"]


def test_a_plain_file_may_end_in_gz(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"plain text\n")
    assert list(read_lines(tmp_path / "x.gz")) == ["plain text"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("key", ["src", "tgt", "file"])
def test_special_files_are_refused_without_opening_them(key: str, tmp_path: Path) -> None:
    write(tmp_path / "text", "a\n")
    os.mkfifo(tmp_path / "pipe.tsv")
    (tmp_path / "folder.tsv").mkdir()
    (tmp_path / "null.tsv").symlink_to("/dev/null")
    for name, kind in (("pipe", "a named pipe"), ("folder", "a folder"), ("null", "a device")):
        path = tmp_path / f"{name}.tsv"
        files = {"file": path} if key == "file" else {"src": tmp_path / "text", "tgt": tmp_path / "text", key: path}
        data = DataConfig(train=FilesConfig(**{side: str(file) for side, file in files.items()}))
        fails(
            data,
            f"data.train.{key} must name regular files, because they are read more than once, but {path} is {kind}; "
            "write the text to a file first",
        )


def test_invalid_bytes_can_be_replaced_and_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "x", BOM + b"a\xff\ngood\n\xc3(\r\n\xf0\x9f\x98")
    numbers: list[int] = []
    assert list(read_lines(path, on_invalid=numbers.append)) == ["a\ufffd", "good", "\ufffd(", "\ufffd"]
    assert numbers == [1, 3, 4]


def test_messages_stay_short_and_on_one_line(tmp_path: Path) -> None:
    write(tmp_path / "x.tsv", "long\r\u2028 " * 1000 + "\n")
    with pytest.raises(CorpusError, match=r"no column src, only: long long .*\.\.\.; set") as info:
        train_pairs(records(tmp_path, "x.tsv"))
    assert len(str(info.value).splitlines()) == 1
    assert len(str(info.value)) < 400


# ---- the training set

SRC = ["a b c", "d", "", "a b c d e", "a b c", "b c", "a ?"]
TGT = ["A B", "D", "E", "A", "A B", "B C D E F", "A"]
WORDS = [*SPECIALS, *"abcdABCDEF"]  # e and ? are unknown


def corpus(folder: Path, **settings: Any) -> DataConfig:
    write(folder / "a.src", "\n".join(SRC) + "\n")
    write(folder / "a.tgt", "\n".join(TGT) + "\n")
    write(folder / "v.tsv", "a b c\tA B\nd\tother\nnew\tnew\n\tE\n")
    data = parallel(folder, max_source_length=4, max_target_length=3, **settings)
    data.valid = FilesConfig(file="v.tsv")
    data.src_field, data.tgt_field = "0", "1"
    return data


def test_training_set_drops_and_reports(tmp_path: Path) -> None:
    tokenizer = CountingTokenizer(WORDS)
    rows, report = training_set(corpus(tmp_path), tokenizer, tokenizer)
    assert rows["line"][:] == [1, 2, 5, 7]
    assert [tokenizer.decode(ids) for ids in rows["src_ids"]] == ["a b c", "d", "a b c", "a ⁇"]
    assert [tokenizer.decode(ids) for ids in rows["tgt_ids"]] == ["A B", "D", "A B", "A"]
    assert rows["src_length"][:] == [3, 1, 3, 2]
    assert rows["tgt_length"][:] == [2, 1, 2, 1]
    ids, lengths = {"src_ids", "copy_ids", "segments", "tgt_ids"}, {"src_length", "tgt_length"}
    assert set(rows.column_names) == ids | lengths | {"line", "corpus"}
    assert rows["copy_ids"][:] == [[]] * 4  # without copying
    assert rows.features["src_ids"].feature.dtype == "int32"
    assert rows.cache_files  # it is on disk
    values = report.as_dict()
    assert values == {
        "pairs_read": 7,
        "pairs_kept": 4,
        "empty": 1,
        "too_long": "drop",
        "too_long_source": 1,
        "too_long_target": 1,
        "valid_share": 0.0,
        "max_source_length": 4,
        "max_target_length": 3,
        "duplicates": 1,
        "duplicates_sample": 1,
        "src_lengths": {"mean": 2.25, "median": 2, "p95": 3, "max": 3},
        "tgt_lengths": {"mean": 1.5, "median": 1, "p95": 2, "max": 2},
        "src_unknown": 1 / 9,
        "tgt_unknown": 0.0,
        "overlap": {"valid_pairs": 4, "valid_pairs_in_train": 1, "valid_sources_in_train": 2},
        "length_limit": {"ratio": 0.6, "extra": 7, "maximum": 9},
        "uncovered": 0.0,
    }
    assert Report.from_dict(json.loads(json.dumps(values))) == report
    assert report.lines() == [
        "train: 7 pairs read, 4 kept",
        "  1 dropped for an empty side",
        "  1 dropped for a source above 4 pieces, 1 for a target above 3",
        "  these are many pairs: set data.too_long=cut, or raise data.max_source_length and data.max_target_length",
        "  1 repeat an earlier pair (kept)",
        "  source length in pieces: mean 2.2, median 2, 95th percentile 3, maximum 3; 11.11% of the pieces are unknown",
        "  target length in pieces: mean 1.5, median 1, 95th percentile 2, maximum 2; 0.00% of the pieces are unknown",
        "  learned length limit: a translation has at most 0.6 * source + 7 pieces, and at most 9;"
        " 0.00% of the kept pairs have a longer target",
        "valid: 4 pairs; 1 of these pairs and 2 of their sources also occur in train",
    ]


def test_training_set_cuts(tmp_path: Path) -> None:
    tokenizer = CountingTokenizer(WORDS)
    rows, report = training_set(corpus(tmp_path, too_long="cut"), tokenizer, tokenizer)
    assert rows["line"][:] == [1, 2, 4, 5, 6, 7]
    assert tokenizer.decode(rows[2]["src_ids"]) == "a b c d"
    assert tokenizer.decode(rows[4]["tgt_ids"]) == "B C D"
    assert (max(rows["src_length"][:]), max(rows["tgt_length"][:])) == (4, 3)
    assert (report.pairs_kept, report.empty, report.too_long_source, report.too_long_target) == (6, 1, 1, 1)
    assert "  1 cut for a source above 4 pieces, 1 for a target above 3" in report.lines()
    few = dataclasses.replace(report, too_long="drop", pairs_read=20)
    assert not any("these are many pairs" in line for line in (*report.lines(), *few.lines()))


COPY_SRC = ["a x b y x", "x y", "a b", "x a z y x"]
COPY_TGT = ["A x y", "x x z", "A q", "x z A y"]


def test_training_set_for_copying(tmp_path: Path) -> None:
    tokenizer = CountingTokenizer(WORDS)
    write(tmp_path / "a.src", "\n".join(COPY_SRC) + "\n")
    write(tmp_path / "a.tgt", "\n".join(COPY_TGT) + "\n")
    data = parallel(tmp_path)
    rows, report = training_set(data, tokenizer, tokenizer, copies=True)
    a, b, A, oov = tokenizer.id("a"), tokenizer.id("b"), tokenizer.id("A"), tokenizer.size
    assert rows["src_ids"][0] == [a, UNK, b, UNK, UNK]  # the input of the encoder
    assert rows["copy_ids"][:] == [
        [a, oov, b, oov + 1, oov],
        [oov, oov + 1],
        [a, b],
        [oov, a, oov + 1, oov + 2, oov],
    ]
    assert rows["tgt_ids"][:] == [[A, oov, oov + 1], [oov, oov, UNK], [A, UNK], [oov, oov + 1, A, oov + 2]]
    assert [len(ids) for ids in rows["copy_ids"]] == rows["src_length"][:]
    assert report.tgt_unknown == 2 / 12  # z and q occur in no source
    plain, plain_report = training_set(data, tokenizer, tokenizer)  # the cache distinguishes the two
    assert plain["tgt_ids"][0] == [A, UNK, UNK]
    assert plain["src_ids"][:] == rows["src_ids"][:]
    assert plain_report.tgt_unknown == 9 / 12
    again, _ = training_set(data, tokenizer, tokenizer, copies=True)
    assert again["copy_ids"][:] == rows["copy_ids"][:]


def test_pieces_that_were_cut_off_a_source_cannot_be_copied(tmp_path: Path) -> None:
    tokenizer = CountingTokenizer(WORDS)
    write(tmp_path / "a.src", "\n".join(COPY_SRC) + "\n")
    write(tmp_path / "a.tgt", "\n".join(COPY_TGT) + "\n")
    data = parallel(tmp_path, max_source_length=3, max_target_length=3, too_long="cut")
    rows, _ = training_set(data, tokenizer, tokenizer, copies=True)
    A, oov = tokenizer.id("A"), tokenizer.size
    assert rows["src_length"][:] == [3, 2, 2, 3]
    assert [len(ids) for ids in rows["copy_ids"]] == [3, 2, 2, 3]
    assert rows["tgt_ids"][:] == [[A, oov, UNK], [oov, oov, UNK], [A, UNK], [oov, oov + 1, A]]


def test_training_set_for_copying_between_two_vocabularies(tmp_path: Path) -> None:
    src, tgt = CountingTokenizer([*SPECIALS, *"abx"]), CountingTokenizer([*SPECIALS, *"ABa"])
    write(tmp_path / "a.src", "a x b\n")
    write(tmp_path / "a.tgt", "A b a x y\n")
    rows, _ = training_set(parallel(tmp_path), src, tgt, copies=True)
    assert rows["src_ids"][0] == [4, 6, 5]
    assert rows["copy_ids"][0] == [6, 7, 8]  # a is in the target vocabulary, x and b are not
    assert rows["tgt_ids"][0] == [4, 8, 6, 7, UNK]


def test_overlap(tmp_path: Path) -> None:
    data = corpus(tmp_path)
    data.test = FilesConfig(src="a.src", tgt="a.tgt")
    tokenizer = WordTokenizer(WORDS)
    assert training_set(data, tokenizer, tokenizer)[1].overlap == {
        "valid_pairs": 4,
        "valid_pairs_in_train": 1,
        "valid_sources_in_train": 2,
        "test_pairs": 7,
        "test_pairs_in_train": 6,  # the blank one does not count
        "test_sources_in_train": 6,
    }
    data.valid = data.test = FilesConfig()
    assert training_set(data, tokenizer, tokenizer)[1].overlap == {}


@pytest.mark.parametrize("copies", [False, True])
def test_sampled_rows_are_other_segmentations_of_the_same_text(tmp_path: Path, copies: bool) -> None:
    write(tmp_path / "a.src", "the black cat sat down\n\nmany cats sat there\n" * 20)
    write(tmp_path / "a.tgt", "le chat noir est assis\nx\nbeaucoup de chats sont assis\n" * 20)
    data = parallel(tmp_path, max_source_length=12)
    src, tgt = (
        train_tokenizer((tmp_path / name).read_text().splitlines(), TokenizerConfig(type="bpe", vocab_size=320))
        for name in ("a.src", "a.tgt")
    )
    plain = training_set(data, src, tgt, copies=copies)[0]

    def sampled(seed: int, epoch: int) -> dict[str, list[Any]]:
        return sampled_set(data, src, tgt, copies=copies, sampling=Sampling(dropout=0.3), seed=seed, epoch=epoch)[:]

    rows = sampled(1, 0)
    assert rows == sampled(1, 0)
    assert len({str(other) for other in (plain[:], rows, sampled(1, 1), sampled(2, 0))}) == 4
    assert len({str(ids) for ids in rows["src_ids"]}) > 20, "every line has its segmentation, not every batch"
    not_blank = [line for line in range(1, 61) if line % 3 != 2]
    kept = list(zip(rows["line"], rows["src_ids"], rows["tgt_ids"], rows["copy_ids"], strict=True))
    assert rows["line"] == plain["line"][:] == not_blank
    assert max(map(len, rows["src_ids"])) <= data.max_source_length
    tight = dataclasses.replace(data, max_source_length=max(plain["src_length"]))
    tight_rows = sampled_set(tight, src, tgt, copies=copies, sampling=Sampling(dropout=0.95), seed=1, epoch=0)
    assert tight_rows["line"][:] == not_blank, "a text whose random segmentation is too long keeps its usual one"
    assert max(tight_rows["src_length"]) == tight.max_source_length
    assert min(map(len, rows["src_ids"])) >= min(map(len, plain["src_ids"]))
    for line, src_ids, tgt_ids, copy_ids in kept:
        assert src.decode(src_ids) == ("many cats sat there" if line % 3 == 0 else "the black cat sat down")
        copies_of_line = source_copies(src.pieces(src_ids), tgt)
        assert tgt.decode(tgt_ids, copies_of_line.oov) == (
            "beaucoup de chats sont assis" if line % 3 == 0 else "le chat noir est assis"
        )
        assert copy_ids == (copies_of_line.copy_ids if copies else [])
    assert (len(rows["src_length"]), len(rows["tgt_length"])) == (len(kept), len(kept))
    assert rows["src_length"] == [len(ids) for ids in rows["src_ids"]]


def test_a_very_long_text_is_not_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.src", "the black cat sat down\n" * 3 + "the black cat " * 50_000 + "\n")
    write(tmp_path / "a.tgt", "le chat noir\n" * 4)
    data = parallel(tmp_path, max_source_length=12, too_long="cut")
    bpe = train_tokenizer(["the black cat sat down le chat noir"], TokenizerConfig(type="bpe", vocab_size=300))
    longest: list[int] = []
    encode = SentencePieceTokenizer._segment

    def record(self: SentencePieceTokenizer, texts: Sequence[str], **options: Any) -> list[Segments]:
        longest.append(max(map(len, texts)))
        return encode(self, texts, **options)

    monkeypatch.setattr(SentencePieceTokenizer, "_segment", record)
    rows = sampled_set(data, bpe, bpe, sampling=Sampling(dropout=0.5), seed=1, epoch=0)
    assert max(longest) < 10_000
    assert rows["src_ids"][3] == bpe.encode("the black cat " * 20)[:12]


def test_the_cache_is_used_if_and_only_if_nothing_has_changed(tmp_path: Path) -> None:
    def encoded(data: DataConfig, tokens: Sequence[str] = WORDS) -> int:
        """Count the texts that a run has to encode; the rows and the report must be right with and without the cache."""
        tokenizer = CountingTokenizer(tokens)
        rows, report = training_set(data, tokenizer, tokenizer)
        assert len(rows) == report.pairs_kept
        assert sum(rows["src_length"][:]) / len(rows) == report.src_lengths.mean
        return tokenizer.encoded

    data = corpus(tmp_path)
    everything = 2 * len(SRC)
    assert encoded(data) == everything
    assert encoded(data) == 0
    assert encoded(data, [*WORDS, "e"]) == everything
    assert encoded(dataclasses.replace(data, max_source_length=5)) == everything
    assert encoded(dataclasses.replace(data, too_long="cut")) == everything
    assert encoded(data) == 0
    write(tmp_path / "a.tgt", "\n".join(TGT).replace("D", "C") + "\n")  # the same size
    os.utime(tmp_path / "a.tgt", (time.time() + 5, time.time() + 5))
    assert encoded(data) == everything
    assert encoded(data) == 0


def test_a_changed_validation_file_changes_the_report(tmp_path: Path) -> None:
    data, tokenizer = corpus(tmp_path), CountingTokenizer(WORDS)
    training_set(data, tokenizer, tokenizer)
    write(tmp_path / "v.tsv", "b c\tB C D E F\n")
    _, report = training_set(data, tokenizer, tokenizer)
    assert report.overlap == {"valid_pairs": 1, "valid_pairs_in_train": 1, "valid_sources_in_train": 1}


def test_a_deleted_report_is_made_again(tmp_path: Path) -> None:
    data, tokenizer = corpus(tmp_path), CountingTokenizer(WORDS)
    _, report = training_set(data, tokenizer, tokenizer)
    (stored,) = (tmp_path / "cache").rglob("report-*.json")
    stored.unlink()
    assert training_set(data, tokenizer, tokenizer)[1] == report
    assert stored.exists()


def test_two_tokenizers_and_more_than_one_batch(tmp_path: Path) -> None:
    data = parallel(tmp_path)
    write(tmp_path / "a.src", "".join(f"s{n}\n" for n in range(2500)))
    write(tmp_path / "a.tgt", "".join(f"t{n} t\n" for n in range(2500)))
    config = TokenizerConfig(type="word", vocab_size=2505)
    src, tgt = (train_tokenizer(training_text(data, side), config) for side in ("src", "tgt"))
    rows, report = training_set(data, src, tgt)
    assert [src.decode(ids) for ids in rows["src_ids"]] == list(training_text(data, "src"))
    assert [tgt.decode(ids) for ids in rows["tgt_ids"]] == list(training_text(data, "tgt"))
    assert rows["line"][:] == list(range(1, 2501))
    assert (report.pairs_read, report.src_lengths.mean, report.tgt_lengths.mean) == (2500, 1, 2)


def test_an_error_if_no_pair_remains(tmp_path: Path) -> None:
    data, tokenizer = parallel(tmp_path, max_source_length=1), CountingTokenizer(WORDS)
    write(tmp_path / "a.src", "a b\n\n")
    write(tmp_path / "a.tgt", "A\nB\n")
    message = (
        "no training pair remains of 2: 1 have an empty side, 1 a source above data.max_source_length=1,"
        " 0 a target above data.max_target_length=256; raise these limits or set data.too_long=cut"
    )
    for _ in range(2):  # from the cache too
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            training_set(data, tokenizer, tokenizer)
    write(tmp_path / "a.src", "\n\n")
    message = (
        "no training pair remains of 2: 2 have an empty side, 0 a source above data.max_source_length=1,"
        " 0 a target above data.max_target_length=256; give pairs with text on both sides"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        training_set(data, tokenizer, tokenizer)
    write(tmp_path / "a.src", "")
    write(tmp_path / "a.tgt", "")
    with pytest.raises(ValueError, match=r"^data\.train must hold at least one pair, but its files are empty$"):
        training_set(data, tokenizer, tokenizer)


def test_errors_of_the_files_are_raised_unchanged(tmp_path: Path) -> None:
    data, tokenizer = parallel(tmp_path), CountingTokenizer(WORDS)
    with pytest.raises(CorpusError, match=r"a\.src cannot be read: No such file or directory$"):
        training_set(data, tokenizer, tokenizer)
    write(tmp_path / "a.src", "a\nb\n")
    (tmp_path / "a.tgt").mkdir()
    with pytest.raises(CorpusError, match=r"^data\.train\.tgt must name regular files, .*/a\.tgt is a folder"):
        training_set(data, tokenizer, tokenizer)
    (tmp_path / "a.tgt").rmdir()
    write(tmp_path / "a.tgt", "A\n")
    for _ in range(2):  # an error leaves nothing in the cache
        with pytest.raises(CorpusError, match=r"a\.src has 2 lines but .*a\.tgt has 1; parallel files must match"):
            training_set(data, tokenizer, tokenizer)
    write(tmp_path / "a.tgt", "A\nB\n")
    assert len(training_set(data, tokenizer, tokenizer)[0]) == 2


def test_training_set_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = CountingTokenizer(WORDS)
    training_set(corpus(tmp_path), tokenizer, tokenizer)
    assert capfd.readouterr() == ("", "")


def raise_full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_until_the_cache_is_closed_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, tokenizer, cache = corpus(tmp_path), CountingTokenizer(WORDS), tmp_path / "cache"

    with monkeypatch.context() as patched:
        patched.setattr("seq2seq.files.os.fsync", lambda _: raise_full_disk())
        with pytest.raises(
            ValueError, match=r"^the cache of tokenized text can't be written: .*No space left on device"
        ):
            training_set(data, tokenizer, tokenizer)
    assert not list(cache.rglob("*tmp*"))
    rows, _ = training_set(data, tokenizer, tokenizer)
    assert len(rows) == 4
