"""A model directory: config.json, model.safetensors and the tokenizer files, with checksums.

The directory is self-contained and contains nothing executable; ``config.json`` contains only plain settings. Every file is
written atomically, see ``seq2seq.files``. ``config.json`` holds the SHA-256 of the tokenizer files, and the metadata of
``model.safetensors`` holds that of its numbers: the two are saved at different times in a run, and a crash between them must
leave a model. Directories of older versions have no checksums and are loaded without this check.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor
from torch.nn import Parameter

from seq2seq.config import Config, DataConfig, ModelConfig, SearchConfig, TokenizerConfig, from_container
from seq2seq.data.limits import LengthLimit
from seq2seq.files import check_readable, expand_home, make_folder, read_file, special_kind, write_atomically
from seq2seq.hub import HUB_PREFIX, fetch
from seq2seq.model import Seq2Seq
from seq2seq.text.factory import load_tokenizer, tokenizer_configs
from seq2seq.text.tags import TaggedTokenizer
from seq2seq.text.tokenizer import Tokenizer

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SHORTLIST = "shortlist.safetensors"  # see ``seq2seq.shortlist``
TOKENIZER_FILES = tuple(f"tokenizer{side}.{ending}" for side in ("", ".src", ".tgt") for ending in ("json", "model"))
_RESTORE = "copy the model directory again"
_CHECKSUM = "sha256"  # key in config.json and in the metadata of model.safetensors
_NO_CHECKSUM = "0" * 64  # its place until it is known
_CHANGED = "is damaged or of another model: its SHA-256 is not the one that was saved with it"
RENAMED_PARAMETERS = {"bridge.": "decoder.bridge."}  # names in models of version 0.1.0: current names


class HasParameters(Protocol):
    """A model whose parameters can be saved."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Return the parameters with their names; those of several names once."""


class Tokenizers(NamedTuple):
    """The tokenizers of source and target; the same object if the vocabulary is shared and has no tags."""

    src: Tokenizer
    tgt: Tokenizer


class Settings(NamedTuple):
    """The settings that are saved with a trained model."""

    model: ModelConfig
    tokenizer: TokenizerConfig
    search: SearchConfig
    max_source_length: int  # pieces
    length_limit: LengthLimit | None = None  # of translations, learned in training; None in models of older versions


def settings_of(config: Config, length_limit: LengthLimit | None = None) -> Settings:
    """Return the settings of a run that are saved with its model."""
    return Settings(config.model, config.tokenizer, config.search, config.data.max_source_length, length_limit)


def build_model(settings: Settings, tokenizers: Tokenizers) -> Seq2Seq:
    """Make an untrained model."""
    return Seq2Seq(
        settings.model,
        src_size=tokenizers.src.size,
        tgt_size=tokenizers.tgt.size,
        shared=settings.tokenizer.shared,
        max_source_length=settings.max_source_length,
        tgt_tags=len(tokenizers.tgt.tags),
    )


def save_settings(folder: Path, settings: Settings, tokenizers: Tokenizers) -> None:
    """Write config.json and the tokenizers."""
    make_folder(folder)
    files = dict(zip(tokenizer_names(settings.tokenizer), (each.to_bytes() for each in tokenizers), strict=False))
    for name, file in files.items():
        write_atomically(folder / name, file)
    content: dict[str, Any] = {
        "format": FORMAT,
        "model": dataclasses.asdict(settings.model),
        "tokenizer": dataclasses.asdict(settings.tokenizer),
        "search": dataclasses.asdict(settings.search),
        "data": {"max_source_length": settings.max_source_length},
        _CHECKSUM: {name: hashlib.sha256(file).hexdigest() for name, file in files.items()},
    }
    if tokenizers.src.tags:
        content["tags"] = list(tokenizers.src.tags)
    if settings.length_limit is not None:
        content["length_limit"] = dataclasses.asdict(settings.length_limit)
    write_atomically(folder / CONFIG, (json.dumps(content, indent=2) + "\n").encode())


def save_weights(folder: Path, model: HasParameters) -> None:
    """Write model.safetensors with its checksum; tied weights are stored once.

    The weights are copied first: on a GPU those of a recurrent layer share one storage, which safetensors refuses.
    """
    weights = {name: weight.detach().to("cpu", copy=True).contiguous() for name, weight in model.named_parameters()}
    save_tensors(folder / WEIGHTS, weights)


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file with the checksum of its numbers."""
    content = bytearray(serialize(tensors, {**(metadata or {}), _CHECKSUM: _NO_CHECKSUM}))
    numbers = hashlib.sha256(memoryview(content)[_header_size(content) :]).hexdigest()
    place = content.index(_NO_CHECKSUM.encode())
    content[place : place + len(_NO_CHECKSUM)] = numbers.encode()
    write_atomically(path, memoryview(content))


def load_tensors(path: Path, *, restore: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Args:
        restore: advice for a damaged file.

    Raises:
        ValueError: the numbers differ from their checksum, or it is not a regular file.
        SafetensorError: it is no safetensors file.
        OSError: it cannot be read.
    """
    _check_numbers(path, restore)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    return load_file(path), metadata


def find(path: str | Path) -> Path:
    """Return the model directory at a path: the path itself, or ``model/`` inside a run directory.

    A name that starts with ``hf:`` is that of a model on the hub, which is downloaded first.

    Raises:
        ValueError: there is no model directory.
    """
    if not str(path).strip():
        raise ValueError("the path of a model must name a model or run directory, but is empty")
    if str(path).startswith(HUB_PREFIX):
        path = fetch(str(path), [CONFIG, WEIGHTS, SHORTLIST, *TOKENIZER_FILES])
    path = expand_home(path)
    for folder in (path, path / "model"):
        if (folder / CONFIG).exists() and (folder / WEIGHTS).exists():
            return folder
    if not path.is_dir():
        raise ValueError(f"there is no model directory {path}")
    raise ValueError(f"{path} holds no model: {CONFIG} and {WEIGHTS} are neither in it nor in {path / 'model'}")


def fingerprint(path: str | Path, *, shortlist: bool = False) -> str:
    """Hash the files of the model at a path: two models with the same hash translate in the same way.

    Args:
        shortlist: whether the translation uses the shortlist of the model.

    Raises:
        ValueError: there is no model directory.
    """
    folder = find(path)
    found = hashlib.sha256(read_file(folder / CONFIG))  # with the checksums of the tokenizers
    with safe_open(folder / WEIGHTS, "pt") as weights:
        checksum = (weights.metadata() or {}).get(_CHECKSUM)
    found.update(checksum.encode() if checksum else read_file(folder / WEIGHTS))
    if shortlist:
        found.update(read_file(folder / SHORTLIST))
    return found.hexdigest()


def load_settings(folder: Path, *, restore: str = _RESTORE) -> tuple[Settings, Tokenizers]:
    """Read config.json and the tokenizers.

    Args:
        restore: advice for a missing or damaged file.

    Raises:
        ValueError: a file is missing or damaged, differs from its checksum, or is of a newer format.
    """
    path = folder / CONFIG
    _check_inside(path)
    try:
        content = json.loads(read_file(path))
    except OSError as error:
        raise _unreadable(path, error, restore) from error
    except (RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}; {restore}") from error
    settings = _parse_settings(content, path, restore)
    checksums = content.get(_CHECKSUM, {})
    if not isinstance(checksums, dict):
        raise ValueError(f"{path} is damaged: {_CHECKSUM} must hold the checksums of files; {restore}")
    configs = tokenizer_configs(settings.tokenizer)
    made = [
        _read_tokenizer(each.type, folder / name, checksum=checksums.get(name), restore=restore)
        for each, name in zip(configs, tokenizer_names(settings.tokenizer), strict=True)
    ]
    return settings, with_tags(Tokenizers(made[0], made[-1]), _parse_tags(content, path))


def with_tags(tokenizers: Tokenizers, tags: Sequence[str]) -> Tokenizers:
    """Add tags to the vocabulary of the source. If the target shares it, it has their ids too, but reads no tags."""
    if not tags:
        return tokenizers
    shared = tokenizers.tgt is tokenizers.src
    tgt = TaggedTokenizer(tokenizers.tgt, tags, reads=False) if shared else tokenizers.tgt
    return Tokenizers(TaggedTokenizer(tokenizers.src, tags), tgt)


def load(path: str | Path, device: torch.device) -> tuple[Seq2Seq, Settings, Tokenizers]:
    """Load a model in evaluation mode, with its settings and tokenizers, from a model or run directory.

    Raises:
        ValueError: there is no model, or a file is missing, damaged or does not fit the others.
    """
    folder = find(path)
    settings, tokenizers = load_settings(folder)
    try:
        _check_numbers(folder / WEIGHTS)
        weights = current_names(load_file(folder / WEIGHTS))
        _check_shapes(settings, tokenizers, weights)
        model = build_model(settings, tokenizers)
        _load_weights(model, weights)
    except OSError as error:
        raise _unreadable(folder / WEIGHTS, error, _RESTORE) from error
    except (SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"{folder / WEIGHTS} does not fit {folder / CONFIG} or is damaged: {first}") from error
    return model.to(device).eval(), settings, tokenizers


def current_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of a model that an older version saved.

    The parameters of a moving average have the prefix ``module.``.
    """
    current = {}
    for name, weight in weights.items():
        prefix = "module." if name.startswith("module.") else ""
        renamed = name.removeprefix(prefix)
        for old, new in RENAMED_PARAMETERS.items():
            if renamed.startswith(old):
                renamed = new + renamed.removeprefix(old)
        current[prefix + renamed] = weight
    return current


def _parse_settings(content: Any, path: Path, restore: str) -> Settings:
    """Convert the content of config.json.

    Raises:
        ValueError: it lacks settings, has wrong ones, or is of a newer format.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it must hold an object with settings; {restore}")
    for key in ("format", "model", "tokenizer", "search", "data"):
        if key not in content:
            raise ValueError(f"{path} is damaged: {key} is missing; {restore}")
    number = content["format"]
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{path} is damaged: format must be a whole number, but is {number}; {restore}")
    if number > FORMAT:
        raise ValueError(f"{path} has format {number}, newer than {FORMAT}; update seq2seq")
    try:
        return Settings(
            from_container(ModelConfig, content["model"], "model."),
            from_container(TokenizerConfig, content["tokenizer"], "tokenizer."),
            from_container(SearchConfig, content["search"], "search."),
            from_container(DataConfig, content["data"], "data.").max_source_length,
            LengthLimit.from_dict(content["length_limit"]) if "length_limit" in content else None,
        )
    except (TypeError, ValueError) as error:  # TypeError: a value that cannot be compared with the possible ones
        raise ValueError(f"{path}: {error}") from error


def _parse_tags(content: dict[str, Any], path: Path) -> list[str]:
    tags = content.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        raise ValueError(f"{path} is damaged: tags must be a list of texts, but is {tags}; {_RESTORE}")
    return tags


def _check_shapes(settings: Settings, tokenizers: Tokenizers, weights: Mapping[str, Tensor]) -> None:
    """Compare the shapes of the weights with those that the settings require, before any memory is allocated.

    Raises:
        RuntimeError: a shape differs, or is too large for PyTorch.
    """
    try:
        with torch.device("meta"):
            expected = build_model(settings, tokenizers).state_dict()
    except (OverflowError, TypeError) as error:  # torch reads a size as 64 bits
        raise RuntimeError(f"a size in {CONFIG} is too large") from error
    for name, weight in weights.items():
        if name in expected and weight.shape != expected[name].shape:
            shapes = f"{tuple(weight.shape)}, but {CONFIG} requires {tuple(expected[name].shape)}"
            raise RuntimeError(f"{name} has shape {shapes}")


def _load_weights(model: Seq2Seq, weights: Mapping[str, Tensor]) -> None:
    """Load parameters by name; tied parameters require only one of their names.

    Raises:
        RuntimeError: names or shapes do not fit, or a number is not finite or not floating-point.
    """
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise RuntimeError(f"{name} must hold floating-point numbers, but holds {weight.dtype}")
        if not weight.isfinite().all():
            raise RuntimeError(f"{name} must hold finite numbers, but holds NaN or infinity")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    state = model.state_dict()
    loaded = {state[name].data_ptr() for name in weights if name in state}
    absent = [name for name in missing if state[name].data_ptr() not in loaded]
    if absent or unexpected:
        raise RuntimeError(f"missing {', '.join(absent) or 'nothing'}, unexpected {', '.join(unexpected) or 'nothing'}")


def _check_numbers(path: Path, restore: str = _RESTORE) -> None:
    """Compare the numbers of a safetensors file with their checksum, if it has one.

    Raises:
        ValueError: they differ, or it is not a regular file.
        SafetensorError: it is no safetensors file.
        OSError: it cannot be read.
    """
    _check_inside(path)
    check_readable(path)
    with safe_open(path, "pt") as weights:
        saved = (weights.metadata() or {}).get(_CHECKSUM)
    if saved is None:
        return
    found = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(_header_size(file.read(8)))
        while part := file.read(2**20):
            found.update(part)
    if found.hexdigest() != saved:
        raise ValueError(f"{path} {_CHANGED}; {restore}")


def _header_size(start: bytes | bytearray) -> int:
    """Return the size of all that precedes the numbers in a safetensors file, from its first 8 bytes."""
    return 8 + int.from_bytes(start[:8], "little")


def _read_tokenizer(kind: str, path: Path, *, checksum: object, restore: str) -> Tokenizer:
    _check_inside(path)
    try:
        content = read_file(path)
    except OSError as error:
        raise _unreadable(path, error, restore) from error
    if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
        raise ValueError(f"{path} {_CHANGED}; {restore}")
    try:
        return load_tokenizer(kind, content)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {restore}") from error


def _check_inside(path: Path) -> None:
    """Refuse a link that leads out of its folder, so that loading a model reads nothing outside its directory.

    Raises:
        ValueError: it leads out. Other kinds of files than regular ones are reported where they are read.
    """
    if special_kind(path) is None and not path.resolve().is_relative_to(path.parent.resolve()):
        raise ValueError(
            f"{path} must be a file of the model directory, but is a link that leads out of it; copy the file"
        )


def _unreadable(path: Path, error: OSError, restore: str) -> ValueError:
    """Make the error for a file of a model directory that is missing or cannot be read."""
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{path.parent} is not a complete model directory: {path.name} is missing; {restore}")
    return ValueError(f"{path} cannot be read: {error.strerror or error}")


def tokenizer_names(config: TokenizerConfig) -> list[str]:
    """Return the file names of the tokenizers: one, or source then target."""
    endings = ["json" if each.type == "word" else "model" for each in tokenizer_configs(config)]
    sides = [""] if config.shared else [".src", ".tgt"]
    return [f"tokenizer{side}.{ending}" for side, ending in zip(sides, endings, strict=True)]
