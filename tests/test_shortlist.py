"""Vocabulary shortlists: the candidates, the law of batches, the file, the command and its messages."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import torch
from command_line import refused, run
from small_runs import config_of

from seq2seq import shortlist
from seq2seq.model_dir import SHORTLIST, fingerprint
from seq2seq.shortlist import Shortlist
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK
from seq2seq.training.train import check_together
from seq2seq.translator import Translator

FIXTURES = Path(__file__).parent / "fixtures"
CORPUS = FIXTURES / "corpus"
LINES = (FIXTURES / "lines.src").read_text().splitlines()[:12]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the fixture's model with a shortlist."""
    folder = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(FIXTURES / "model", folder)
    result = run("shortlist", folder, "--src", CORPUS / "train.src", "--tgt", CORPUS / "train.tgt")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        rf"learned from \d+ pairs, saved in {re.escape(str(folder / SHORTLIST))}; use it with seq2seq translate "
        r"--shortlist 20\n",
        result.stderr,
    )
    return folder


@pytest.fixture(scope="module")
def translator(model: Path) -> Translator:
    return Translator.load(model, device="cpu")


def test_the_candidates_of_a_sentence() -> None:
    likely = torch.tensor([[-1, -1], [-1, -1], [-1, -1], [-1, -1], [10, 11], [12, -1], [13, 14]], dtype=torch.int32)
    some = Shortlist(likely, torch.tensor([20], dtype=torch.int32), shared=False)
    always = {PAD, UNK, BOS, EOS, 20}

    def ids(found: torch.Tensor) -> list[set[int]]:
        return [set(row.nonzero().squeeze(1).tolist()) for row in found]

    found = some.allowed([[4, 5], [6]], [[], [15, 99]], count=2, size=30)
    assert ids(found) == [always | {10, 11, 12}, always | {13, 14, 15}]
    found = some._replace(shared=True).allowed([[4, 5], [6]], [[], []], count=1, size=30)
    assert ids(found) == [always | {10, 12, 4, 5}, always | {13, 6}]


def test_batches_change_nothing(translator: Translator) -> None:
    short = translator.with_search(shortlist=2)
    together = short.search(LINES)
    for line, (best, *_) in zip(LINES, together, strict=True):
        alone = short.search([line])[0][0]
        assert alone.translation == best.translation
        assert alone.score == pytest.approx(best.score, abs=1e-4)


def test_a_shortlist_changes_scores_of_the_search_and_not_those_of_given_texts(translator: Translator) -> None:
    short = translator.with_search(shortlist=2)
    texts = translator.translate(LINES)
    assert short.score(LINES, texts) == translator.score(LINES, texts)
    for (found, *_), (whole, *_) in zip(short.search(LINES), translator.search(LINES), strict=True):
        if found.translation == whole.translation:
            assert found.log_prob >= whole.log_prob - 1e-4, "the probabilities are normalised over fewer pieces"
    assert [best.log_prob for best, *_ in short.search(LINES)] != [
        best.log_prob for best, *_ in translator.search(LINES)
    ]


def test_only_candidates_and_source_pieces_are_produced(translator: Translator) -> None:
    short = translator.with_search(shortlist=1)
    some = short._shortlist
    assert some is not None
    tokenizers = translator.tokenizers
    for line, (best, *_) in zip(LINES, short.search(LINES), strict=True):
        (source,) = tokenizers.src.segment([line])
        allowed = some.allowed([source.ids], [[]], count=1, size=tokenizers.tgt.size)[0]
        pieces = {tokenizers.tgt.pieces([number], [])[0] for number in allowed.nonzero().squeeze(1).tolist()}
        assert set(best.pieces) <= pieces | set(source.pieces)


def test_prefixes_and_samples_work_with_a_shortlist(translator: Translator) -> None:
    prefix = translator.translate(LINES[:1])[0].split()[-1]
    (found,) = translator.with_search(shortlist=1).search(LINES[1:2], prefixes=[prefix])
    assert found[0].translation.startswith(prefix)
    assert found[0].log_prob > -100
    drawn = translator.with_search(shortlist=1, samples=3).search(LINES[:2], n_best=3)
    assert [len(some) for some in drawn] == [3, 3]


def test_an_ensemble_has_the_shortlist_of_its_first_model(model: Path, translator: Translator) -> None:
    ensemble = Translator.load([model, FIXTURES / "model"], device="cpu").with_search(shortlist=3)
    expected = translator.with_search(shortlist=3).search(LINES[:4])
    for (found, *_), (best, *_) in zip(ensemble.search(LINES[:4]), expected, strict=True):
        assert found.translation == best.translation
        assert found.log_prob == pytest.approx(best.log_prob, abs=1e-3)


def test_the_option_and_the_setting_have_the_same_effect(model: Path, translator: Translator) -> None:
    text = "".join(line + "\n" for line in LINES)
    result = run("translate", model, "--shortlist", "2", "--format", "text", "--device", "cpu", text=text)
    assert result.stdout.splitlines() == translator.with_search(shortlist=2).translate(LINES)


def test_a_saved_translator_has_its_shortlist(translator: Translator, tmp_path: Path) -> None:
    short = translator.with_search(shortlist=2)
    short.save(tmp_path / "saved")
    again = Translator.load(tmp_path / "saved", device="cpu")
    assert again.search_config.shortlist == 2
    assert again.translate(LINES) == short.translate(LINES)


def test_an_extended_model_searches_without_the_shortlist_of_the_model(translator: Translator, tmp_path: Path) -> None:
    translator.with_search(shortlist=2).save(tmp_path / "model")
    text = tmp_path / "text"
    text.write_text("zyx zyx zyx\n" * 9)
    result = run("extend", tmp_path / "model", "--output", tmp_path / "more", "--corpus", text)
    assert result.exit_code == 0, result.output
    more = Translator.load(tmp_path / "more", device="cpu")
    assert more.search_config == translator.search_config
    assert len(more.translate(LINES)) == len(LINES)


def test_a_missing_shortlist_is_refused() -> None:
    path = FIXTURES / "model" / SHORTLIST
    message = (
        f"search.shortlist requires {path}, which does not exist; write it with seq2seq shortlist, or set "
        "search.shortlist to 0"
    )
    assert refused("translate", FIXTURES / "model", "--shortlist", "2") == message
    translator = Translator.load(FIXTURES / "model", device="cpu")
    bare = Translator(translator.model, translator.tokenizers, translator.search_config)
    message = "search.shortlist=2 requires a translator that Translator.load made; set it to 0"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bare.with_search(shortlist=2)
    search = dataclasses.replace(translator.search_config, shortlist=2)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Translator(translator.model, translator.tokenizers, search).translate(LINES)


def test_a_damaged_or_foreign_shortlist_is_refused(model: Path, translator: Translator, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    path = folder / SHORTLIST
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    message = f"{path} is damaged or of another model: its SHA-256 is not the one that was saved with it; "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}write it again with seq2seq shortlist$"):
        shortlist.load(folder, translator.tokenizers)
    path.write_bytes(content[:20])
    message = rf"{re.escape(str(path))} is damaged: .*; write it again with seq2seq shortlist"
    with pytest.raises(ValueError, match=f"^{message}$"):
        shortlist.load(folder, translator.tokenizers)
    some = shortlist.load(model, translator.tokenizers)
    shortlist.save(some._replace(likely=some.likely[1:]), folder, translator.tokenizers)
    message = f"{path} does not fit the tokenizers of the model; write it again with seq2seq shortlist"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        shortlist.load(folder, translator.tokenizers)


def test_pairs_without_text_are_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "blank").write_text("\n\n")
    message = "a shortlist must be learned from pairs of lines with text, but there is none; check --src and --tgt"
    assert refused("shortlist", model, "--src", tmp_path / "blank", "--tgt", tmp_path / "blank") == message


def test_training_refuses_a_shortlist(tmp_path: Path) -> None:
    message = (
        "search.shortlist=20 requires a shortlist, which is learned after training; set it to 0, and give --shortlist "
        "to seq2seq translate"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_together(config_of(tmp_path, search__shortlist=20))


def test_required_terms_are_candidates(translator: Translator) -> None:
    few = translator.with_search(shortlist=1, beam_size=2)
    (plain,) = few.search(LINES[:1])
    encoded = few.tokenizers.src.encode(LINES[0])
    allowed = few._shortlist.allowed([encoded], [[]], count=1, size=translator.model.vocab_size)[0]  # type: ignore[union-attr]
    pieces = translator.tokenizers.tgt.pieces(range(len(allowed)))
    refused_words = [piece for piece, is_allowed in zip(pieces, allowed.tolist(), strict=True) if not is_allowed]
    word = next(piece for piece in refused_words if piece.isalpha())
    assert not re.search(rf"\b{word}\b", plain[0].translation)
    (found,) = few.with_terms({LINES[0].split()[1]: [word]}).search(LINES[:1])
    assert re.search(rf"\b{word}\b", found[0].translation)
    assert all(term.met for term in found[0].terms)


def test_the_fingerprint_depends_on_a_shortlist_that_is_used(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(model, other)
    run("shortlist", other, "--src", CORPUS / "train.tgt", "--tgt", CORPUS / "train.src")
    assert fingerprint(other) == fingerprint(model)
    assert fingerprint(other, shortlist=True) != fingerprint(model, shortlist=True)
