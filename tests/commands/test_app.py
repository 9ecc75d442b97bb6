"""The command line: as many lines out as in, and every error of the user in one line with exit code 2."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from command_line import refused, run, write

from seq2seq import model_dir, selfcheck
from seq2seq.config import Config, ModelConfig, SearchConfig, TokenizerConfig, keys
from seq2seq.metrics import significance
from seq2seq.metrics.scores import METRIC_GROUPS, METRICS, report_scores
from seq2seq.metrics.scores import score as corpus_score
from seq2seq.model_dir import Settings, Tokenizers
from seq2seq.text.factory import train_tokenizer
from seq2seq.threads import max_threads
from seq2seq.training.trainer import Trainer
from seq2seq.translation import Translation
from seq2seq.translator import Translator
from seq2seq.version import __version__

ROOT = Path(__file__).parents[2]
TEXT = ["a man sleeps .", "two women walk in the rain", "the dog runs", "A child, laughing."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained model: its translations mean nothing, but are the same every time."""
    folder = tmp_path_factory.mktemp("cli") / "model"
    tokenizer = TokenizerConfig(type="char", vocab_size=50)
    tokenizers = Tokenizers(*[train_tokenizer(TEXT, tokenizer)] * 2)
    search = SearchConfig(beam_size=3, max_length_ratio=1.0, max_length_extra=3)
    settings = Settings(ModelConfig(cell="gru", embedding_size=8, hidden_size=8), tokenizer, search, 40)
    torch.manual_seed(3)
    model_dir.save_settings(folder, settings, tokenizers)
    made = model_dir.build_model(settings, tokenizers)
    with torch.no_grad():
        made.readout.logits.weight.mul_(4)  # sharper, so that translations differ from line to line
    model_dir.save_weights(folder, made)
    return str(folder)


@pytest.fixture
def translator(model: str) -> Translator:
    return Translator.load(model, device="cpu")


# ---- sampling, constraints, prefixes and minimum Bayes risk


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["--samples", 4], {"samples": 4}),
        (["--samples", 4, "--seed", 5], {"samples": 4, "seed": 5}),
        (["--samples", 4, "--temperature", 0.3], {"samples": 4, "temperature": 0.3}),
        (["--samples", 4, "--top-k", 2], {"samples": 4, "top_k": 2}),
        (["--samples", 4, "--top-p", 0.5], {"samples": 4, "top_p": 0.5}),
        (["--mbr", "chrf"], {"mbr": "chrf"}),
        (["--samples", 8, "--mbr", "bleu"], {"samples": 8, "mbr": "bleu"}),
        (["--no-repeat-ngram", 1], {"no_repeat_ngram": 1}),
        (["--repetition-penalty", 3], {"repetition_penalty": 3.0}),
        (["--forbid", "e c"], {"forbidden": "e c"}),
        (["--no-repeat-ngram", 1, "--may-repeat", "i n"], {"no_repeat_ngram": 1, "may_repeat": "i n"}),
    ],
)
def test_options_of_the_search_have_their_effect(
    model: str, translator: Translator, arguments: list[Any], changes: dict[str, Any]
) -> None:
    lines = TEXT * 2
    expected = translator.with_search(**changes).translate(lines)
    smaller = translator.with_search(**dict(list(changes.items())[:-1])).translate(lines)
    assert expected != smaller
    assert run("translate", model, *arguments, text="\n".join(lines)).stdout.splitlines() == expected


def test_samples_do_not_depend_on_chunks(model: str, translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = translator.with_search(samples=2).translate(["a dog"] * 30)
    assert len(set(expected)) > 10
    monkeypatch.setattr("seq2seq.data.stream.chunks", lambda lines, **options: ([line] for line in lines))
    result = run("translate", model, "--samples", 2, text="a dog\n" * 30)
    assert result.stdout.splitlines() == expected


def test_prefixes_are_read_with_the_lines(
    model: str, translator: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixes = ["A child", "", "two w"]
    file = write(tmp_path / "prefixes", "\n".join(prefixes) + "\n")
    expected = translator.translate(TEXT[:3], prefixes=prefixes)
    assert expected[0].startswith("A child")
    assert run("translate", model, "--prefix", file, text="\n".join(TEXT[:3])).stdout.splitlines() == expected
    monkeypatch.setattr("seq2seq.data.stream.chunks", lambda lines, **options: ([line] for line in lines))
    assert run("translate", model, "--prefix", file, text="\n".join(TEXT[:3])).stdout.splitlines() == expected
    found = [
        json.loads(line)
        for line in run(
            "translate", model, "--prefix", file, "--format", "jsonl", text="\n".join(TEXT[:3])
        ).stdout.splitlines()
    ]
    assert [one["forced_pieces"] for one in found] == [len(translator.tokenizers.tgt.encode(text)) for text in prefixes]
    assert [one["translation"] for one in found] == expected
    assert refused("translate", model, "--prefix", file, text=b"a\n" * 4) == (
        f"{file} must have a line for every line of standard input, but has only 3; add the missing lines, empty ones where "
        "nothing is forced"
    )
    assert refused("translate", model, "--prefix", file, text=b"a\n" * 2) == (
        f"{file} must have a line for every line of standard input, which has 2 lines, but has more; remove the others"
    )
    assert refused("translate", model, "--prefix", file, "--output", file, text=b"a\n" * 3) == (
        f"the output must not be a file that is read, but {file} is the same file as {file}; write to another file"
    )


def test_options_that_contradict_each_other_are_one_line(model: str) -> None:
    assert refused("translate", model, "--samples", 2, "--beam-size", 5, text=b"a\n") == (
        "search.beam_size=5 has no effect with search.samples=2, which draws translations at random; remove one of them"
    )
    assert refused("translate", model, "--top-k", 2, text=b"a\n") == (
        "search.top_k=2 has no effect with search.samples=0, the beam search; remove it, or set search.samples to the number "
        "of translations to draw"
    )
    assert refused("translate", model, "--samples", 2, "--n-best", 3, "--format", "jsonl", text=b"a\n") == (
        "n-best must be from 1 to the number of samples, which is 2, but is 3; set the number of samples higher"
    )


# ---- as many lines out as in


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a dog\n", ["a dog"]),
        (b"a dog", ["a dog"]),
        (b"a dog\nruns", ["a dog", "runs"]),
        (b"a dog\n\n \t\nruns\n\n", ["a dog", "", " \t", "runs", ""]),
        (b"a dog\r\nruns\r\n", ["a dog", "runs"]),
        (b"\xef\xbb\xbfa dog\nruns\n", ["a dog", "runs"]),
        (
            "a\u2028dog\na\u0085dog\na\x0cdog\na\x0bdog\na\x1cdog\n".encode(),
            [f"a{c}dog" for c in "\u2028\u0085\f\v\x1c"],
        ),
        ("a 狗\n".encode(), ["a 狗"]),
    ],
)
def test_as_many_lines_out_as_in_and_in_their_order(
    model: str, translator: Translator, tmp_path: Path, text: bytes, lines: list[str]
) -> None:
    expected = "".join(line + "\n" for line in translator.translate(lines)).encode()
    result = run("translate", model, text=text)
    assert (result.exit_code, result.stderr, result.stdout_bytes) == (0, "", expected)
    assert expected.count(b"\n") == len(lines)
    out = tmp_path / "out"
    from_file = run("translate", model, "--input", write(tmp_path / "in", text), "--output", out)
    assert (from_file.exit_code, from_file.stdout_bytes, out.read_bytes()) == (0, b"", expected)


def test_blank_lines_do_not_reach_the_model(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Translator, "_search_batch", lambda self, sources: pytest.fail("the model was called"))
    assert run("translate", model, text="\n  \n\u2028\n").stdout_bytes == b"\n\n\n"


def test_a_translation_with_a_line_break_stays_one_line(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Translator, "search", lambda self, lines, **options: [[Translation("a\nb")] for _ in lines])
    monkeypatch.setattr(Translator, "translate", lambda self, lines, **options: ["a\nb\r" for _ in lines])
    assert run("translate", model, text="x\ny\n").stdout_bytes == b"a b \na b \n"
    as_json = run("translate", model, "--format", "jsonl", text="x\n").stdout
    assert json.loads(as_json)["translation"] == "a\nb"


def test_a_long_source_is_cut_with_its_line_named(model: str, caplog: pytest.LogCaptureFixture) -> None:
    result = run("translate", model, "--format", "jsonl", text="a dog\n" + "the dog runs " * 10 + "\n")
    assert result.exit_code == 0
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()][1] in ("source_cut", "max_length")
    assert any("line 2 has" in message and "is cut to 40" in message for message in caplog.messages)


def test_cut_translations_are_counted_once_at_the_end(model: str, caplog: pytest.LogCaptureFixture) -> None:
    text = "a dog\n\n" + "the dog runs\n" * 3
    for flags in ([], ["--format", "jsonl"]):
        caplog.clear()
        result = run("translate", model, "--max-length-ratio", "0", "--min-length", "9", *flags, text=text)
        assert result.exit_code == 0
        assert caplog.messages == [
            "4 of 4 translations were cut at the maximum length; raise it with --max-length-ratio"
        ]


def test_many_long_sources_give_four_warnings(model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "lines"
    path.write_text(("the dog runs " * 20 + "\n") * 9)
    for command in (
        ["translate", model, "--input", str(path)],
        ["evaluate", model, "--src", str(path), "--ref", str(path)],
        ["score", model, "--src", str(path), "--tgt", str(path)],
    ):
        caplog.clear()
        assert run(*command).exit_code == 0
        assert [message for message in caplog.messages if "data.max_source_length" in message] == [
            *(
                f"line {number} has 260 pieces and is cut to 40, the model's data.max_source_length"
                for number in (1, 2, 3)
            ),
            "9 lines are too long; each is cut to 40, the model's data.max_source_length",
        ]


def test_a_long_source_is_split_if_asked(model: str, caplog: pytest.LogCaptureFixture) -> None:
    text = "a dog\n" + "the dog runs " * 10 + "\n"
    result = run("translate", model, "--too-long", "split", text=text)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 2)
    assert any("line 2 has" in message and "is split into" in message for message in caplog.messages)


# ---- flags of translate


FLAGS: list[tuple[list[str], dict[str, Any]]] = [
    (["--beam-size", "1"], {"beam_size": 1}),
    (["--length-penalty", "0"], {"length_penalty": 0.0}),
    (["--too-long", "split"], {"too_long": "split"}),
    (["--max-length-ratio", "0"], {"max_length_ratio": 0.0}),
    (["--min-length", "9"], {"min_length": 9}),
    (["--batch-tokens", "7"], {"batch_tokens": 7}),
]


@pytest.mark.parametrize(("flags", "changes"), FLAGS, ids=lambda x: str(x))
def test_flags_change_the_search_and_only_that_setting(
    model: str, monkeypatch: pytest.MonkeyPatch, flags: list[str], changes: dict[str, Any]
) -> None:
    seen: list[dict[str, Any]] = []
    original = Translator.translate

    def translate(self: Translator, lines: list[str], **options: Any) -> Any:
        seen.append(dict(vars(self.search_config)))
        return original(self, lines, **options)

    monkeypatch.setattr(Translator, "translate", translate)
    assert run("translate", model, *flags, text="a dog\n").exit_code == 0
    assert run("translate", model, text="a dog\n").exit_code == 0
    assert seen == [seen[1] | changes, seen[1]]
    assert seen[0] != seen[1]


def test_jsonl_holds_all_fields(model: str, translator: Translator) -> None:
    lines = ["a dog", "", "two women"]
    result = run("translate", model, "--format", "jsonl", text="".join(line + "\n" for line in lines))
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["translation"] for record in records] == translator.translate(lines)
    assert records[1]["status"] == "empty"
    for record in (records[0], records[2]):
        fields = {
            "translation",
            "score",
            "log_prob",
            "token_log_probs",
            "pieces",
            "source_pieces",
            "alignment",
            "status",
            "p_gen",
            "copied_from",
            "copied_share",
            "coverage",
            "uncovered",
            "limits",
            "terms",
            "forced_pieces",
            "utility",
            "invalid_utf8",
        }
        assert set(record) == fields
        assert record["log_prob"] == pytest.approx(sum(record["token_log_probs"]), abs=1e-4)
        assert record["score"] == pytest.approx(record["log_prob"] / len(record["token_log_probs"]), abs=1e-4)
        assert len(record["alignment"]) == len(record["pieces"]) == len(record["token_log_probs"]) - 1
        assert all(0 <= place <= len(record["source_pieces"]) for place in record["alignment"])
        assert record["status"] in ("ok", "max_length")


def test_n_best_gives_a_list_per_line(model: str) -> None:
    result = run("translate", model, "--format", "jsonl", "--n-best", "3", text="a dog\nruns\n")
    for line in result.stdout.splitlines():
        found = json.loads(line)
        assert len(found) == 3
        assert [item["score"] for item in found] == sorted((item["score"] for item in found), reverse=True)
        assert len({tuple(item["pieces"]) for item in found}) == 3
    assert result.stdout.count("\n") == 2


def test_threads_reach_torch(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    run("translate", model, "--threads", "3", text="a\n")
    run("translate", model, text="a\n")
    assert asked == [3]


# ---- bad input is named, and other errors


def test_mistakes_of_translate(model: str, tmp_path: Path) -> None:
    assert refused("translate", tmp_path / "nosuch") == f"there is no model directory {tmp_path / 'nosuch'}"
    assert "holds no model: config.json and model.safetensors" in refused("translate", tmp_path)
    assert refused("translate", model, "--input", tmp_path / "x").startswith(
        f"{tmp_path / 'x'} cannot be read: No such"
    )
    assert "can't be written: No such file" in refused(
        "translate", model, "--output", tmp_path / "x" / "y", text=b"a\n"
    )
    assert "requires --format jsonl" in refused("translate", model, "--n-best", 2)
    many = refused("translate", model, "--n-best", 4, "--format", "jsonl", text=b"a\n")
    assert many.startswith("n-best must be from 1 to the beam size, which is 3, but is 4")
    if not torch.cuda.is_available():
        assert "torch finds no GPU here" in refused("translate", model, "--device", "cuda")


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("translate M --input", "--input"),
        ("translate M --output", "--output"),
        ("evaluate --ref x --hyp", "--hyp"),
        ("evaluate --hyp x --ref", "--ref"),
        ("evaluate M --ref x --src", "--src"),
        ("score M --tgt x --src", "--src"),
        ("score M --src x --tgt", "--tgt"),
        ("plot M --text x --output", "--output"),
    ],
)
def test_an_empty_file_name_is_refused(model: str, command: str, option: str, empty: str) -> None:
    name, *arguments = [model if word == "M" else word for word in command.split()]
    message = f"Invalid value for '{option}': it must be the name of a file, but is empty; see seq2seq {name} --help"
    assert refused(name, *arguments, empty) == message


@pytest.mark.parametrize("arguments", [["translate"], ["selfcheck"], ["evaluate", "--src", "x", "--ref", "x"]])
def test_an_empty_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x", "a\n")
    command, *options = arguments
    message = "the path of a model must name a model or run directory, but is empty"
    assert refused(command, "", *options) == message


@pytest.mark.parametrize("option", ["--length-penalty", "--max-length-ratio"])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400", "-1", "x"])
def test_a_number_that_is_none_is_refused(model: str, option: str, number: str) -> None:
    message = refused("translate", model, option, number)
    setting = option.removeprefix("--").replace("-", "_")
    assert f"'{option}'" in message or message.startswith(f"search.{setting} must be a number of at least 0 and below ")


@pytest.mark.parametrize("command", ["translate", "selfcheck", "evaluate --hyp x --ref x"])
def test_too_many_threads(model: str, command: str) -> None:
    name, *options = command.split()
    number = max_threads() + 1
    assert refused(name, *([] if options else [model]), *options, "--threads", number) == (
        f"--threads must be at most {max_threads()} on this machine with {os.cpu_count()} cores, but is {number}: "
        "more threads than cores are slower, and too many crash the process"
    )


def test_an_output_is_not_lost_to_a_mistake(model: str, tmp_path: Path) -> None:
    lines = write(tmp_path / "lines", "a b\n")
    assert "write to another file" in refused("translate", model, "--input", lines, "--output", lines)
    refused("translate", model, "--input", tmp_path / "missing", "--output", lines)
    refused("translate", model, "--n-best", 9, "--format", "jsonl", "--output", lines, text=b"a\n")
    assert lines.read_text() == "a b\n"


def test_a_flag_is_checked_like_the_setting_it_stands_for(model: str) -> None:
    assert "search.length_penalty must be" in refused("translate", model, "--length-penalty", "1000")


def test_invalid_utf8_is_replaced_and_counted(
    model: str, translator: Translator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "in", b"a dog\n\xff\n\na\xff\n\xc3(\nthe \xf0\x9f\nruns")
    lines = ["a dog", "\ufffd", "", "a\ufffd", "\ufffd(", "the \ufffd", "runs"]
    result = run("translate", model, "--input", path)
    assert (result.exit_code, result.stdout.splitlines()) == (0, translator.translate(lines))
    advice = "convert the file to UTF-8, or give --strict to stop at such a line"
    replaced = "the invalid bytes were replaced by U+FFFD"
    expected = f"{path}: 4 lines are not valid UTF-8 (lines 2, 4, 5, ...); {replaced}; {advice}"
    messages = [message for message in caplog.messages if "UTF-8" in message]
    assert messages == [expected]
    as_json = run("translate", model, "--format", "jsonl", text=path.read_bytes())
    assert [json.loads(line)["invalid_utf8"] for line in as_json.stdout.splitlines()] == [
        line_number in (2, 4, 5, 6) for line_number in range(1, 8)
    ]
    messages = [message for message in caplog.messages if "UTF-8" in message]
    assert messages[1] == expected.replace(str(path), "standard input")
    assert run("translate", model, text=b"\xff\n").exit_code == 0
    messages = [message for message in caplog.messages if "UTF-8" in message]
    assert messages[2] == f"standard input: 1 line is not valid UTF-8 (line 1); {replaced}; {advice}"


def test_strict_stops_at_invalid_utf8_after_the_lines_before_it(model: str, tmp_path: Path) -> None:
    message = "line 3: byte 0xff at position 2 is not valid UTF-8; convert the file to UTF-8"
    result = run("translate", model, "--strict", text=b"a dog\nruns\na\xff\nthe\n")
    assert (result.exit_code, result.stdout.count("\n")) == (2, 2)
    assert result.stderr == f"error: standard input, {message}\n"
    path = write(tmp_path / "in", b"a\nb\na\xff\n")
    assert refused("translate", model, "--strict", "--input", path) == f"{path}, {message}"


# ---- files


def test_a_dash_is_a_standard_stream(model: str, translator: Translator, tmp_path: Path) -> None:
    (expected,) = translator.translate(["a dog"])
    path = write(tmp_path / "in", "a dog\n")
    assert run("translate", model, "--input", "-", "--output", "-", text="a dog\n").stdout == expected + "\n"
    assert run("translate", model, "--input", path, "--output", "-").stdout == expected + "\n"


def test_compression_by_content_and_ending(model: str, translator: Translator, tmp_path: Path) -> None:
    expected = translator.translate(["a dog", "runs"])
    path = write(tmp_path / "in", gzip.compress(b"a dog\nruns\n"))
    out = tmp_path / "out.GZ"
    assert run("translate", model, "--input", path, "--output", out).exit_code == 0
    assert gzip.decompress(out.read_bytes()).decode().splitlines() == expected
    assert run("translate", model, text=path.read_bytes()).stdout.splitlines() == expected


def test_an_output_that_is_its_input_is_refused_and_kept(model: str, tmp_path: Path) -> None:
    lines = write(tmp_path / "lines", "a b\n" * 3)
    os.link(lines, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(lines)
    (tmp_path / "folder").symlink_to(tmp_path)
    for output in (lines, tmp_path / "hard", tmp_path / "soft", tmp_path / "folder" / "hard"):
        message = refused("translate", model, "--input", lines, "--output", output)
        assert message == (
            f"the output must not be a file that is read, but {output} is the same file as {lines}; "
            "write to another file"
        )
    weights = Path(model, "model.safetensors")
    assert f"but {weights} is the same file as" in refused("translate", model, "--output", weights, text=b"a\n")
    before = weights.read_bytes()
    for command in (
        "--input hard >>lines",
        "<hard >>lines",
        "--output hard <lines",
        "--output /dev/stdout <hard >>lines",
    ):
        line = f"{sys.executable} -m seq2seq translate {model} {command}"
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(
            r"error: the output must not be a file that is read, but .* write to another file\n", done.stderr
        )
    assert lines.read_text() == "a b\n" * 3
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "limit", "reason"),
    [
        ("--beam-size", "1,000", "time and memory grow with the beam, and beams above 100 give worse translations"),
        ("--n-best", "1,000", "a search finds at most as many translations as its beam holds"),
        ("--min-length", "1,000,000", "no translation is as long"),
        ("--no-repeat-ngram", "1,000,000", "no translation is as long"),
        ("--samples", "1,000", "time and memory grow with the number of samples"),
        ("--batch-tokens", "10,000,000", "a larger batch does not fit into memory"),
    ],
)
def test_numbers_beyond_sense_are_refused_with_the_reason(model: str, option: str, limit: str, reason: str) -> None:
    for value in (10_000_001, 10**30):
        assert refused("translate", model, option, value, text=b"a\n") == (
            f"Invalid value for '{option}': it must be at most {limit}, but is {value}: {reason}; "
            "see seq2seq translate --help"
        )


def test_a_full_disk_is_one_line(model: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    assert "No space left on device" in refused("translate", model, "--output", "/dev/full", text=b"a\n")


@pytest.mark.parametrize("said", ["CUDA out of memory. Tried", "DefaultCPUAllocator: can't allocate memory: you tried"])
def test_too_little_memory_is_one_line(model: str, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    def search(*arguments: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(Translator, "_search_batch", search)
    message = refused("translate", model, text=b"a dog\n")
    assert (
        message == "a batch does not fit into memory; lower --batch-tokens, or search.batch_tokens of the configuration"
    )


def test_a_damaged_model_is_one_line(model: str, tmp_path: Path) -> None:
    for name in os.listdir(model):
        write(tmp_path / name, Path(model, name).read_bytes())
    write(tmp_path / "model.safetensors", b"half")
    assert "does not fit" in refused("translate", tmp_path, text=b"a\n")
    write(tmp_path / "config.json", b"{")
    assert "config.json is damaged: Expecting property name" in refused("translate", tmp_path, text=b"a\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translate", "m", "--beam-size", "0"], "--beam-size"),
        (["translate", "m", "--beam-sise", "3"], "No such option"),
        (["translate", "m", "--format", "xml"], "xml"),
        (["translate"], "MODEL"),
        (["tranlsate"], "tranlsate"),
        (["score", "m"], "--src"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str) -> None:
    line = refused(*arguments)
    assert message in line
    assert re.search(r"; see seq2seq( translate| score)? --help$", line)


# ---- evaluate, score, selfcheck


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write(tmp_path / "src", "a dog\ntwo women\n")
    write(tmp_path / "hyp", "the dog runs in the rain\nA man sleeps\n")
    write(tmp_path / "ref", "the dog runs in the rain\na man walks\n")
    write(tmp_path / "three", "a\nb\nc\n")
    write(tmp_path / "empty", "")
    return tmp_path


def test_evaluate_files(files: Path) -> None:
    hyp, ref = ((files / name).read_text().splitlines() for name in ("hyp", "ref"))
    metrics = ("bleu", "chrf", "chrf++", "ter", "wer", "cer", "exact")
    asked = [part for metric in metrics for part in ("--metric", metric)]
    given = ["evaluate", "--hyp", files / "hyp", "--ref", files / "ref"]
    result = run(*given, *asked, "--format", "json")
    assert result.exit_code == 0
    expected = corpus_score(hyp, [ref], metrics=metrics, intervals=True)
    assert "|bs:1000|seed:12345|" in expected[0].signature
    assert [(item["score"], item["signature"]) for item in json.loads(result.stdout)] == [
        (item.score, item.signature) for item in expected
    ]
    text = run(*given).stdout
    assert text.startswith(f"BLEU = {expected[0].score:.2f}")
    assert expected[0].signature in text
    assert text.count("\n") == 1
    (lower,) = corpus_score(hyp, [ref], lowercase=True)
    assert lower.score != expected[0].score
    assert f"BLEU = {lower.score:.2f}" in run(*given, "--lowercase").stdout
    assert "tok:char" in run(*given, "--tokenize", "char").stdout
    (two,) = corpus_score(hyp, [ref, hyp])
    assert f"BLEU = {two.score:.2f}" in run(*given, "--ref", files / "hyp").stdout


def test_evaluate_a_model(model: str, translator: Translator, files: Path) -> None:
    (expected,) = corpus_score(
        translator.translate(["a dog", "two women"]), [["the dog runs in the rain", "a man walks"]]
    )
    result = run("evaluate", model, "--src", files / "src", "--ref", files / "ref")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"BLEU = {expected.score:.2f}")


def test_evaluate_scores_an_ensemble(model: str, files: Path) -> None:
    texts = ("--src", files / "src", "--ref", files / "ref", "--metric", "chrf", "--format", "json")
    ensemble = (model, model, "--weight", 2, "--weight", 1, "--mixture", "linear")
    translated = run("translate", *ensemble, text=(files / "src").read_bytes()).stdout
    expected = run("evaluate", "--hyp", write(files / "ensemble", translated), *texts[2:]).stdout
    assert run("evaluate", *ensemble, *texts).stdout == expected
    weights = refused("evaluate", model, model, "--weight", 2, *texts)
    assert weights == refused("translate", model, model, "--weight", 2)
    assert refused("evaluate", "--hyp", files / "hyp", *texts[2:], "--weight", 2) == (
        "--weight has no effect without MODEL; remove it"
    )
    assert refused("evaluate", "--hyp", files / "hyp", *texts[2:], "--mixture", "linear") == (
        "--mixture has no effect without MODEL; remove it"
    )


def test_mistakes_of_evaluate_come_before_the_model_is_loaded(files: Path, tmp_path: Path) -> None:
    src, hyp, ref, three = (files / name for name in ("src", "hyp", "ref", "three"))
    either = "evaluate takes either MODEL with --src FILE, or --hyp FILE"
    assert refused("evaluate", "m", "--src", src, "--hyp", hyp, "--ref", ref) == either
    assert refused("evaluate", "--ref", ref) == either
    assert refused("evaluate", "m", "--ref", ref) == either
    assert refused("evaluate", "--src", src, "--ref", ref) == either
    assert refused("evaluate", "--hyp", hyp) == "evaluate requires --ref FILE"
    mismatch = f"has 2 lines but {three} has 3; they must match line by line"
    assert refused("evaluate", "--hyp", hyp, "--ref", ref, "--ref", three) == f"{hyp} {mismatch}"
    assert refused("evaluate", "nosuch", "--src", src, "--ref", three) == f"{src} {mismatch}"
    names = refused("evaluate", "nosuch", "--src", src, "--ref", ref, "--metric", "blue")
    assert names == f"metric must be one of {', '.join([*METRICS, *METRIC_GROUPS])}, but is blue"
    assert "tokenize must be one of" in refused("evaluate", "--hyp", hyp, "--ref", ref, "--tokenize", "14a")
    only = refused("evaluate", "--hyp", hyp, "--ref", ref, "--metric", "ter", "--tokenize", "char")
    assert "tokenize=char has no effect on ter" in only
    assert "nosuch cannot be read" in refused("evaluate", "--hyp", files / "nosuch", "--ref", ref)
    assert "line 1: byte 0xff" in refused("evaluate", "--hyp", hyp, "--ref", write(files / "bad", b"\xff\n"))
    empty = files / "empty"
    assert refused("evaluate", "--hyp", empty, "--ref", empty) == f"there is nothing to score: {empty} has 0 lines"
    summary = ("evaluate", "--hyp", hyp, "--ref", ref, "--metric", "summary")
    assert refused(*summary) == "the metric summary requires the source lines; add --src FILE"
    assert refused(*summary, "--src", three) == f"{hyp} {mismatch}"
    assert "the metric novel-1 requires the source lines" in refused(*summary[:-1], "novel-1")
    reads = "with --hyp only the metric summary and its measures read --src; remove --src, or add --metric summary"
    assert refused("evaluate", "--hyp", hyp, "--ref", ref, "--src", src) == reads
    assert "lowercase has no effect on summary" in refused(*summary, "--src", src, "--lowercase")
    two = ("--hyp", hyp, "--hyp", hyp)
    several = refused("evaluate", "m", "--src", src, *two, "--ref", ref)
    assert several.startswith("several --hyp are compared with each other, but MODEL is given too; remove MODEL")
    assert refused("evaluate", *two, "--hyp", three, "--ref", ref) == f"{hyp} {mismatch}"
    assert "compared by bleu, chrf, chrf++, ter, wer, cer, exact, rouge1" in refused(
        *summary, "--src", src, "--hyp", hyp
    )
    assert refused("evaluate", *two) == "evaluate requires --ref FILE"


def test_evaluate_rouge_and_summary(files: Path) -> None:
    src, hyp, ref = ((files / name).read_text().splitlines() for name in ("src", "hyp", "ref"))
    metrics = ("rouge", "summary")
    given = ["evaluate", "--hyp", files / "hyp", "--ref", files / "ref", "--ref", files / "src", "--src", files / "src"]
    given += [part for metric in metrics for part in ("--metric", metric)]
    expected = corpus_score(hyp, [ref, src], metrics=metrics, sources=src, intervals=True)
    assert run(*given).stdout == report_scores(expected) + "\n"
    assert run(*given, "--format", "json").stdout == report_scores(expected, "json") + "\n"


def test_evaluate_a_model_by_its_sources(model: str, translator: Translator, files: Path) -> None:
    src, ref = ((files / name).read_text().splitlines() for name in ("src", "ref"))
    expected = corpus_score(translator.translate(src), [ref], metrics=["summary"], sources=src, intervals=True)
    result = run("evaluate", model, "--src", files / "src", "--ref", files / "ref", "--metric", "summary")
    assert result.stdout == report_scores(expected) + "\n"


def test_evaluate_compares_translations(files: Path) -> None:
    src, hyp, ref = ((files / name).read_text().splitlines() for name in ("src", "hyp", "ref"))
    given = ["evaluate", "--hyp", files / "hyp", "--hyp", files / "src", "--ref", files / "ref"]
    systems = [(str(files / "hyp"), hyp), (str(files / "src"), src)]
    assert run(*given).stdout == significance.report_comparisons(significance.compare(systems, [ref])) + "\n"
    options = ["--metric", "bleu", "--metric", "rouge", "--tokenize", "char", "--lowercase", "--format", "json"]
    expected = significance.compare(systems, [ref, hyp], metrics=("bleu", "rouge"), tokenize="char", lowercase=True)
    result = run(*given, "--ref", files / "hyp", *options)
    assert (result.exit_code, result.stdout) == (0, significance.report_comparisons(expected, "json") + "\n")


def test_scores_of_rouge_are_not_imported_before_they_are_used() -> None:
    code = "import sys, seq2seq.commands.app, seq2seq.metrics.scores; print({'rouge_score', 'nltk', 'jiwer', 'rapidfuzz'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "set()\n"


def test_score_prints_the_natural_log_of_every_line(model: str, translator: Translator, files: Path) -> None:
    write(files / "tgt", "the dog\n\n")
    result = run("score", model, "--src", files / "src", "--tgt", files / "tgt")
    expected = [sum(line) for line in translator.score(["a dog", "two women"], ["the dog", ""])]
    assert [float(line) for line in result.stdout.splitlines()] == pytest.approx(expected, abs=1e-5)
    assert all(number < 0 for number in expected)
    mismatch = refused("score", model, "--src", files / "src", "--tgt", files / "three")
    assert mismatch == f"{files / 'src'} has 2 lines but {files / 'three'} has 3; they must match line by line"
    assert "nosuch cannot be read" in refused("score", model, "--src", files / "nosuch", "--tgt", files / "three")
    assert run("score", model, "--src", files / "empty", "--tgt", files / "empty").stdout == ""


def test_selfcheck_reports_by_its_exit_code(
    model: str, translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = run("selfcheck", model)
    assert good.exit_code == 0, good.output
    checks = selfcheck.run_checks(translator)
    assert good.stdout.splitlines() == [f"ok      {check.law}: {check.text}" for check in checks]
    failed = checks[0]._replace(text="bad", ok=False)
    monkeypatch.setattr(selfcheck, "run_checks", lambda translator: [failed])
    bad = run("selfcheck", model)
    assert (bad.exit_code, bad.stdout) == (1, f"FAILED  {failed.law}: bad\n")


def test_version() -> None:
    assert run("--version").stdout == f"seq2seq {__version__}\n"


# ---- train


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings of a tiny run."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for split in ("train", "valid"):
        for side in ("src", "tgt"):
            write(tmp_path / f"{split}.{side}", "".join(line + "\n" for line in TEXT))
    names = [f"data.{split}.{side}={split}.{side}" for split in ("train", "valid") for side in ("src", "tgt")]
    sizes = ["model.hidden_size=8", "model.embedding_size=8", "tokenizer.type=word", "tokenizer.vocab_size=20"]
    limits = ["train.max_updates=2", "train.threads=1", "train.device=cpu", "search.beam_size=1"]
    return [*names, *sizes, *limits, f"data.root={tmp_path}", f"run_dir={tmp_path / 'run'}"]


def test_train_from_the_command_line(corpus: list[str], tmp_path: Path) -> None:
    result = run("train", "name=mine", *corpus)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert "train: 4 pairs read, 4 kept" in result.stderr
    assert "saved in" in result.stderr
    assert run("translate", tmp_path / "run", text="the dog\n\n").stdout.count("\n") == 2
    again = refused("train", "name=mine", *corpus, "train.resume=never")
    assert "holds a run already" in again
    assert "model.cell (was lstm, is gru)" in refused("train", "name=mine", *corpus, "model.cell=gru")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.optimzer=sgd", "there is no setting train.optimzer; the nearest is train.optimizer"),
        ("train.max_updates=many", "could not be converted to Integer"),
        ("train.optimizer=adm", "train.optimizer must be one of adam, adamw, sgd, but is adm"),
        ("train.max_updates", "an argument of train is KEY=VALUE, but train.max_updates has no ="),
        (
            "tokenizer=word",
            "tokenizer is a group of settings, but tokenizer=word gives it one value; set tokenizer.type",
        ),
        ("data.train=x.tsv", "data.train is a group of settings, but data.train=x.tsv gives it one value"),
        ("--epochs 5", "train has no flag --epochs; settings are given as KEY=VALUE"),
        ("run_dir=", "run_dir must not be empty"),
        ("experiment=nosuch", "Could not find 'experiment/nosuch'"),
        ("data.train.src=nosuch", "nosuch cannot be read: No such file"),
        ("data.valid.tgt=nosuch", "nosuch cannot be read: No such file"),
        ("data.train.src=null", "data.train.src and data.train.tgt must name equally many files"),
        ("data.train.file=x.jsonl", "has both"),
        ("model.tie_embeddings=all tokenizer.shared=false", "tokenizer.shared is false"),
        ("model.attention=dot model.attention_size=3", "model.attention_size has no effect"),
        ("train.schedule=inverse_sqrt", "train.warmup is 0"),
        (
            "run_dir=/dev/null/x",
            "/dev/null can't be written: it is a device, not a folder; set run_dir to another folder",
        ),
        ("train.init_from=''", "the path of a model must name a model or run directory, but is empty"),
        (
            "train.seed=null",
            "train.seed must be a whole number of at least 0 and below 9223372036854775808, but is null",
        ),
        ("data.root=null", "data.root must be text, but is null"),
        ("model.cell=null", "model.cell must be one of rnn_tanh, rnn_relu, gru, lstm, but is null"),
        ("tokenizer.shared=null", "tokenizer.shared must be true or false, but is null"),
        ("model=null", "model must be one of the choices that seq2seq train --help lists, but is null"),
    ],
)
def test_mistakes_of_train(corpus: list[str], override: str, message: str) -> None:
    result = run("train", *corpus, *override.split())
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    *report, last = result.stderr.splitlines()  # errors found in the data come after the report on them
    assert last.startswith("error: ")
    assert message in last
    assert not report or report[0] == "train: 4 pairs read, 4 kept"
    assert not any("error" in line.lower() or "Traceback" in line for line in report)


@pytest.mark.parametrize("key", keys())
def test_a_null_value_is_accepted_or_refused_in_one_line(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Config] = []
    monkeypatch.setattr("seq2seq.training.train.train", trained.append)
    result = run("train", f"{key}=null")
    assert len(trained) == (result.exit_code == 0)
    if not trained:
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert result.stderr.startswith(f"error: {key} ")
        assert "is null" in result.stderr or "is a group of settings" in result.stderr


def test_a_section_can_be_given_as_a_whole(corpus: list[str], tmp_path: Path) -> None:
    others = [setting for setting in corpus if "data.train" not in setting]
    assert run("train", *others, f"data.train={{src:{tmp_path}/train.src,tgt:{tmp_path}/train.tgt}}").exit_code == 0


def test_a_cache_that_cannot_be_written_is_one_line(corpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("/dev/null/x"))
    assert "the cache of tokenized text can't be written" in refused("train", *corpus)


def test_the_test_files_sources_that_are_too_long_are_counted(corpus: list[str], tmp_path: Path) -> None:
    long = [f"data.test.{side}={tmp_path / f'train.{side}'}" for side in ("src", "tgt")]
    result = run("train", *corpus, *long, "data.max_source_length=2", "data.too_long=cut")
    assert result.exit_code == 0
    assert "of the test sources are cut to data.max_source_length=2" in result.stderr
    assert "WARNING" not in result.stderr


def test_closed_standard_streams_are_one_line(model: str) -> None:
    for closed, message in (
        ("<&-", b"standard input is closed; give --input"),
        (">&-", b"output is closed; give --output"),
    ):
        command = f"echo | {sys.executable} -m seq2seq translate {model} {closed}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
        assert done.returncode == 2
        assert done.stderr.startswith(b"error: standard ")
        assert message in done.stderr


def test_mistakes_in_training_files(corpus: list[str], tmp_path: Path) -> None:
    src = tmp_path / "train.src"
    write(src, "a\nb\n")
    uneven = refused("train", *corpus)
    assert uneven == f"{src} has 2 lines but {tmp_path / 'train.tgt'} has 4; parallel files must match line by line"
    write(src, b"a\nb\xff\nc\nd\n")
    assert refused("train", *corpus).startswith(f"{src}, line 2: byte 0xff at position 2 is not valid UTF-8")
    records = write(tmp_path / "x.jsonl", '{"src": "a", "tgt": "b"}\n{"src": "a"\n')
    only = [setting for setting in corpus if "data.train" not in setting] + [f"data.train.file={records}"]
    assert refused("train", *only).startswith(f"{records}, line 2: not valid JSON")
    write(src, "")
    write(tmp_path / "train.tgt", "")
    assert "every line of data.train is empty" in refused("train", *corpus)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_training_leaves_with_the_signals_code(
    corpus: list[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    original = Trainer._update

    def update(self: Trainer, group: Any) -> None:
        os.kill(os.getpid(), number)
        original(self, group)

    monkeypatch.setattr(Trainer, "_update", update)
    result = run("train", *corpus)
    assert result.exit_code == 128 + number
    assert result.stderr.splitlines()[-1].startswith(f"{number.name}: stopped after update 1, everything is saved in")


# ---- real processes


def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=ROOT, **options)


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from seq2seq.commands.app import app\n"
        "try: app(['translate', '--help'])\n"
        "except SystemExit: print([m for m in ('torch', 'datasets', 'numpy', 'hydra', 'sacrebleu') if m in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        out, _ = start("-c", code).communicate()
        seconds.append(time.perf_counter() - started)
        assert b"--beam-size" in out
        assert out.splitlines()[-1] == b"[]"
    assert min(seconds) < 2, "the aim is one second; the rest is for a busy machine"


def test_a_slow_pipe_gets_each_line_before_the_next_is_sent(model: str, translator: Translator) -> None:
    with start("scripts/translate.py", model, "--device", "cpu") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in ("a dog", "", "two women"):
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == translator.translate([line])[0].encode() + b"\n"
        process.stdin.close()
        assert process.wait(30) == 0


def test_an_error_while_the_pipe_stays_open_ends_the_command(model: str) -> None:
    with start("-m", "seq2seq", "translate", model, "--n-best", "9", "--format", "jsonl") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"a dog\n")
        process.stdin.flush()
        assert process.wait(60) == 2
        lines = process.stderr.read().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(b"error: n-best must be from 1 to the beam size")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_with_the_number_of_lines(tmp_path: Path) -> None:
    def resident(process: subprocess.Popen[bytes]) -> float:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc here")
    lines = b"".join(b"%d %d %d\n" % (n % 10, n // 10 % 10, n // 100 % 10) for n in range(20_000))
    out = tmp_path / "out"
    options = ("--beam-size", "1", "--max-length-ratio", "0", "--output", out)
    with start("-m", "seq2seq", "translate", ROOT / "tests" / "fixtures" / "model", *options) as process:
        assert process.stdin is not None
        for part in range(10):
            process.stdin.write(lines)  # waits while the pipe is full
            if part == 1:
                early = resident(process)
        late = resident(process)
        process.stdin.close()
        assert process.wait(600) == 0
    assert out.read_bytes().count(b"\n") == 200_000
    assert late - early < 100, f"{early:.0f} MiB after 40,000 lines, {late:.0f} MiB after 200,000"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("lines", "size", "more"), [(1, 50_000_000, 250), (60, 1_000_000, 100)])
def test_memory_is_bounded_for_long_lines(lines: int, size: int, more: int, tmp_path: Path) -> None:
    code = (
        "import resource; from seq2seq.commands.app import app\n"
        "try: app({})\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )

    def peak(content: bytes) -> int:
        source, out = tmp_path / "in", tmp_path / "out"
        source.write_bytes(content)
        arguments = ["translate", str(ROOT / "tests" / "fixtures" / "model"), "--beam-size", "1"]
        arguments += ["--device", "cpu", "--input", str(source), "--output", str(out)]
        with start("-c", code.format(arguments)) as process:
            printed = process.communicate()[0]
            assert process.returncode == 0
        assert out.read_bytes().count(b"\n") == content.count(b"\n")
        return int(printed.split()[-1])  # MiB

    short = peak(b"1 2 3\n" * 60)
    long = peak((b"12 3 45 6 . " * (size // 12) + b"\n") * lines)
    assert long - short < more, f"{short} MiB for short lines, {long} MiB for long ones"


@pytest.mark.parametrize(
    "options", [["--length-penalty", "nan"], ["--max-length-ratio", "nan"], ["--length-penalty", "1e999"]]
)
def test_numbers_that_are_not_finite_are_refused(model: str, options: list[str]) -> None:
    assert options[0][2:].replace("-", "_") in refused("translate", model, *options, text=b"a\n").replace("-", "_")


def test_a_reader_that_leaves_is_no_error(model: str) -> None:
    with start("-m", "seq2seq", "translate", model) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"a dog\n" * 3)
        process.stdin.flush()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""


def test_the_other_scripts_are_the_same_commands(files: Path) -> None:
    with start("scripts/evaluate.py", "--hyp", files / "hyp", "--ref", files / "hyp") as process:
        out, _ = process.communicate()
    assert (process.returncode, out[:13]) == (0, b"BLEU = 100.00")
    with start("scripts/train.py", "train.sed=1") as process:
        _, error = process.communicate()
    assert process.returncode == 2
    assert error == b"error: there is no setting train.sed; the nearest is train.seed\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_names_the_output(model: str) -> None:
    message = refused("translate", model, "--output", "/dev/full", text=b"a dog\n")
    assert message == "/dev/full can't be used: No space left on device"


def test_no_output_overwrites_a_model_or_its_run(model: str, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    shutil.copytree(model, run_folder / "model")
    (run_folder / "last").mkdir()
    for name in ("config.yaml", "last/state.pt", "last/config.json", "model/config.json"):
        path = run_folder / name
        if not path.exists():
            path.write_text("state")
        before = path.read_bytes()
        for given in (run_folder, run_folder / "model"):
            refused("translate", given, "--output", path, text=b"a dog\n")
            assert path.read_bytes() == before
    picture = tmp_path / "x.png"
    os.link(run_folder / "model" / "model.safetensors", picture)
    before = picture.read_bytes()
    refused("plot", run_folder, "--text", "a dog", "--output", picture)
    assert picture.read_bytes() == before
