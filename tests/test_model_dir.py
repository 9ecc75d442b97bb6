"""The model directory: what comes back is what was saved, and what is wrong with a directory is said."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from seq2seq.config import CELL_NAMES, TIE_NAMES, Config, DataConfig, ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.data.batching import collate
from seq2seq.data.limits import LengthLimit
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import (
    Settings,
    Tokenizers,
    build_model,
    find,
    load,
    load_settings,
    save_settings,
    save_weights,
    settings_of,
)
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import BOS, EOS, PAD

CPU = torch.device("cpu")
ENGLISH, GERMAN = ["the man sees a dog", "a dog runs"], ["der Mann sieht einen Hund", "ein Hund rennt"]


def save(folder: Path, *, shared: bool = True, kind: str = "word", **options) -> tuple[Seq2Seq, Settings, Tokenizers]:
    torch.manual_seed(1)
    size = 60 if kind in ("word", "char") else 300  # subword models hold 256 bytes
    config = TokenizerConfig(type=kind, vocab_size=size, shared=shared)
    src = train_tokenizer(ENGLISH + GERMAN if shared else ENGLISH, config)
    tokenizers = Tokenizers(src, src if shared else train_tokenizer(GERMAN, config))
    model_config = ModelConfig(**({"embedding_size": 6, "hidden_size": 8} | options))
    settings = Settings(model_config, config, SearchConfig(beam_size=7), 99)
    model = build_model(settings, tokenizers)
    save_settings(folder, settings, tokenizers)
    save_weights(folder, model)
    return model.eval(), settings, tokenizers


def log_probs(model: Seq2Seq) -> torch.Tensor:
    return model.log_probs(collate([[4, 5, 6], [7]], [[5], [6, 4]], pad_id=PAD, bos_id=BOS, eos_id=EOS))


def edit(folder: Path, change) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("tie", TIE_NAMES)
def test_what_comes_back_is_what_was_saved(tmp_path, cell, tie):
    model, settings, tokenizers = save(tmp_path, cell=cell, tie_embeddings=tie, encoder_layers=2, residual=True)
    loaded, loaded_settings, loaded_tokenizers = load(tmp_path, CPU)
    assert torch.equal(log_probs(loaded), log_probs(model))
    assert loaded_settings == settings
    assert [t.identity for t in loaded_tokenizers] == [t.identity for t in tokenizers]
    assert not loaded.training
    tgt = loaded.tgt_embedding.weight
    assert (loaded.src_embedding.weight is tgt) == (tie in ("inputs", "all"))
    assert (loaded.readout.logits.weight is tgt) == (tie in ("output", "all"))
    assert len(list(loaded.parameters())) == len(list(model.parameters()))


def test_tied_weights_are_stored_once(tmp_path):
    sizes = []
    for tie in ("none", "all"):
        save(tmp_path / tie, tie_embeddings=tie, embedding_size=64)
        sizes.append((tmp_path / tie / "model.safetensors").stat().st_size)
    tokens = load_settings(tmp_path / "all")[1].src.size
    assert sizes[0] - sizes[1] == pytest.approx(2 * tokens * 64 * 4, abs=300)


@pytest.mark.parametrize(
    ("kind", "shared", "names"),
    [
        ("word", True, ["tokenizer.json"]),
        ("word", False, ["tokenizer.src.json", "tokenizer.tgt.json"]),
        ("char", True, ["tokenizer.model"]),
        ("char", False, ["tokenizer.src.model", "tokenizer.tgt.model"]),
    ],
)
def test_the_directory_holds_these_files_and_nothing_pickled(tmp_path, kind, shared, names):
    _, _, tokenizers = save(tmp_path, kind=kind, shared=shared)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["config.json", "model.safetensors", *names])
    for path in tmp_path.iterdir():
        start = path.read_bytes()[:2]
        assert start[:1] != b"\x80"  # pickle
        assert start != b"PK"  # torch.save
    loaded = load(tmp_path, CPU)[2]
    assert [t.identity for t in loaded] == [t.identity for t in tokenizers]
    assert (loaded.src is loaded.tgt) == shared
    config = (tmp_path / "config.json").read_text()
    assert "_target_" not in config
    assert str(tmp_path) not in config


def test_the_directory_can_move_and_a_run_directory_will_do(tmp_path):
    model, _, _ = save(tmp_path / "here" / "model")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert find(tmp_path / "there") == tmp_path / "there" / "model"
    assert find(str(tmp_path / "there" / "model")) == tmp_path / "there" / "model"
    assert torch.equal(log_probs(load(tmp_path / "there", CPU)[0]), log_probs(model))


def test_a_model_at_home_is_found(tmp_path, monkeypatch):
    save(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find("~/mine") == tmp_path / "mine"


def test_weights_that_share_a_storage_are_saved(tmp_path):
    """As cuDNN lays those of a recurrent layer out."""
    model, _, _ = save(tmp_path, encoder_layers=2)
    before = log_probs(model)
    for layer in model.encoder.layers:
        parameters = list(layer.parameters())
        room = torch.cat([parameter.detach().flatten() for parameter in parameters])
        for parameter, part in zip(parameters, room.split([p.numel() for p in parameters]), strict=True):
            parameter.data = part.view_as(parameter)
    save_weights(tmp_path, model)
    assert torch.equal(log_probs(load(tmp_path, CPU)[0]), before)


def test_saving_again_replaces_the_weights(tmp_path):
    model, _, _ = save(tmp_path)
    with torch.no_grad():
        model.readout.logits.bias.fill_(0.5)
    save_weights(tmp_path, model)
    assert load(tmp_path, CPU)[0].readout.logits.bias.eq(0.5).all()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_model_takes_this_part_of_a_configuration():
    config = Config(data=DataConfig(max_source_length=12), model=ModelConfig(cell="gru"))
    settings = settings_of(config)
    assert settings == Settings(config.model, config.tokenizer, config.search, 12)
    limit = LengthLimit(1.5, 7, 90)
    assert settings_of(config, limit) == Settings(config.model, config.tokenizer, config.search, 12, limit)


def test_the_length_limit_is_saved_and_a_damaged_one_is_refused(tmp_path):
    _, settings, tokenizers = save(tmp_path)
    assert "length_limit" not in json.loads((tmp_path / "config.json").read_text())
    assert load_settings(tmp_path)[0].length_limit is None
    limited = settings._replace(length_limit=LengthLimit(1.5, 7, 90))
    save_settings(tmp_path, limited, tokenizers)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["length_limit"] == {"ratio": 1.5, "extra": 7, "maximum": 90}
    assert load_settings(tmp_path)[0] == limited
    content["length_limit"]["extra"] = 0
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"config\.json: length_limit\.extra must be a whole number of at least 1, but is 0$"
    ):
        load_settings(tmp_path)


# What is wrong


def test_no_directory(tmp_path):
    missing = tmp_path / "nowhere"
    with pytest.raises(ValueError, match=re.escape(f"there is no model directory {missing}")):
        load(missing, CPU)


@pytest.mark.parametrize("left", [(), ("config.json",), ("model.safetensors",)])
def test_a_directory_without_a_model(tmp_path, left):
    save(tmp_path)
    for name in {"config.json", "model.safetensors"} - set(left):
        (tmp_path / name).unlink()
    message = (
        f"{tmp_path} holds no model: config.json and model.safetensors are neither in it nor in {tmp_path / 'model'}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path, CPU)


@pytest.mark.parametrize("shared", [True, False])
def test_a_missing_tokenizer(tmp_path, shared):
    save(tmp_path, shared=shared)
    name = "tokenizer.json" if shared else "tokenizer.tgt.json"
    (tmp_path / name).unlink()
    message = f"{tmp_path} is not a complete model directory: {name} is missing; copy the model directory again"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(tmp_path, CPU)


@pytest.mark.parametrize("kind", ["word", "char"])
def test_a_damaged_tokenizer(tmp_path, kind):
    save(tmp_path, kind=kind)
    name = "tokenizer.json" if kind == "word" else "tokenizer.model"
    (tmp_path / name).write_bytes(b"{")
    edit(tmp_path, lambda content: content.pop("sha256"))
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / name))} is damaged: these 1 bytes are no"):
        load(tmp_path, CPU)


CHANGED = "is damaged or of another model: its SHA-256 is not the one that was saved with it"


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_changed_byte_of_a_tokenizer_is_found(tmp_path, kind):
    _, _, tokenizers = save(tmp_path, kind=kind, shared=False)
    name = "tokenizer.tgt.model"
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    place = content.index(tokenizers.tgt.pieces([9])[0].encode())
    content[place] ^= 1  # another piece of the vocabulary
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path} {CHANGED}; copy the model directory again')}$"):
        load(tmp_path, CPU)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path} {CHANGED}; restore it')}$"):
        load_settings(tmp_path, restore="restore it")


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    save(tmp_path / "one", kind="unigram")
    save(tmp_path / "two", kind="bpe")
    shutil.copy(tmp_path / "two" / "tokenizer.model", tmp_path / "one")
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / 'one' / 'tokenizer.model'))} {CHANGED}"):
        load(tmp_path / "one", CPU)


@pytest.mark.parametrize("place", [8, 200, -1])
def test_a_changed_byte_of_the_weights_is_found(tmp_path, place):
    save(tmp_path)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")  # of the numbers
    content[place if place < 0 else start + place] ^= 1  # the lowest bits of a number
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path} {CHANGED}; copy the model directory again')}$"):
        load(tmp_path, CPU)


def test_a_model_without_checksums_is_loaded(tmp_path):
    model, _, _ = save(tmp_path)
    edit(tmp_path, lambda content: content.pop("sha256"))
    save_file(dict(load_file(tmp_path / "model.safetensors")), tmp_path / "model.safetensors")
    assert torch.equal(log_probs(load(tmp_path, CPU)[0]), log_probs(model))


def test_damaged_checksums(tmp_path):
    save(tmp_path)
    edit(tmp_path, lambda content: content.update(sha256=[1]))
    path = tmp_path / "config.json"
    message = f"{path} is damaged: sha256 must hold the checksums of files; copy the model directory again"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(tmp_path, CPU)


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_no_model(tmp_path, monkeypatch, path):
    save(tmp_path)
    monkeypatch.chdir(tmp_path)
    message = "the path of a model must name a model or run directory, but is empty"
    with pytest.raises(ValueError, match=f"^{message}$"):
        load(path, CPU)
    assert load(".", CPU)


@pytest.mark.parametrize("content", [b"", b"nothing", None], ids=["empty", "garbage", "half"])
def test_damaged_weights(tmp_path, content):
    save(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    message = f"{path} does not fit {tmp_path / 'config.json'} or is damaged: "
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path, CPU)


@pytest.mark.parametrize(
    "change",
    [{"hidden_size": 10}, {"encoder_layers": 2}, {"attention": "general"}, {"tie_embeddings": "none"}],
    ids=lambda change: next(iter(change)),
)
def test_weights_of_another_model(tmp_path, change):
    save(tmp_path, tie_embeddings="all")
    edit(tmp_path, lambda content: content["model"].update(change))
    with pytest.raises(ValueError, match=r"does not fit .*config.json or is damaged: "):
        load(tmp_path, CPU)


@pytest.mark.parametrize("size", [60_000, 10**9, 10**30])
@pytest.mark.parametrize("key", ["hidden_size", "embedding_size", "attention_size", "encoder_hidden_size"])
def test_absurd_sizes_are_refused_before_memory_is_allocated(tmp_path, key, size):
    save(tmp_path)
    edit(tmp_path, lambda content: content["model"].update({key: size}))
    with pytest.raises(ValueError, match=r"config\.json(: | or is damaged: )") as caught:
        load(tmp_path, CPU)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, number):
    model, _, _ = save(tmp_path)
    with torch.no_grad():
        model.readout.logits.bias[3] = number
    save_weights(tmp_path, model)
    with pytest.raises(ValueError, match=r"readout.logits.bias must hold finite numbers, but holds NaN or infinity$"):
        load(tmp_path, CPU)


def test_weights_that_are_no_floating_point_numbers_are_refused(tmp_path):
    model, _, _ = save(tmp_path)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    weights["readout.logits.bias"] = weights["readout.logits.bias"].long()
    save_file(weights, tmp_path / "model.safetensors")
    message = r"readout.logits.bias must hold floating-point numbers, but holds torch.int64$"
    with pytest.raises(ValueError, match=message):
        load(tmp_path, CPU)


def test_a_newer_format(tmp_path):
    save(tmp_path)
    edit(tmp_path, lambda content: content.update(format=2))
    message = f"{tmp_path / 'config.json'} has format 2, newer than 1; update seq2seq"
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path, CPU)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"[]", "it must hold an object with settings"),
        (b"{}", "format is missing"),
        (b'{"format": 1}', "model is missing"),
        (
            b'{"format": "x", "model": {}, "tokenizer": {}, "search": {}, "data": {}}',
            "format must be a whole number, but is x",
        ),
    ],
)
def test_a_damaged_config(tmp_path, content, reason):
    save(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    message = f"{tmp_path / 'config.json'} is damaged: {reason}; copy the model directory again"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(tmp_path, CPU)


@pytest.mark.parametrize("value", [[], {}, 5, "x", None, [[1]]])
@pytest.mark.parametrize("key", ["model", "tokenizer", "search", "data"])
def test_a_section_that_holds_no_settings(tmp_path, key, value):
    save(tmp_path)
    edit(tmp_path, lambda content: content.update({key: value}))
    if value == {}:  # the defaults
        with contextlib.suppress(ValueError):
            load(tmp_path, CPU)
        return
    message = f"{tmp_path / 'config.json'}: {key} must hold settings, but is {value}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(tmp_path, CPU)


SPECIAL = {
    "a named pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_special_files_are_refused(tmp_path, name, kind):
    save(tmp_path)
    (tmp_path / name).unlink()
    SPECIAL[kind](tmp_path / name)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{tmp_path / name} must be a regular file, but is {kind}')}$"):
        load(tmp_path, CPU)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_unreadable_file_is_named_with_the_reason(tmp_path, monkeypatch, name):
    save(tmp_path)
    original = Path.open

    def refuse(self, *arguments, **options):
        if self.name == name:  # as with mode 0, which root could read
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / name))} cannot be read: Permission denied$"):
        load(tmp_path, CPU)


def test_all_files_have_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        save(tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_the_home_of_nobody(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = (
        "~nobodyhere/model must start with the home folder of a user, but ~nobodyhere has none; "
        "write ./~nobodyhere/model for a path in the current folder"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        find("~nobodyhere/model")
    save(tmp_path / "~nobodyhere" / "model")
    assert find("~nobodyhere/model") == Path("~nobodyhere/model")


def test_an_unknown_setting_is_named_with_the_nearest(tmp_path):
    save(tmp_path)
    edit(tmp_path, lambda content: content["model"].update(hiden_size=9))
    with pytest.raises(ValueError, match=r"there is no setting model.hiden_size; the nearest is model.hidden_size"):
        load(tmp_path, CPU)


def test_an_impossible_value_is_named(tmp_path):
    save(tmp_path)
    edit(tmp_path, lambda content: content["search"].update(beam_size=0))
    with pytest.raises(ValueError, match=r"search.beam_size must be a whole number of at least 1, but is 0"):
        load(tmp_path, CPU)
