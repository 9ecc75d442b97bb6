"""What a run prints: progress, translations beside references, a table at the end; and curves for TensorBoard."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from small_runs import config_of

from seq2seq.training.train import train
from seq2seq.translator import Translator


def test_a_progress_line_has_loss_speed_norm_and_time_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(folder)
    train(config)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("update ") and "tok/s" in line]
    assert len(lines) == 4
    records = [json.loads(line) for line in (Path(config.run_dir) / "metrics.jsonl").read_text().splitlines()]
    for line, record in zip(lines, records, strict=False):
        norm, loss = f"gradient norm {record['gradient_norm']:.2f}", f"loss {record['loss']:.3f}"
        pattern = rf"update \d  epoch 1  {loss}  [\d,]+ tok/s  \d\.\d GiB  {norm}  \d:\d\d:\d\d left"
        assert re.fullmatch(pattern, line), line
    assert lines[-1].endswith("  0:00:00 left")


def test_each_validation_shows_three_translations_beside_their_references(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(folder, train__valid_every=2, train__average=0.0, train__learning_rate=0.0)
    train(config)
    lines = capsys.readouterr().err.splitlines()
    shown = [line.partition(": ")[2].strip() for line in lines if line.startswith(("  translation: ", "  reference: "))]
    sources = (folder / "valid.src").read_text().splitlines()[:3]
    translations = Translator.load(config.run_dir, device="cpu").translate(sources)
    references = (folder / "valid.tgt").read_text().splitlines()[:3]
    expected = [text.strip() for pair in zip(translations, references, strict=True) for text in pair]
    assert shown == expected * 2


def test_a_table_of_all_validations_ends_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(folder, train__valid_every=2, train__metric="exact")
    config.train.max_updates = 2
    train(config)
    config.train.max_updates = 6
    capsys.readouterr()
    train(config)
    lines = capsys.readouterr().err.splitlines()
    first = next(number for number, line in enumerate(lines) if line.split()[:2] == ["update", "bleu"])
    assert lines[first].split() == ["update", "bleu", "chrf", "loss", "exact"]
    table = [line.split() for line in lines[first + 1 : first + 4]]
    records = [json.loads(line) for line in (Path(config.run_dir) / "metrics.jsonl").read_text().splitlines()]
    validations = [record for record in records if "valid_loss" in record]
    assert [row[:5] for row in table] == [
        [str(r["update"]), *(f"{r['valid_' + name]:.3f}" for name in ("bleu", "chrf", "loss", "exact"))]
        for r in validations
    ]
    best = [row[0] for row in table if row[-1] == "(best)"]
    assert f"at update {best[0]}, saved in" in lines[first + 4]
    assert len(best) == 1


def test_curves_for_tensorboard(folder: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = config_of(folder, train__track="tensorboard", train__valid_every=2)
    train(config)
    config.train.max_updates = 6
    train(config)
    events = EventAccumulator(str(Path(config.run_dir) / "tensorboard"))
    events.Reload()
    records = [json.loads(line) for line in (Path(config.run_dir) / "metrics.jsonl").read_text().splitlines()]
    for key in ("loss", "gradient_norm", "learning_rate", "valid_bleu"):
        expected = [(record["update"], record[key]) for record in records if key in record]
        found = events.Scalars(key)
        assert [event.step for event in found] == [update for update, _ in expected]
        assert [event.value for event in found] == pytest.approx([value for _, value in expected], rel=1e-5)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    message = 'train.track=tensorboard requires the package tensorboard; run pip install ".[track]" in the checkout of seq2seq'
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(config_of(tmp_path, train__track="tensorboard"))
    assert list(tmp_path.iterdir()) == [], "it is found before the data are read and the run directory is written"
