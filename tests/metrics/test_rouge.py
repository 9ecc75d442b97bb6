"""ROUGE: values by hand, agreement with rouge-score, and the confidence intervals."""

from __future__ import annotations

import importlib.metadata
import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from seq2seq.metrics.rouge import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED, ROUGE_KINDS, line_scores, score_rouge, signature
from seq2seq.text.words import sentences

ENGLISH = [
    ("The cat sat on the mat. A dog, 3.5 years old, ran!", "A dog ran in 2020. The cat didn't sit on the mat."),
    ("It's “over”, he said — at last.", "It is over, he said at last. Who knew?"),
    ("", "Nothing."),
    ("Mr. Smith left. He was late.", "Smith was late"),
]


def f1(hypothesis: str, *references: str) -> dict[str, float]:
    return {item.name: item.score for item in score_rouge([hypothesis], [[line] for line in references]).values()}


def f(overlap: int, hyp: int, ref: int) -> float:
    """Return F1 in per cent, from counts."""
    return 100 * 2 * overlap / (hyp + ref)


def random_lines(seed: int, lines: int = 60) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices("abcdefgh", k=draw.randint(3, 9))) for _ in range(lines)]


def test_by_hand() -> None:
    found = f1("the cat sat on the mat", "the cat is on a mat today")
    assert found["ROUGE-1"] == pytest.approx(f(4, 6, 7))
    assert found["ROUGE-2"] == pytest.approx(f(1, 5, 6))
    assert found["ROUGE-L"] == found["ROUGE-Lsum"] == pytest.approx(f(4, 6, 7))


def test_precision_and_recall_by_hand() -> None:
    found = score_rouge(["the cat sat on the mat"], [["the cat is on a mat today"]])["rouge1"]
    assert (found.precision, found.recall) == pytest.approx((400 / 6, 400 / 7))


def test_chinese_by_hand() -> None:
    found = f1("我们今天去北京。", "我们明天去北京")
    assert found["ROUGE-1"] == found["ROUGE-L"] == pytest.approx(f(6, 7, 7))
    assert found["ROUGE-2"] == pytest.approx(f(4, 6, 6))


def test_lsum_compares_sentences_and_l_does_not() -> None:
    found = f1("The dog ran. A cat sat.", "A cat sat. The dog ran.")
    assert found["ROUGE-L"] == pytest.approx(50)
    assert found["ROUGE-Lsum"] == pytest.approx(100)
    assert f1("他走了。我来了。", "我来了。他走了。")["ROUGE-Lsum"] == pytest.approx(100)


def test_l_and_lsum_are_equal_on_single_sentences() -> None:
    for found in line_scores(random_lines(1), [random_lines(2)]):
        assert found["rougeL"] == found["rougeLsum"]


@pytest.mark.parametrize(("hypothesis", "reference"), ENGLISH)
def test_english_scores_are_those_of_rouge_score(hypothesis: str, reference: str) -> None:
    (found,) = line_scores([hypothesis], [[reference]])
    default = RougeScorer(list(ROUGE_KINDS))
    assert found == default.score("\n".join(sentences(reference)), "\n".join(sentences(hypothesis)))
    plain = default.score(reference, hypothesis)
    assert all(found[kind] == plain[kind] for kind in ("rouge1", "rouge2", "rougeL"))


def test_every_kind_uses_its_best_reference() -> None:
    references = ["b a", "a b x y z"]
    found = f1("a b", *references)
    assert found["ROUGE-1"] == pytest.approx(100)
    assert found["ROUGE-2"] == pytest.approx(f(1, 1, 4))
    for name, best in found.items():
        assert best == max(f1("a b", reference)[name] for reference in references)


def test_identical_and_disjoint_text() -> None:
    assert set(f1("a b c d", "a b c d").values()) == {100.0}
    assert set(f1("a b c d", "e f g h").values()) == {0.0}
    assert set(f1("", "a b").values()) == {0.0}
    assert set(f1("?!", "").values()) == {0.0}


def test_the_score_is_the_mean_of_the_lines_and_lies_inside_its_interval() -> None:
    hypotheses, references = random_lines(1), random_lines(2)
    lines = line_scores(hypotheses, [references])
    for kind, found in score_rouge(hypotheses, [references]).items():
        values = np.array([100 * line[kind].fmeasure for line in lines])
        assert found.score == pytest.approx(values.mean())
        half = 1.96 * values.std() / len(values) ** 0.5  # by the central limit theorem
        assert found.interval is not None
        low, high = found.interval
        assert low == pytest.approx(found.score - half, abs=0.25 * half)
        assert high == pytest.approx(found.score + half, abs=0.25 * half)


def test_a_kind_does_not_depend_on_the_other_kinds() -> None:
    hypotheses, references = random_lines(1), [random_lines(2)]
    found = score_rouge(hypotheses, references)
    assert list(found) == list(ROUGE_KINDS)
    for kind in ROUGE_KINDS:
        assert score_rouge(hypotheses, references, kinds=[kind]) == {kind: found[kind]}
        without = score_rouge(hypotheses, references, kinds=[kind], intervals=False)
        assert without == {kind: found[kind]._replace(interval=None)}


def test_the_interval_is_reproducible_and_the_global_generator_is_restored() -> None:
    hypotheses, references = random_lines(1), random_lines(2)
    np.random.seed(7)
    expected = np.random.random(3).tolist()
    np.random.seed(7)
    first = score_rouge(hypotheses, [references])
    assert np.random.random(3).tolist() == expected
    np.random.seed(8)
    assert score_rouge(hypotheses, [references]) == first


def test_signature() -> None:
    version = importlib.metadata.version("rouge-score")
    assert signature(2) == (
        f"nrefs:2|bs:{BOOTSTRAP_SAMPLES}|seed:{BOOTSTRAP_SEED}|case:lc|stem:no|tok:words|version:rouge-score-{version}"
    )
    assert signature(2, intervals=False) == f"nrefs:2|case:lc|stem:no|tok:words|version:rouge-score-{version}"
