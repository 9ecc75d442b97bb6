"""Pushing a run: the card comes first and must be filled in, and only the model files and the card are uploaded."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from command_line import refused, run
from small_runs import config_of, write_corpus

from seq2seq.sharing import push as push_module
from seq2seq.sharing.model_card import plain_text, weights_digest, write_card
from seq2seq.sharing.push import push_run
from seq2seq.sharing.run_record import read_run
from seq2seq.training.train import train
from seq2seq.translator import Translator


class FakeApi:
    """A hub that keeps what is committed."""

    def __init__(self) -> None:
        self.repositories: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.repositories[repo_id] = private

    def create_commit(self, repo_id: str, operations: list[Any], *, commit_message: str) -> Any:
        assert repo_id in commit_message
        self.files |= {each.path_in_repo: each.path_or_fileobj for each in operations}
        return SimpleNamespace(oid="abc123")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    monkeypatch.setattr(push_module, "HfApi", lambda **options: fake)
    return fake


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on files whose names are HTML."""
    folder = tmp_path_factory.mktemp("push")
    write_corpus(folder, pairs=40)
    for side in ("src", "tgt"):
        shutil.copy(folder / f"train.{side}", folder / f"<b>train*.{side}")
    files = {f"data.train.{side}": f"<b>train*.{side}" for side in ("src", "tgt")}
    files |= {f"data.test.{side}": f"test.{side}" for side in ("src", "tgt")}
    config = config_of(folder, "toy", **files, **{"train.metric": "exact"})
    train(config)
    return Path(config.run_dir)


@pytest.fixture
def mine(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "toy")
    return tmp_path / "toy"


def fill_in(card: Path) -> None:
    card.write_text(card.read_text().replace("license: FILL IN", "license: mit").replace("FILL IN", "Digits"))


def test_the_card_is_written_filled_in_and_pushed_with_the_model_alone(mine: Path, api: FakeApi) -> None:
    card = mine / "README.md"
    assert refused("push", mine, "user/toy") == (
        f"{card} is written now: replace every FILL IN in it, among them the licence, then push again"
    )
    lines = [number for number, line in enumerate(card.read_text().splitlines(), start=1) if "FILL IN" in line]
    assert len(lines) >= 5
    assert refused("push", mine, "user/toy") == (
        f"{card} must be filled in before the model is pushed, but says FILL IN in line {', '.join(map(str, lines))}"
    )
    assert (api.repositories, api.files) == ({}, {})
    fill_in(card)
    done = run("push", mine, "user/toy", "--private")
    assert (done.exit_code, done.stdout) == (
        0,
        "pushed README.md, config.json, model.safetensors, tokenizer.json; load the model with hf:user/toy@abc123\n",
    )
    assert api.repositories == {"user/toy": True}
    assert api.files == {"README.md": card.read_bytes()} | {
        path.name: path.read_bytes() for path in (mine / "model").iterdir()
    }
    assert run("push", mine, "user/toy").exit_code == 0
    assert api.repositories == {"user/toy": False}


def test_the_card_tells_data_sizes_scores_and_use(trained: Path) -> None:
    record = read_run(trained)
    translator = Translator.load(trained, device="cpu")
    card = write_card("user/toy", record, translator)
    header = yaml.safe_load(card.split("---")[1])
    assert header == {"license": "FILL IN", "library_name": "seq2seq", "tags": ["seq2seq", "recurrent-neural-network"]}
    assert 'Translator.load("hf:user/toy")' in card
    assert record.test is not None
    for name in ("BLEU", "chrF2", "exact"):
        value, signature = record.test[f"test_{name}"], record.test["signatures"][name]
        assert f"| {name} | {value:.2f} | {plain_text(signature)} |" in card
    number = sum(parameter.numel() for _, parameter in translator.model.named_parameters())
    assert f"- {number:,} parameters" in card
    assert weights_digest(trained / "model") in card
    assert r"- train: \<b\>train\*\.src, \<b\>train\*\.tgt" in card
    assert "40 kept" in card
    assert "<b>" not in card


def test_a_run_without_test_scores_has_those_of_its_validation(mine: Path) -> None:
    log = mine / "metrics.jsonl"
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines() if "test_" not in line))
    record = read_run(mine)
    assert record.best is not None
    card = write_card("user/toy", record, Translator.load(mine, device="cpu"))
    assert "On the validation pairs of the run:" in card
    for name, full in (("bleu", "BLEU"), ("chrf", "chrF2"), ("exact", "exact")):
        row = f"| {name} | {record.best[f'valid_{name}']:.2f} | {plain_text(record.best['signatures'][full])} |"
        assert row in card
    assert "| loss |" in card
    assert "| cut |" not in card


def test_text_is_escaped_for_markdown() -> None:
    assert plain_text("<script>\n[a](b) `c` | *d*") == r"\<script\> \[a\]\(b\) \`c\` \| \*d\*"


def test_incomplete_cards_are_refused(mine: Path, api: FakeApi) -> None:
    card = mine / "README.md"
    refused("push", mine, "user/toy")
    fill_in(card)
    good = card.read_text()
    no_licence = (
        f"{card} must name the licence in its header, as in license: mit, but does not; add the line between the first two "
        "lines of ---"
    )
    for text in (
        good.replace("license: mit\n", ""),
        good.replace("license: mit", "license:"),
        good.replace("license: mit", "license: [mit"),
        good.replace("---\n", "", 1),
        "",
    ):
        card.write_text(text)
        assert refused("push", mine, "user/toy") == no_licence
    card.write_text(re.sub("[0-9a-f]{64}", "0" * 64, good))
    assert refused("push", mine, "user/toy") == (
        f"{card} must describe the model that is pushed, but lacks the SHA-256 of its model.safetensors; rename the card, "
        "and push again to have it written for this model"
    )
    card.write_bytes(good.encode() + b"\xff")
    assert refused("push", mine, "user/toy") == f"{card} must be UTF-8, but is not; save it as UTF-8"
    assert api.files == {}


def test_wrong_names_and_a_hub_that_refuses_are_one_line(
    mine: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("toy", "a/b/c", "user/", "hf:user/toy"):
        assert refused("push", mine, name) == f"a model of the hub must be named user/name, but is {name}"
    refused("push", mine, "user/toy")
    fill_in(mine / "README.md")

    def no_network(*arguments: Any, **options: Any) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr(api, "create_repo", no_network)
    with pytest.raises(
        ValueError, match=r"^user/toy can't be pushed: no network; log in with hf auth login, and check the name$"
    ):
        push_run(mine, "user/toy")


def test_a_damaged_model_is_not_pushed(mine: Path, api: FakeApi) -> None:
    weights = mine / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert refused("push", mine, "user/toy").startswith(f"{weights} is damaged")
    assert not (mine / "README.md").exists()
