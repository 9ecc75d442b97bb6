"""N-best lists at the command line: translate --explain, and score --nbest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import refused, run, write

from seq2seq.translator import Translator

MODEL = Path(__file__).parents[1] / "fixtures" / "model"
TEXT = "w1 w2\n\nw3\n"


def read(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return write(tmp_path / "in", TEXT)


def test_rescoring_by_the_same_model_keeps_order_and_scores(tmp_path: Path, lines: Path) -> None:
    command = ("translate", MODEL, "--input", lines, "--beam-size", 3, "--format", "jsonl")
    for n_best in (3, 1):
        written = run(*command, "--n-best", n_best).stdout
        file = write(tmp_path / "list", written)
        result = run("score", MODEL, "--src", lines, "--nbest", file)
        assert result.exit_code == 0, result.output
        before = [found if isinstance(found, list) else [found] for found in read(written)]
        for old, new in zip(before, read(result.stdout), strict=True):
            assert [each["translation"] for each in new] == [each["translation"] for each in old]
            assert [each["first_score"] for each in new] == [each["score"] for each in old]
            assert [each["score"] for each in new] == pytest.approx([each["score"] for each in old], abs=1e-4)
            assert [each["invalid_utf8"] for each in new] == [False] * len(old)


def test_lists_are_ranked_by_the_new_scores_and_other_values_are_kept(tmp_path: Path, lines: Path) -> None:
    texts = ["w1", "Est-ce que madame Manon.", "x y z"]
    entries = [
        {"translation": text, "score": -number, "id": number, "beam": [], "log_prob": 0.0}
        for number, text in enumerate(texts)
    ]
    file = write(tmp_path / "list", "".join(json.dumps(some) + "\n" for some in (entries, [], entries[:1])))
    found = read(run("score", MODEL, "--src", lines, "--nbest", file).stdout)
    expected = Translator.load(MODEL, device="cpu").rescore(["w1 w2"], [texts])[0]
    order = sorted(range(3), key=lambda number: -expected[number].score)
    assert [each["id"] for each in found[0]] == order
    assert order != [0, 1, 2]
    for each in found[0]:
        known = expected[each["id"]]
        assert each["translation"] == texts[each["id"]]
        assert (each["score"], each["log_prob"]) == pytest.approx((known.score, known.log_prob), abs=1e-4)
        assert each["first_score"] == -each["id"]
        assert "beam" not in each
    assert found[1] == []
    assert [each["id"] for each in found[2]] == [0]


def test_a_large_file_is_scored_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    src = write(tmp_path / "src", "w1\nw2 w1\n\nw3\n" + "w1 " * 300 + "\n")
    tgt = write(tmp_path / "tgt", "w1\n\nw2\nw3 w3\nw1\n")
    entries = [[{"translation": text}, {"translation": "w9"}] for text in tgt.read_text("utf-8").splitlines()]
    lists = write(tmp_path / "lists", "".join(json.dumps(some) + "\n" for some in entries))
    commands = [("score", MODEL, "--src", src, *given) for given in (("--tgt", tgt), ("--nbest", lists))]
    whole = [run(*command) for command in commands]
    sizes: list[int] = []
    for name in ("score", "rescore"):
        method = getattr(Translator, name)

        def counted(self: Translator, src: list[str], *given: Any, method: Any = method, **numbers: Any) -> Any:
            sizes.append(len(src))
            return method(self, src, *given, **numbers)

        monkeypatch.setattr(Translator, name, counted)
    monkeypatch.setattr("seq2seq.commands.score.CHUNK", 2)
    for before, command in zip(whole, commands, strict=True):
        result = run(*command)
        assert result.exit_code == before.exit_code == 0, result.output
        found, expected = (read(each.stdout) for each in (result, before))
        if "--tgt" in command:
            assert found == pytest.approx(expected, abs=1e-4)
        else:
            texts, before_texts = (
                [[one["translation"] for one in some] for some in each] for each in (found, expected)
            )
            assert texts == before_texts
    assert [message.split(" has ")[0] for message in caplog.messages] == 4 * ["line 5"]
    assert sizes == 2 * [2, 2, 1]


def test_wrong_lists_are_refused(tmp_path: Path, lines: Path) -> None:
    file = tmp_path / "list"
    for number, (wrong, shown) in enumerate(
        [
            ('{"text": "a"}', '{"text": "a"}'),
            ('[{"translation": 1}]', '{"translation": 1}'),
            ('["a"]', '"a"'),
            ("3", "3"),
        ]
    ):
        write(file, '{"translation": "a"}\n' * number + wrong + "\n")
        assert refused("score", MODEL, "--src", lines, "--nbest", file) == (
            f"{file}, line {number + 1}: each translation must be an object with a text named translation, as "
            f"translate --format jsonl writes it, but is {shown}"
        )
    write(file, "a\n")
    assert refused("score", MODEL, "--src", lines, "--nbest", file) == (
        f"{file}, line 1: not valid JSON (Expecting value)"
    )
    write(file, '{"translation": "a"}\n')
    assert refused("score", MODEL, "--src", lines, "--nbest", file) == (
        f"{lines} has 3 lines but {file} has 1; they must match line by line"
    )


def test_score_takes_either_targets_or_lists(lines: Path) -> None:
    message = "score requires one of --tgt FILE and --nbest FILE, but has {}"
    assert refused("score", MODEL, "--src", lines) == message.format("neither")
    assert refused("score", MODEL, "--src", lines, "--tgt", lines, "--nbest", lines) == message.format("both")
    assert refused("score", MODEL, "--src", lines, "--nbest", lines, "--tgt-field", "x") == (
        "--tgt-field applies to --tgt, but the translations are those of --nbest; remove it"
    )


def test_explain_adds_the_whole_beam_to_the_best_translation(lines: Path) -> None:
    command = ("translate", MODEL, "--input", lines, "--beam-size", 3, "--format", "jsonl")
    whole = read(run(*command, "--n-best", 3).stdout)
    for n_best in (1, 2):
        for found, beam in zip(read(run(*command, "--n-best", n_best, "--explain").stdout), whole, strict=True):
            found = found if isinstance(found, list) else [found]
            shown = found[0].pop("beam")
            assert found == beam[:n_best]
            assert [each["translation"] for each in shown] == [each["translation"] for each in beam]
            assert [each["score"] for each in shown] == [each["score"] for each in beam]
            assert [each["margin"] for each in shown] == [beam[0]["score"] - each["score"] for each in beam]
    assert "beam" not in whole[0][0]


def test_explain_requires_jsonl_and_an_order_by_score(tmp_path: Path) -> None:
    assert refused("translate", MODEL, "--explain") == "--explain adds values to every line and requires --format jsonl"
    explain = ("--explain", "--format", "jsonl")
    message = "--explain compares scores, which don't decide with search.mbr=chrf; give --mbr none, or remove --explain"
    assert refused("translate", MODEL, *explain, "--mbr", "chrf") == message
    saved = tmp_path / "model"
    Translator.load(MODEL, device="cpu").with_search(mbr="chrf").save(saved)
    assert refused("translate", saved, *explain) == message
    assert run("translate", saved, *explain, "--mbr", "none", text="w1\n").exit_code == 0
    assert refused("translate", MODEL, "--resume", "--prefix", "prefixes.txt", "--output", "out.txt") == (
        "--resume can't continue with --prefix; translate without --resume"
    )
