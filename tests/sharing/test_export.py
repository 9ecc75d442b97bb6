"""The export to ONNX: the graphs translate like the model, for every cell and part that is exported."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command_line import refused, run
from served import TEXT, save_model

from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.data.batching import collate
from seq2seq.model_dir import Settings, Tokenizers, with_tags
from seq2seq.sharing import onnx_export
from seq2seq.sharing.onnx_search import OnnxTranslator, ScoredText
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK
from seq2seq.translator import Translator

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

LINES = [
    "a man sees Xanthippe , too .",
    "two men sleep",
    "",
    "the dog Zeus Zeus runs away !",
    "the old dog sees a small man , too . one man",
    "狗 看见 人 。",
    "x",
    "a man " * 12,
]
KINDS: dict[str, dict[str, Any]] = {
    "pointer and coverage": {"copy": "pointer", "coverage": "sum", "encoder_layers": 2, "decoder_layers": 2},
    "lstm and copynet": {
        "cell": "lstm",
        "copy": "copynet",
        "attention": "general",
        "residual": True,
        "encoder_layers": 2,
    },
    "relu in one direction": {"cell": "rnn_relu", "bidirectional": False, "attention": "dot", "bridge": "mean"},
    "tanh and heads": {
        "cell": "rnn_tanh",
        "attention": "multi_head",
        "copy": "pointer",
        "copy_attention": "separate",
        "coverage": "fertility",
    },
    "local": {"cell": "lstm", "attention": "local_p", "bridge": "last", "decoder_layers": 1},
}


def exported(folder: Path, **changes: Any) -> tuple[Translator, Path]:
    model = save_model(folder / "model", **changes)
    done = run("export", model, "--output", folder / "exported")
    assert (done.exit_code, done.output) == (0, "")
    return Translator.load(model, device="cpu"), folder / "exported"


def check_equal(translator: Translator, folder: Path) -> None:
    translator.notices.shown = False
    assert OnnxTranslator(folder).translate(LINES) == translator.translate(LINES)
    found = OnnxTranslator(folder).search(LINES)
    expected = [best[0] for best in translator.search(LINES)]
    assert [item.score for item in found] == pytest.approx([item.score for item in expected], abs=1e-4, rel=1e-5)
    assert len({item.text for item in found}) > 4, "this test requires a model whose translations differ"


@pytest.mark.slow
def test_the_graphs_translate_like_the_model(tmp_path: Path) -> None:
    translator, folder = exported(tmp_path, **KINDS["pointer and coverage"])
    assert {path.name for path in folder.iterdir()} == {"encoder.onnx", "step.onnx", "config.json", "tokenizer.json"}
    check_equal(translator, folder)
    check_padding(translator, folder)
    check_search(translator, folder)


def check_padding(translator: Translator, folder: Path) -> None:
    """The encoder graph reads no padding, and its values are those of the model, for any number of rows and steps."""
    graph = onnxruntime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
    sources = [[5, 6, 7, 8, 9, EOS], [7, EOS], [9, 5, 5, EOS]]
    batch = collate(
        [ids[:-1] for ids in sources],
        [[], [], []],
        pad_id=PAD,
        bos_id=BOS,
        eos_id=EOS,
        copy_ids=[[5] * (len(ids) - 1) for ids in sources],
    )
    with translator.model.evaluating():
        decoding = translator.model.encode(batch)
    names = [each.name for each in graph.get_outputs()]
    expected = {"values": decoding.memory.values, "keys": decoding.memory.keys, "hidden": decoding.state.hidden}
    for padding in (PAD, 5):
        src = batch.src.masked_fill(~decoding.memory.mask, padding).numpy()
        found = dict(zip(names, graph.run(None, {"src": src, "lengths": batch.src_lengths.numpy()}), strict=True))
        for name, value in expected.items():
            real = decoding.memory.mask.numpy() if name != "hidden" else slice(None)
            np.testing.assert_allclose(found[name][real], value.numpy()[real], atol=1e-5, err_msg=name)


def check_search(translator: Translator, folder: Path) -> None:
    """Every setting of the search acts as in the model."""
    for changes in (
        {"beam_size": 1},
        {"beam_size": 8, "length_penalty": 0.0},
        {"min_length": 6},
        {"max_length_ratio": 0.5},
        {"min_length": 3, "max_length_ratio": 0.1, "max_length_extra": 1},
    ):
        changed = translator.with_search(**changes)
        changed.notices.shown = False
        onnx = OnnxTranslator(folder)
        onnx.settings = onnx.settings._replace(search=changed.search_config)
        assert onnx.translate(LINES) == changed.translate(LINES), changes


def test_a_tag_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizers = with_tags(
        Tokenizers(*[train_tokenizer(TEXT, TokenizerConfig(type="word", vocab_size=40))] * 2), ["fr"]
    )
    translator, copied = OnnxTranslator.__new__(OnnxTranslator), []
    translator.settings = Settings(ModelConfig(), TokenizerConfig(), SearchConfig(), 12)
    translator.tokenizers = tokenizers
    translator._encoder = SimpleNamespace(get_outputs=list, run=lambda names, inputs: [])
    translator._inputs = []

    def search(memory: object, copy_ids: np.ndarray, max_length: int) -> tuple[list[int], float]:
        copied.extend(copy_ids.tolist())
        return [EOS], 0.0

    monkeypatch.setattr(translator, "_beam_search", search)
    translator.translate(["<2fr> a dog"])
    assert copied == [UNK, tokenizers.tgt.id("a"), tokenizers.tgt.id("dog"), EOS]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pointer and coverage"])
def test_other_parts_are_exported_too(kind: str, tmp_path: Path) -> None:
    check_equal(*exported(tmp_path, **KINDS[kind]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder": "transformer", "heads": 2},
            "only models with model.encoder=rnn are exported to ONNX, but this one has transformer",
        ),
        (
            {"decoder": "transformer", "heads": 2},
            "only models with model.decoder=rnn are exported to ONNX, but this one has transformer",
        ),
        ({"layer_norm": True}, "only models with model.layer_norm=False are exported to ONNX, but this one has True"),
        (
            {"attention": "none"},
            "only models with an attention are exported to ONNX, but this one has model.attention=none",
        ),
    ],
)
def test_what_is_not_exported_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", **changes)
    assert refused("export", model, "--output", tmp_path / "new") == message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coverage_penalty": 0.5}, "search.coverage_penalty=0.0 are exported to ONNX, but this one has 0.5"),
        ({"summary_penalty": 0.5}, "search.summary_penalty=0.0 are exported to ONNX, but this one has 0.5"),
        ({"samples": 3}, "search.samples=0 are exported to ONNX, but this one has 3"),
        ({"no_repeat_ngram": 3}, "search.no_repeat_ngram=0 are exported to ONNX, but this one has 3"),
        ({"repetition_penalty": 1.5}, "search.repetition_penalty=1.0 are exported to ONNX, but this one has 1.5"),
        ({"forbidden": "the"}, "search.forbidden= are exported to ONNX, but this one has the"),
        ({"mbr": "chrf"}, "search.mbr=none are exported to ONNX, but this one has chrf"),
        ({"precision": "bf16"}, "search.precision=fp32 are exported to ONNX, but this one has bf16"),
    ],
)
def test_searches_that_are_not_exported_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    Translator.load(save_model(tmp_path / "model"), device="cpu").with_search(**changes).save(tmp_path / "changed")
    name, value = next(iter(changes)), getattr(SearchConfig(), next(iter(changes)))
    assert refused("export", tmp_path / "changed", "--output", tmp_path / "new") == (
        f"only models with {message}; save a copy from Python: "
        f"Translator.load(MODEL).with_search({name}={value!r}).save(COPY)"
    )
    Translator.load(tmp_path / "changed", device="cpu").with_search(**{name: value}).save(tmp_path / "copy")
    assert run("export", tmp_path / "copy", "--output", tmp_path / "new").exit_code == 0


def test_a_search_with_a_shortlist_is_refused(tmp_path: Path) -> None:
    model, text = save_model(tmp_path / "model"), tmp_path / "text"
    text.write_text("".join(f"{line}\n" for line in TEXT), encoding="utf-8")
    assert run("shortlist", model, "--src", text, "--tgt", text).exit_code == 0
    Translator.load(model, device="cpu").with_search(shortlist=3).save(tmp_path / "changed")
    assert refused("export", tmp_path / "changed", "--output", tmp_path / "new") == (
        "only models with search.shortlist=0 are exported to ONNX, but this one has 3; save a copy from Python: "
        "Translator.load(MODEL).with_search(shortlist=0).save(COPY)"
    )


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    assert refused("export", save_model(tmp_path / "model"), "--output", tmp_path) == (
        f"--output must be a new folder, but {tmp_path} exists; remove it or name another one"
    )


def test_a_difference_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_model(tmp_path / "model")
    monkeypatch.setattr(onnx_export, "_write_graphs", lambda *arguments: None)

    class Wrong:
        def __init__(self, folder: Path) -> None:
            pass

        def search(self, lines: list[str]) -> list[ScoredText]:
            return [ScoredText("wrong", 0.5) for _ in lines]

    monkeypatch.setattr(onnx_export, "OnnxTranslator", Wrong)
    message = refused("export", model, "--output", tmp_path / "new")
    assert message.startswith(f"the exported graphs in {tmp_path / 'new'} must translate like the model, but ")
    assert "gives 'wrong' with score 0.5000 instead of " in message
    assert message.endswith("; report this with seq2seq env")
    assert torch.is_grad_enabled()
