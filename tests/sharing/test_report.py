"""The report on runs: its numbers are those of the metrics, its heat maps those of the model, and text stays text."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command_line import refused, run
from small_runs import config_of, write_corpus

from seq2seq.data.lines import read_lines
from seq2seq.metrics import significance
from seq2seq.metrics.scores import score
from seq2seq.sharing.analysis import compare_content, count_unknown_words, group_lines, score_groups
from seq2seq.sharing.curves import learning_curves
from seq2seq.sharing.report import run_names, write_report
from seq2seq.sharing.run_record import read_run
from seq2seq.training.train import train
from seq2seq.translator import Translator

BAD = "<script>alert(1)</script>"
BAD_NAME = "<img src=x onerror=alert(1)>"
VOID = {"meta", "img"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of the toy task with a pointer on texts that hold HTML; the name of the second one is HTML."""
    folder = tmp_path_factory.mktemp("report")
    write_corpus(folder, pairs=60)
    for side in ("src", "tgt"):
        path = folder / f"test.{side}"
        path.write_text(path.read_text() + f"1 2 {BAD} 1 2\n")
    test = {"data.test.src": "test.src", "data.test.tgt": "test.tgt", "model.copy": "pointer", "train.valid_every": 4}
    found = []
    for name, updates in (("one", 4), (BAD_NAME, 12)):
        config = config_of(folder, name, **test, **{"train.max_updates": updates})
        train(config)
        found.append(Path(config.run_dir))
    return found


@pytest.fixture(scope="module")
def page(runs: list[Path]) -> str:
    return write_report([read_run(path) for path in runs], device="cpu")


class Reader(HTMLParser):
    """Collects the tags, the attributes that name an address, and the cells of the tables."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.cells: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cells.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def lines_of(runs: list[Path], side: str) -> list[str]:
    return list(read_lines(runs[0].parent / f"test.{side}"))


def test_text_and_names_stay_text_and_nothing_is_loaded(page: str) -> None:
    found = Reader(page)
    assert "script" not in found.tags
    assert BAD in found.text
    assert BAD_NAME in found.text
    assert [address.partition(",")[0] for address in found.addresses] == ["data:image/svg+xml;base64"]
    assert not re.search(r"url\(|@import|https?:", page)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page


def test_the_scores_are_those_of_the_saved_translations(page: str, runs: list[Path]) -> None:
    rows = Reader(page).rows
    for path, name in zip(runs, ("one", BAD_NAME), strict=True):
        hypotheses = list(read_lines(path / "test.hyp"))
        expected = score(hypotheses, [lines_of(runs, "tgt")], metrics=("bleu", "chrf", "ter"), intervals=True)
        for item in expected:
            interval = f"{item.details['low']:.2f} to {item.details['high']:.2f}"
            assert [name, item.name, f"{item.score:.2f}", interval, item.signature] in rows
    systems = [(str(path), list(read_lines(path / "test.hyp"))) for path in runs]
    for item in significance.compare(systems, [lines_of(runs, "tgt")], metrics=("bleu", "chrf", "ter")):
        (row,) = [row for row in rows if row[0] == item.name and row[-1] == item.signature]
        assert row[3] == f"{item.systems[1].p_value:.4f}"
        assert row[4] == ("significant" if (item.systems[1].p_value or 0) < 0.05 else "not significant")


def test_one_run_has_no_comparison(runs: list[Path]) -> None:
    found = write_report([read_run(runs[0])], device="cpu")
    assert "Paired significance" not in found
    Reader(found)


def test_the_heat_maps_are_those_of_the_model(page: str, runs: list[Path]) -> None:
    sources = lines_of(runs, "src")
    found = Reader(page)
    heads = [row for row in found.rows if row[-1:] == ["p_gen"]]
    assert len(heads) == 2 * len(sources)
    at = found.rows.index(heads[1], found.rows.index(heads[0]) + 1)  # of the second run
    translation, provenance = Translator.load(runs[1], device="cpu").trace(sources[0])
    assert heads[1] == ["", *translation.source_pieces, "</s>", "p_gen"]
    rows = found.rows[at + 1 : at + 2 + len(translation.pieces)]
    assert [row[0] for row in rows] == [*translation.pieces, "</s>"]
    assert [row[-1] for row in rows] == [f"{round(100 * value)} %" for value in provenance.p_gen.tolist()]
    copied = [[cell == "c" for cell in row[1:-1]] for row in rows[:-1]]
    expected = [None if place is None else place.source_piece for place in translation.copied_from]
    assert [row.index(True) if any(row) else None for row in copied] == expected
    coverage = found.rows[at + 2 + len(translation.pieces)]
    assert coverage[1:-1] == [f"{value:.1f}" for value in provenance.weights.sum(dim=0).tolist()]
    first = sum(len(row) for row in found.rows[: at + 1])
    weights = [attributes.get("style", "--w:0%") for _, attributes in found.cells[first + 1 : first + len(rows[0]) - 1]]
    assert weights == [f"--w:{round(100 * value)}%" for value in provenance.weights[0].tolist()]


def test_the_report_on_the_data_is_that_of_the_training(page: str, runs: list[Path]) -> None:
    data = read_run(runs[0]).data
    assert data is not None
    assert (data.pairs_read, data.pairs_kept, data.empty) == (61, 60, 1)
    text = Reader(page).text
    for line in data.lines():
        assert line.strip() in text


def test_a_run_without_test_pairs_is_evaluated_on_the_validation_pairs(runs: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "older"
    shutil.copytree(runs[0], copy)
    for name in ("test.hyp", "data.json"):
        (copy / name).unlink()
    found = Reader(write_report([read_run(copy)], device="cpu"))
    assert "Scores are on the 4 pairs of data.valid, which also chose the model;" in found.text
    assert "This run did not save its report on the data; seq2seq inspect prints it." in found.text
    valid = list(read_lines(runs[0].parent / "valid.src"))[:4]
    (bleu,) = score(Translator.load(copy, device="cpu").translate(valid), [valid], metrics=("bleu",), intervals=True)
    assert ["older", "BLEU", f"{bleu.score:.2f}"] in [row[:3] for row in found.rows]


def test_unreadable_training_sources_are_reported(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("train.src", "gone.src"))
    found = write_report([read_run(tmp_path / "run")], device="cpu")
    assert "The training sources cannot be read here, so unknown words are not counted." in found


# ---- curves


def test_the_curves_are_the_records_of_the_log(runs: list[Path]) -> None:
    record = read_run(runs[1])
    panels = {panel.title: panel for panel in learning_curves({"mine": record})}
    log = [json.loads(line) for line in (runs[1] / "metrics.jsonl").read_text().splitlines()]
    steps, losses = panels["loss, in nats per target piece"].curves["mine: training"]
    assert (list(steps), list(losses)) == (list(range(1, 13)), [line["loss"] for line in log if "loss" in line])
    steps, scores = panels["validation scores"].curves["mine: BLEU"]
    assert (list(steps), list(scores)) == ([4, 8, 12], [line["valid_bleu"] for line in log if "valid_bleu" in line])
    assert set(panels) >= {"learning rate", "speed, in target pieces per second"}


def test_the_picture_of_the_curves_alone(runs: list[Path], tmp_path: Path) -> None:
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        done = run("report", *runs, "--curves", tmp_path / f"curves.{kind}")
        assert (done.exit_code, done.output) == (0, "")
        assert (tmp_path / f"curves.{kind}").read_bytes().startswith(start)
    assert "one: training" in (tmp_path / "curves.svg").read_text()


def test_the_picture_in_the_page_has_the_curves(page: str) -> None:
    (address,) = Reader(page).addresses
    picture = base64.b64decode(address.partition(",")[2]).decode()
    assert "validation scores" in picture
    assert "onerror=alert(1)&gt;: BLEU" in picture


# ---- analyses


def test_lines_are_grouped_by_bounds() -> None:
    assert group_lines([0, 1, 0, 3, 9], (0, 1, 2)) == [("0", [0, 2]), ("1", [1]), ("more than 2", [3, 4])]
    assert [group.label for group in group_lines([1, 5, 6, 70], (5, 10, 20))] == ["0 to 5", "6 to 10", "more than 20"]


def test_groups_are_scored_on_their_lines() -> None:
    groups = group_lines([1, 9, 1], (5,))
    references = ["the cat sat there", "a dog ran away fast", "the cat sat here"]
    perfect, other = references, ["no", "a dog ran away fast", "nothing"]
    found = score_groups(groups, [perfect, other], references)
    assert [(group.label, group.num_lines) for group in found] == [("0 to 5", 2), ("more than 5", 1)]
    assert [pair[0] for pair in found[0].scores] == pytest.approx([100, 0])
    assert [pair[1] for pair in found[1].scores] == pytest.approx([100, 100])


def test_the_tags_of_sources_are_no_words(tmp_path: Path) -> None:
    write_corpus(tmp_path, pairs=60)
    config = config_of(tmp_path, **{"data.train.tag": "de", "data.valid.tag": "de", "train.max_updates": 1})
    train(config)
    rows = Reader(write_report([read_run(config.run_dir)], device="cpu")).rows
    counts = [row[:2] for row in rows if row[:2] == ["0", "4"]]
    assert len(counts) == 1, "every word of the 4 sources occurs in the training sources"


def test_unknown_words_are_those_of_no_training_source() -> None:
    assert count_unknown_words(["The cat, Zug", "zug ZUG dog", ""], ["the dog", "CAT sat"]) == [1, 2, 0]


def test_repeated_and_missing_words_are_counted() -> None:
    references = ["a b c d e", "one two three", "x"]
    found = compare_content(["a b c a b c", "one two three", "y"], references)
    assert found.repeated == pytest.approx(100 * 1 / 5)  # 4 + 1 trigrams, the fourth of the first line is repeated
    assert found.repeated_in_references == 0
    assert found.missing == pytest.approx(100 * 3 / 9)
    assert found.length_ratio == pytest.approx(10 / 9)
    assert found.most_repeated == [(0, 1)]
    assert found.most_missing == [(0, 2), (2, 1)]


# ---- the command


def test_the_command_writes_the_page(runs: list[Path], tmp_path: Path, page: str) -> None:
    done = run("report", *runs, "--output", tmp_path / "report.html", "--device", "cpu")
    assert (done.exit_code, done.output) == (0, "")
    assert (tmp_path / "report.html").read_text() == page


def test_runs_of_the_same_name_are_named_by_their_paths(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "one")
    records = [read_run(runs[0]), read_run(tmp_path / "one")]
    assert run_names(records) == [str(runs[0]), str(tmp_path / "one")]
    assert run_names(records[:1]) == ["one"]


def test_wrong_usage_is_one_line(runs: list[Path], tmp_path: Path) -> None:
    one, two = runs
    assert refused("report", one) == "report requires --output FILE, or --curves FILE for the learning curves alone"
    assert refused("report", one, two, one, "--output", "a.html") == (
        "report takes one run or two runs to compare, but is given 3"
    )
    assert refused("report", one, one, "--output", "a.html") == (
        f"{one} is named twice; name another run to compare it with"
    )
    assert refused("report", one, "--output", "a.pdf") == "the page's file must end in .html, but is a.pdf"
    assert (
        refused("report", one, "--curves", "a.gif") == "a picture's file must end in .png, .svg or .pdf, but is a.gif"
    )
    gone = tmp_path / "gone"
    assert refused("report", gone, "--output", "a.html") == f"there is no run directory {gone}"
    assert refused("report", one / "model", "--output", "a.html") == (
        f"{one / 'model' / 'config.yaml'} cannot be read: No such file or directory; "
        "give a run directory, as seq2seq train makes it"
    )


def damaged(run: Path, tmp_path: Path, name: str, content: str) -> Path:
    copy = tmp_path / "damaged"
    shutil.copytree(run, copy, dirs_exist_ok=True)
    (copy / name).write_text(content)
    return copy


def test_damaged_records_are_one_line(runs: list[Path], tmp_path: Path) -> None:
    for content in ("[]\n", "{\n", '{"update": 1, "loss": "x"}\n', '{"update": 1.5, "loss": 1}\n'):
        copy = damaged(runs[0], tmp_path, "metrics.jsonl", '{"update": 1, "loss": 2.0}\n' + content)
        assert refused("report", copy, "--output", tmp_path / "a.html") == (
            f"{copy / 'metrics.jsonl'} is damaged: line 2 is no record of a run; "
            "give a run directory, as seq2seq train makes it"
        )
    copy = damaged(runs[0], tmp_path, "metrics.jsonl", "")
    assert refused("report", copy, "--curves", tmp_path / "a.png") == (
        "damaged has no curves, because metrics.jsonl has no record; train for longer"
    )
    copy = damaged(runs[0], tmp_path / "two", "data.json", "{}")
    assert refused("report", copy, "--output", tmp_path / "a.html") == (
        f"{copy / 'data.json'} is damaged: it is no report on training data; remove it to go on without it"
    )
    copy = damaged(runs[0], tmp_path / "three", "config.yaml", "model: {cell: nosuch}")
    assert refused("report", copy, "--output", tmp_path / "a.html").startswith(
        f"{copy / 'config.yaml'}: model.cell must be one of "
    )
    copy = damaged(runs[0], tmp_path / "four", "test.hyp", "1\n")
    assert refused("report", copy, "--output", tmp_path / "a.html") == (
        f"{copy / 'test.hyp'} has 1 lines but data.test has 6 pairs; they must match line by line: translate data.test "
        f"again, or remove {copy / 'test.hyp'} to report on data.valid"
    )


def test_runs_on_different_pairs_are_refused(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "other")
    config = tmp_path / "other" / "config.yaml"
    config.write_text(config.read_text().replace("test.src", "valid.src").replace("test.tgt", "valid.tgt"))
    assert refused("report", runs[0], tmp_path / "other", "--output", tmp_path / "a.html") == (
        f"two runs are compared on the same pairs, but data.test of {runs[0]} and {tmp_path / 'other'} differ; "
        "write a report on each run"
    )
