"""Glossaries and kept spans of translate and of the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import refused, run, write

from seq2seq.commands.options import with_terms
from seq2seq.data.line_terms import TermResult
from seq2seq.serving.batching_queue import ServedTranslation
from seq2seq.translator import Translator

MODEL = Path(__file__).parents[1] / "fixtures" / "model"
TEXT = "w1 w2 x-77\nw3\n"


@pytest.fixture
def glossary(tmp_path: Path) -> Path:
    return write(tmp_path / "terms.tsv", "w1\tvous plaît\n")


def test_translate_takes_a_glossary_and_kept_spans(glossary: Path) -> None:
    options = ("--glossary", glossary, "--keep", "[a-z]-[0-9]+", "--keep", "urls", "--max-length-ratio", 4)
    translator = Translator.load(MODEL).with_terms({"w1": ["vous plaît"]}, ["[a-z]-[0-9]+", "urls"])
    expected = translator.with_search(max_length_ratio=4.0).search(TEXT.splitlines())
    assert run("translate", MODEL, *options, text=TEXT).stdout.splitlines() == [
        best.translation for (best,) in expected
    ]
    printed = run("translate", MODEL, *options, "--format", "jsonl", text=TEXT).stdout.splitlines()
    assert [json.loads(line)["terms"] for line in printed] == [
        [
            {"source": "w1", "targets": ["vous plaît"], "start": 0, "end": 2, "kept": False, "met": True},
            {"source": "x-77", "targets": ["x-77"], "start": 6, "end": 10, "kept": True, "met": True},
        ],
        [],
    ]
    assert "x-77" in expected[0][0].translation
    assert "vous plaît" in expected[0][0].translation


def test_a_term_that_is_lacking_is_reported(glossary: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(glossary, "w1\tvous plaît" + " vous" * 40 + "\n")
    result = run("translate", MODEL, "--glossary", glossary, "--max-length-ratio", 0.1, text=TEXT)
    assert result.exit_code == 0
    (message,) = [record.getMessage() for record in caplog.records if "lacks" in record.getMessage()]
    assert message.startswith("line 1: the translation lacks, or has too often: vous plaît vous")


def test_what_is_refused(glossary: Path, tmp_path: Path) -> None:
    assert refused("translate", MODEL, "--glossary", glossary, "--samples", 2) == (
        "a glossary and kept spans require beam search, but search.samples is 2; translate without sampling"
    )
    assert refused("translate", MODEL, "--keep", "(") == (
        "what is kept must be one of urls, emails, tags, numbers or a regular expression, but ( is none: missing ), "
        "unterminated subpattern at position 0"
    )
    assert refused("translate", MODEL, "--glossary", tmp_path / "none") == (
        f"{tmp_path / 'none'} cannot be read: No such file or directory"
    )
    assert refused("translate", MODEL, "--glossary", glossary, "--output", glossary) == (
        f"the output must not be a file that is read, but {glossary} is the same file as {glossary}; write to another file"
    )


def test_a_run_is_not_resumed_with_another_glossary(glossary: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    lines = write(tmp_path / "in.txt", TEXT)
    arguments = ("translate", MODEL, "--input", lines, "--output", output, "--glossary", glossary)
    assert run(*arguments).exit_code == 0
    record = json.dumps({"lines": 0, "size": 0, "input": "", "options": {"--glossary": "one with the hash 0"}})
    write(tmp_path / "out.txt.partial", "w")
    write(tmp_path / "out.txt.partial.json", record)
    assert "another" in refused(*arguments, "--resume")


def test_the_server_answers_with_the_terms(glossary: Path) -> None:
    translator = with_terms(Translator.load(MODEL), glossary, None)
    ((best,),) = translator.search(["w1"])
    assert ServedTranslation(**vars(best)).as_dict()["terms"] == best.as_dict()["terms"]
    assert best.terms == [TermResult("w1", ["vous plaît"], 0, 2, False, best.terms[0].met)]
    plain = Translator.load(MODEL)
    assert with_terms(plain, None, []) is plain
