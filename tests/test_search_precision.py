"""search.precision: bf16 stays close to fp32 in every search, auto chooses by the device, and commands print the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import run

from seq2seq.device import choose_search_precision
from seq2seq.layers.fast.next_token import FEW_ROWS
from seq2seq.translator import Translator

FIXTURES = Path(__file__).parent / "fixtures"
MODEL = FIXTURES / "model"
LINES = 2 * (FIXTURES / "lines.src").read_text().splitlines()  # at least FEW_ROWS, since fewer rows stay in fp32
CPU = torch.device("cpu")
NEW = "search.precision=auto: bf16, because the CPU has instructions for bf16, with which it is faster"
OLD = "search.precision=auto: fp32, because the CPU has no instructions for bf16, without which it is slower"
GPU = "search.precision=auto: fp32, because the products of the output layer take little time on a GPU"


def patch_cpu(monkeypatch: pytest.MonkeyPatch, *, amx: bool = False, avx512: bool = False) -> None:
    """Let the CPU have AMX or AVX512-BF16, or neither."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)


@pytest.mark.parametrize("search", [{}, {"beam_size": 1}, {"samples": 3, "top_k": 4}, {"repetition_penalty": 1.3}])
@pytest.mark.parametrize("models", [1, 2])
def test_a_search_in_bf16_gives_nearly_the_same_scores(search: dict[str, float], models: int) -> None:
    translator = Translator.load([MODEL] * models, device="cpu").with_search(**search)
    half = translator.with_search(precision="bf16")
    assert (translator.precision.name, half.precision.name) == ("fp32", "bf16")
    before, after = ([best for (best,) in each.search(LINES)] for each in (translator, half))
    assert [one.token_log_probs for one in before] != [one.token_log_probs for one in after], "the products are in bf16"
    same = [(a, b) for a, b in zip(before, after, strict=True) if a.pieces == b.pieces]
    assert len(same) > len(LINES) // 2
    for a, b in same:
        assert b.token_log_probs == pytest.approx(a.token_log_probs, abs=0.01)
        assert b.score == pytest.approx(a.score, abs=0.05)


@pytest.mark.parametrize("search", [{"beam_size": 1}, {"samples": 1}])
def test_few_rows_are_searched_in_fp32(search: dict[str, int]) -> None:
    translator = Translator.load(MODEL, device="cpu").with_search(**search)
    before, after = (
        [best for (best,) in each.search(LINES[: FEW_ROWS - 1])]
        for each in (translator, translator.with_search(precision="bf16"))
    )
    assert [one.token_log_probs for one in before] == [one.token_log_probs for one in after]


def test_a_shortlist_is_searched_in_bf16(tmp_path: Path) -> None:
    translator = Translator.load(MODEL, device="cpu")
    translator.save(tmp_path / "model")
    text = FIXTURES / "lines.src"
    assert run("shortlist", tmp_path / "model", "--src", text, "--tgt", text).exit_code == 0
    short = Translator.load(tmp_path / "model", device="cpu").with_search(shortlist=2)
    before, after = ([best for (best,) in each.search(LINES)] for each in (short, short.with_search(precision="bf16")))
    assert [one.score for one in before] != [one.score for one in after]
    for a, b in zip(before, after, strict=True):
        assert a.pieces != b.pieces or b.token_log_probs == pytest.approx(a.token_log_probs, abs=0.01)


def test_auto_chooses_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx, avx512, line in ((True, True, NEW), (True, False, NEW), (False, True, NEW), (False, False, OLD)):
        patch_cpu(monkeypatch, amx=amx, avx512=avx512)
        assert choose_search_precision(CPU).line("search.precision") == line
        translator = Translator.load(MODEL, device="cpu").with_search(precision="auto")
        assert translator.precision == choose_search_precision(CPU)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert choose_search_precision(CPU).line("search.precision") == OLD
    assert choose_search_precision(torch.device("cuda")).line("search.precision") == GPU


def test_the_command_prints_the_reason_and_translates_in_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_cpu(monkeypatch, amx=True)
    chosen = run("translate", MODEL, "--precision", "auto", "--format", "jsonl", text="\n".join(LINES))
    assert chosen.stderr.splitlines()[0] == NEW
    given = run("translate", MODEL, "--precision", "bf16", "--format", "jsonl", text="\n".join(LINES))
    plain = run("translate", MODEL, "--format", "jsonl", text="\n".join(LINES))
    assert chosen.stdout == given.stdout != plain.stdout
    assert "precision" not in given.stderr + plain.stderr
