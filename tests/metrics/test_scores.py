"""Corpus scores: known values, the effect of each option, reports, and every error."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import random
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import sacrebleu
from sacrebleu.tokenizers import tokenizer_ja_mecab, tokenizer_ko_mecab, tokenizer_spm

from seq2seq import __version__
from seq2seq.config import VALIDATION_METRICS
from seq2seq.metrics import rouge, summary
from seq2seq.metrics.resampling import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED
from seq2seq.metrics.scores import (
    BLEU_TOKENIZERS,
    METRIC_GROUPS,
    METRICS,
    SACREBLEU,
    Score,
    expand_groups,
    report_scores,
    score,
)

CAT = ["the cat sat on the mat"]
REFERENCE = ["the cat sat on a mat"]
KNOWN = (
    "bleu, chrf, chrf++, ter, wer, cer, exact, rouge1, rouge2, rougeL, rougeLsum, copied, novel-1, novel-2, novel-3, "
    "novel-4, repeated-1, repeated-2, repeated-3, repeated-4, length-ratio, numbers, names, rouge, summary"
)
JIWER = importlib.metadata.version("jiwer")
SECOND = ["a dog lay on the mat"]


def one(hypotheses: list[str], *references: list[str], metric: str = "bleu", **options: object) -> Score:
    (result,) = score(hypotheses, references, metrics=[metric], **options)  # type: ignore[arg-type]
    return result


def test_identical_text_is_perfect() -> None:
    lines = ["A man rides a red bicycle.", "Ein Hund läuft über die Wiese!"]
    found = {item.name: item.score for item in score(lines, [lines], metrics=list(SACREBLEU))}
    assert found == pytest.approx({"BLEU": 100, "chrF2": 100, "chrF2++": 100, "TER": 0})


def test_bleu_by_hand() -> None:
    result = one(CAT, REFERENCE)
    assert result.score == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert result.details["precisions"] == pytest.approx([500 / 6, 60, 50, 100 / 3])
    assert result.details["counts"] == [5, 3, 2, 1]
    assert result.details["totals"] == [6, 5, 4, 3]


def test_brevity_by_hand() -> None:
    result = one(["the cat sat on"], REFERENCE)
    assert result.details["bp"] == pytest.approx(math.exp(1 - 6 / 4))
    assert result.score == pytest.approx(100 * math.exp(1 - 6 / 4))
    assert (result.details["sys_len"], result.details["ref_len"]) == (4, 6)
    assert result.details["ratio"] == pytest.approx(4 / 6)


def test_two_references_by_hand() -> None:
    result = one(CAT, REFERENCE, SECOND)
    assert result.score == pytest.approx(100 * (5 / 6 * 5 / 5 * 3 / 4 * 1 / 3) ** 0.25)
    assert "nrefs:2" in result.signature


def test_chrf_by_hand() -> None:
    precision, recall = 1, (2 / 3 + 1 / 2) / 2  # of characters and pairs; the hypothesis has no triple
    assert one(["ab"], ["abc"], metric="chrf").score == pytest.approx(
        500 * precision * recall / (4 * precision + recall)
    )


def test_ter_by_hand() -> None:
    result = one(CAT, REFERENCE, metric="ter")
    assert result.score == pytest.approx(100 / 6)
    assert result.details == {"num_edits": 1, "ref_length": 6}


def test_equals_sacrebleu() -> None:
    hypotheses = ["The dog runs over the green field.", "Two men, one hat", ""]
    references = ["A dog runs across the green field.", "Two men with one hat.", "Nothing."]
    found = score(hypotheses, [references], metrics=list(SACREBLEU))
    assert [item.score for item in found] == [
        sacrebleu.corpus_bleu(hypotheses, [references]).score,
        sacrebleu.corpus_chrf(hypotheses, [references]).score,
        sacrebleu.corpus_chrf(hypotheses, [references], word_order=2).score,
        sacrebleu.corpus_ter(hypotheses, [references], case_sensitive=True).score,
    ]


def test_empty_hypotheses_score_nothing() -> None:
    assert one(["", ""], ["a b c d", "e f g h"]).score == 0


@pytest.mark.parametrize("metric", SACREBLEU)
def test_lowercase_changes_every_sacrebleu_metric(metric: str) -> None:
    hypotheses, references = ["The Cat sat on the Mat"], ["the cat sat on the mat"]
    exact, loose = (
        one(hypotheses, references, metric=metric),
        one(hypotheses, references, metric=metric, lowercase=True),
    )
    assert loose.score == pytest.approx(0 if metric == "ter" else 100)
    assert exact.score != pytest.approx(loose.score)
    assert "case:mixed" in exact.signature
    assert "case:lc" in loose.signature


@pytest.mark.parametrize(
    ("tokenize", "hypothesis", "reference"),
    [
        ("none", "we all go home now.", "we all go home now ."),
        ("zh", "我们今天去北京看朋友", "我们明天去北京看朋友"),
        ("char", "internationalisation", "internationalization"),
        ("intl", "he said «yes we can»", "he said « yes we can »"),
    ],
)
def test_tokenize_changes_bleu(tokenize: str, hypothesis: str, reference: str) -> None:
    usual, other = one([hypothesis], [reference], tokenize="13a"), one([hypothesis], [reference], tokenize=tokenize)
    assert usual.score != pytest.approx(other.score)
    assert "tok:13a" in usual.signature
    assert f"tok:{tokenize}" in other.signature


def test_13a_is_the_default() -> None:
    assert one(CAT, REFERENCE) == one(CAT, REFERENCE, tokenize="13a")


def test_signatures() -> None:
    version = f"version:{sacrebleu.__version__}"
    bleu, chrf, chrf_words, ter = score(CAT, [REFERENCE], metrics=list(SACREBLEU))
    assert bleu.signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    assert chrf.signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|{version}"
    assert chrf_words.signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|{version}"
    assert ter.signature == f"nrefs:1|case:mixed|tok:tercom|norm:no|punct:yes|asian:no|{version}"


def test_tokenize_does_not_change_other_metrics() -> None:
    lines, references = ["we all go home now."], [["we all go home now ."]]
    assert score(lines, references, metrics=["ter", "bleu"], tokenize="none")[0] == one(
        *[lines, *references], metric="ter"
    )


def test_text_report() -> None:
    lines = report_scores(score(CAT, [REFERENCE], metrics=["bleu", "chrf", "ter"])).split("\n")
    assert lines[0].startswith(
        "BLEU = 53.73 (83.3/60.0/50.0/33.3 BP = 1.000 ratio = 1.000 hyp_len = 6 ref_len = 6)  nrefs:1|"
    )
    assert lines[1].startswith("chrF2 = ")
    assert lines[2].startswith("TER = 16.67  nrefs:1|")
    assert len(lines) == 3


def test_json_report_keeps_every_digit() -> None:
    scores = score(["The cat sat on a Mat in May 2020."], [REFERENCE], metrics=list(METRICS), sources=CAT)
    assert [Score(**item) for item in json.loads(report_scores(scores, "json"))] == scores


def test_rouge_report() -> None:
    scores = score(CAT, [REFERENCE, SECOND], metrics=["rouge"], intervals=True)
    assert [item.name for item in scores] == ["ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum"]
    assert scores[0].score == pytest.approx(500 / 6)
    assert scores[0].details == pytest.approx(dict.fromkeys(("low", "high", "precision", "recall"), 500 / 6))
    assert report_scores(scores).split("\n")[0] == f"ROUGE-1 = 83.33 [83.33, 83.33]  {rouge.signature(2)}"


def test_summary_report() -> None:
    scores = score(["the cat saw a cat"], [REFERENCE], metrics=["summary"], sources=CAT)
    signature = f"nrefs:1|case:lc|tok:words|version:seq2seq-{__version__}"
    lines = report_scores(scores).split("\n")
    assert lines[0] == f"copied = 60.00 (3 of 5)  {signature}"
    assert f"length-ratio = 0.83 (5 of 6)  {signature}" in lines
    assert f"numbers = none (0 of 0)  {signature}" in lines
    assert [line.split()[0] for line in lines if line.startswith("repeated")] == ["repeated-3"]
    found = {item["name"]: item["score"] for item in json.loads(report_scores(scores, "json"))}
    assert (found["numbers"], found["repeated-1"]) == (None, pytest.approx(20))


def test_metrics_do_not_depend_on_each_other() -> None:
    scores = score(CAT, [REFERENCE], metrics=["rouge", "bleu", "summary"], sources=CAT, lowercase=True, tokenize="char")
    assert scores[4] == one(CAT, REFERENCE, lowercase=True, tokenize="char")
    assert scores[:4] == score(CAT, [REFERENCE], metrics=["rouge"])


@pytest.mark.parametrize(("count", "tokenize", "warned"), [(100, None, 1), (99, None, 0), (100, "none", 0)])
def test_tokenized_text_gives_a_warning(
    count: int, tokenize: str | None, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["we go home ."] * count + ["we go home."] * 20
    with caplog.at_level(logging.WARNING):
        one(lines, lines, tokenize=tokenize)
    assert len(caplog.messages) == warned
    message = '100 of 120 hypotheses end in " ."; BLEU scores are comparable only on detokenised text'
    assert all(found == message for found in caplog.messages)


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (
            ["a", "b"],
            [["a", "b", "c"]],
            "there are 2 hypotheses but 3 lines in reference 1; they must match line by line",
        ),
        (
            ["a", "b"],
            [["a", "b"], ["a"]],
            "there are 2 hypotheses but 1 lines in reference 2; they must match line by line",
        ),
        ([], [[]], "there is nothing to score: the hypotheses have 0 lines"),
        (["a"], [], "there is nothing to score against: 0 streams of references were given"),
        (["a"], ["a"], "references must be a list of streams of lines, but is one stream; put it into a list"),
    ],
)
def test_lines_are_checked(hypotheses: list[str], references: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        score(hypotheses, references)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["blue"]}, f"metric must be one of {KNOWN}, but is blue"),
        ({"metrics": []}, f"metrics must name at least one of {KNOWN}, but is empty"),
        ({"tokenize": "moses"}, f"tokenize must be one of {', '.join(BLEU_TOKENIZERS)}, but is moses"),
        (
            {"metrics": ["ter", "chrf"], "tokenize": "zh"},
            "tokenize=zh has no effect on ter and chrf, only on bleu; remove tokenize, or add the metric bleu",
        ),
        (
            {"metrics": ["rouge", "summary"], "lowercase": True, "sources": CAT},
            "lowercase has no effect on rouge and summary, because case is always ignored there; remove lowercase, or add one of bleu, chrf, chrf++, ter, wer, cer, exact",
        ),
        (
            {"metrics": ["summary"]},
            "the metric summary requires the source lines, but sources is None; give the sources or remove summary",
        ),
        (
            {"metrics": ["summary"], "sources": ["a", "b"]},
            "there are 1 hypotheses but 2 sources; they must match line by line",
        ),
    ],
)
def test_names_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        score(CAT, [REFERENCE], **options)  # type: ignore[arg-type]


def test_format_is_checked() -> None:
    with pytest.raises(ValueError, match=r"^the format of a report must be one of text, json, but is xml$"):
        report_scores(score(CAT, [REFERENCE]), "xml")


@pytest.mark.parametrize(("language", "module"), [("ja", tokenizer_ja_mecab), ("ko", tokenizer_ko_mecab)])
def test_an_error_names_the_package_that_a_tokenizer_needs(
    language: str, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MeCab", None)
    message = (
        f"the tokenizer {language}-mecab requires the package sacrebleu[{language}]; install it with "
        f'pip install "sacrebleu[{language}]", or choose another with tokenize'
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        one(CAT, REFERENCE, tokenize=f"{language}-mecab")


@pytest.mark.parametrize("failure", [URLError("no network"), SystemExit(1)])
def test_an_error_names_the_download_that_a_tokenizer_needs(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise failure

    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr(tokenizer_spm, "download_file", refuse)
    message = (
        "the tokenizer flores200 requires a SentencePiece model that sacrebleu downloads at its first use; use it once on a "
        "machine with a network, or choose another with tokenize"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        one(CAT, REFERENCE, tokenize="flores200")


def test_exact_counts_lines_that_equal_a_reference() -> None:
    hypotheses = ["a  b", "A b", "c", "d"]
    references = [["a b", "a b", "x", "d "], ["y", "y", "c", "y"]]
    (found,) = score(hypotheses, references, metrics=("exact",))
    assert (found.name, found.score, found.details) == ("exact", 75.0, {"part": 3, "of": 4})
    (one,) = score(hypotheses, references[:1], metrics=("exact",))
    assert one.score == 50.0
    (lower,) = score(hypotheses, references, metrics=("exact",), lowercase=True)
    assert lower.score == 100.0
    assert "case:lc" in lower.signature
    assert "case:mixed" in found.signature


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("the cat sat down here", "13a"),
        ("今天我们去北京看看", "zh"),
        ("今日は北京へ行きます", "char"),
        ("กินข้าวที่บ้าน", "char"),
    ],
)
def test_the_script_of_the_references_selects_the_tokenizer_of_bleu(line: str, expected: str) -> None:
    found = one([line, line], [line, line])
    assert f"tok:{expected}" in found.signature
    assert found.score == pytest.approx(100)  # 13a would treat a clause as one word, and find no 4-grams
    assert one([line], [line], tokenize="none").signature != found.signature


def test_the_table_and_the_choices_of_train_metric_are_equal() -> None:
    with_direction = [name for name, metric in METRICS.items() if metric.higher_is_better is not None]
    assert sorted(VALIDATION_METRICS) == sorted([*with_direction, "loss"])
    assert {name for names in METRIC_GROUPS.values() for name in names} <= METRICS.keys()
    assert not METRICS.keys() & METRIC_GROUPS.keys()


@pytest.mark.parametrize("name", [name for name in VALIDATION_METRICS if name != "loss"])
def test_the_direction_of_every_metric(name: str) -> None:
    source = ["Ann Lee paid 20 for 3 of the books that Tom had brought"]
    good, bad = source, ["Bob Kay paid 21 paid 21 paid 21 paid 21 paid 21 and then Jim Fox paid 21 paid 21"]
    best, worst = (one(lines, source, metric=name, sources=source).score for lines in (good, bad))
    assert (best > worst) is METRICS[name].higher_is_better
    assert best != worst


def test_every_metric_and_every_group_has_a_score_with_a_signature() -> None:
    scores = score(CAT, [REFERENCE], metrics=list(METRICS), sources=CAT)
    assert len({item.name for item in scores}) == len(METRICS)
    assert all("nrefs:1|case:" in item.signature and "version:" in item.signature for item in scores)
    for group, names in METRIC_GROUPS.items():
        assert score(CAT, [REFERENCE], metrics=[group], sources=CAT) == score(
            CAT, [REFERENCE], metrics=names, sources=CAT
        )
        assert expand_groups(["bleu", group]) == ("bleu", *names)


def test_a_single_measure_of_summary_is_printed() -> None:
    for name in summary.MEASURES:
        (found,) = score(CAT, [REFERENCE], metrics=[name], sources=CAT)
        assert report_scores([found]).startswith(f"{name} = ")
    with pytest.raises(ValueError, match=r"^the metric novel-2 requires the source lines, but sources is None; "):
        score(CAT, [REFERENCE], metrics=["novel-2"])


# ---- word and character error rate


def test_wer_by_hand() -> None:
    found = one(["the cat sat on mat today", "a b"], ["the dog sat on the mat", "a b c d"], metric="wer")
    assert found.details == {"part": 5, "of": 10}  # dog -> cat, -the, +today; -c, -d
    assert (found.name, found.score) == ("WER", 50)
    assert found.signature == f"nrefs:1|case:mixed|tok:whitespace|version:jiwer-{JIWER}"


def test_cer_by_hand() -> None:
    found = one(["kitten", " a  b "], ["sitting", "a c"], metric="cer")
    assert found.details == {"part": 4, "of": 10}  # three edits of seven; a space is a character
    assert found.signature == f"nrefs:1|case:mixed|tok:char|version:jiwer-{JIWER}"


def test_wer_counts_a_moved_block_word_by_word_and_ter_as_one_edit() -> None:
    hypotheses, references = ["c d e f g a b"], ["a b c d e f g"]
    assert one(hypotheses, references, metric="wer").details["part"] == 4
    assert one(hypotheses, references, metric="ter").details["num_edits"] == 1


@pytest.mark.parametrize(("metric", "part"), [("wer", 2), ("cer", 3)])
def test_all_tokens_are_insertions_if_the_reference_is_empty(metric: str, part: int) -> None:
    found = one(["x y", "a b"], ["", "a b"], metric=metric)
    assert found.details == {"part": part, "of": part}
    assert one(["", "a b"], [" ", "a b"], metric=metric).details["part"] == 0
    assert one(["", "a"], ["a b", "a"], metric=metric).details["part"] == part  # deletions
    nothing, all_empty = (one([line], [""], metric=metric, intervals=True) for line in ("x y", ""))
    assert (nothing.score, nothing.details["of"]) == (100, 0)
    assert (all_empty.score, all_empty.details["of"]) == (0, 0)


def test_every_line_uses_the_reference_with_the_lowest_error_rate() -> None:
    found = one(["a b", "x y z"], ["a b c", "x"], ["q q q q q q", "x y q q q q"], metric="wer")
    assert found.details == {"part": 1 + 4, "of": 3 + 6}  # 1/3 and not 6/6; 4/6 and not 2/1
    assert "nrefs:2" in found.signature
    assert one(["a"], [""], ["a"], metric="wer").score == 0


def test_error_rates_can_ignore_case() -> None:
    for metric, errors in (("wer", 2), ("cer", 2)):
        mixed, lower = (one(["The Cat"], ["the cat"], metric=metric, lowercase=case) for case in (False, True))
        assert (mixed.details["part"], lower.details["part"]) == (errors, 0)
        assert ("case:mixed" in mixed.signature, "case:lc" in lower.signature) == (True, True)


def test_error_rates_do_not_depend_on_how_many_lines_are_processed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hypotheses = [f"a b {number}" for number in range(7)]
    references = [[f"a {number} b" for number in range(7)]]
    found = score(hypotheses, references, metrics=["wer", "cer"])
    monkeypatch.setattr("seq2seq.metrics.error_rate.LINES_AT_A_TIME", 3)
    assert score(hypotheses, references, metrics=["wer", "cer"]) == found


# ---- intervals


def random_text(seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices("abcd", k=draw.randint(3, 9))) for _ in range(60)]


@pytest.mark.parametrize("metric", SACREBLEU)
def test_the_interval_is_that_of_sacrebleu(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hypotheses, references = random_text(1), random_text(2)
    monkeypatch.setenv("SACREBLEU_SEED", str(BOOTSTRAP_SEED))
    measure, _ = SACREBLEU[metric](False, "13a")
    expected = measure.corpus_score(hypotheses, [references], n_bootstrap=BOOTSTRAP_SAMPLES)
    found = one(hypotheses, references, metric=metric, intervals=True)
    assert found.score == expected.score
    assert (found.details["high"] - found.details["low"]) / 2 == pytest.approx(expected._ci, rel=1e-4)
    assert found.signature == str(measure.get_signature())


@pytest.mark.parametrize("metric", [name for name, metric in METRICS.items() if not metric.requires_sources])
def test_every_metric_has_an_interval_around_its_score(metric: str) -> None:
    hypotheses, references = random_text(1), random_text(2)
    plain, found = (one(hypotheses, references, metric=metric, intervals=choice) for choice in (False, True))
    assert found.score == plain.score
    assert "low" not in plain.details
    assert found.details["low"] <= found.score <= found.details["high"]
    if metric != "exact":  # no line is exact
        assert found.details["low"] < found.details["high"]
    assert set(found.signature.split("|")) - set(plain.signature.split("|")) == {
        f"bs:{BOOTSTRAP_SAMPLES}",
        f"seed:{BOOTSTRAP_SEED}",
    }
    assert one(hypotheses, references, metric=metric, intervals=True) == found
    assert (
        f"{found.name} = {found.score:.2f} [{found.details['low']:.2f}, {found.details['high']:.2f}]"
        in report_scores([found])
    )


def test_the_interval_of_counts_is_that_of_the_central_limit() -> None:
    draw = random.Random(3)
    hypotheses = ["a" if draw.random() < 0.3 else "b" for _ in range(1000)]
    for metric, mean in (("exact", 30), ("wer", 70)):
        found = one(hypotheses, ["a"] * 1000, metric=metric, intervals=True)
        half = 1.96 * 100 * (0.3 * 0.7 / 1000) ** 0.5
        assert found.score == pytest.approx(mean, abs=half)
        assert found.details["low"] == pytest.approx(found.score - half, abs=0.15 * half)
        assert found.details["high"] == pytest.approx(found.score + half, abs=0.15 * half)
