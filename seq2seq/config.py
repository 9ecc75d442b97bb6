"""Every setting with its default, its range and one line of explanation.

The dataclasses are the schema; the YAML files under ``conf/`` only state differences from them. Hydra composes the two,
``from_container`` turns the result into dataclasses once, and plain dataclasses travel from there on. Holds no logic
beyond checking that values are possible.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any

CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")
ATTENTIONS = ("none", "dot", "general", "scaled_dot", "additive")
BRIDGES = ("linear", "last", "mean", "zero")
TIES = ("none", "inputs", "output", "all")
COPIES = ("none", "pointer", "copynet")
COVERAGES = ("none", "sum", "fertility")
TOKENIZERS = ("unigram", "bpe", "word", "char")


def _setting(
    default: Any, *, choices: tuple[str, ...] = (), least: float | None = None, below: float | None = None
) -> Any:
    """A field with the values it may take: one of ``choices``, or a number >= ``least`` and < ``below``."""
    return field(default=default, metadata={"choices": choices, "least": least, "below": below})


@dataclass
class FilesConfig:
    """One side of the data: ``src`` and ``tgt`` (parallel files), or ``file`` (records). Each a name or a list of names."""

    src: Any = None  # lines of source text; .gz allowed
    tgt: Any = None  # lines of target text, parallel to src
    file: Any = None  # .jsonl or .tsv records holding both; .gz allowed


@dataclass
class DataConfig:
    root: str = "."  # where relative file names start
    train: FilesConfig = field(default_factory=FilesConfig)
    valid: FilesConfig = field(default_factory=FilesConfig)
    test: FilesConfig = field(default_factory=FilesConfig)  # scored when training ends, if given
    src_field: str = "src"  # JSONL key; TSV column number from 0, or name in the header line
    tgt_field: str = "tgt"
    max_source_length: int = _setting(256, least=1)  # pieces
    max_target_length: int = _setting(256, least=1)  # pieces
    too_long: str = _setting("drop", choices=("drop", "cut"))  # what happens to longer training pairs
    valid_lines: int = _setting(0, least=0)  # validate on the first so many lines; 0: all


@dataclass
class TokenizerConfig:
    type: str = _setting("unigram", choices=TOKENIZERS)
    vocab_size: int = _setting(8000, least=5)  # at most; smaller text may give fewer
    shared: bool = True  # one vocabulary for both sides
    dropout: float = _setting(0.0, least=0, below=1)  # of the merges of bpe, drawn anew each epoch (Provilkov 2020)
    normalization: str = _setting("identity", choices=("identity", "nfkc", "nmt_nfkc"))  # SentencePiece's rule names


@dataclass
class ModelConfig:
    cell: str = _setting("lstm", choices=CELLS)
    embedding_size: int = _setting(256, least=1)
    hidden_size: int = _setting(256, least=1)  # decoder
    encoder_hidden_size: int | None = _setting(None, least=1)  # both directions together; default hidden_size
    attention_size: int | None = _setting(None, least=1)  # width of query and keys; default hidden_size
    encoder_layers: int = _setting(1, least=1)
    decoder_layers: int = _setting(1, least=1)
    bidirectional: bool = True
    residual: bool = False  # add a layer's input to its output, between layers of one width
    attention: str = _setting("additive", choices=ATTENTIONS)
    copy: str = _setting("none", choices=COPIES)  # pointer: gate and weights (See); copynet: one softmax (Gu)
    copy_attention: str | None = _setting(None, choices=("shared", "separate"))  # of the pointer; default shared
    coverage: str = _setting("none", choices=COVERAGES)  # sum (See), or divided by fertility (Tu), in the energies
    tie_embeddings: str = _setting("none", choices=TIES)  # inputs: src = tgt; output: tgt = output layer; all: both
    bridge: str = _setting("linear", choices=BRIDGES)  # how the encoder starts the decoder
    dropout: float = _setting(0.3, least=0, below=1)  # on embeddings, between layers, on outputs
    embedding_dropout: float | None = _setting(None, least=0, below=1)  # on embeddings alone; default dropout
    word_dropout: float = _setting(0.0, least=0, below=1)  # of whole pieces, of the source and of the target read
    memory_dropout: float = _setting(0.0, least=0, below=1)  # on the encoder's values
    dropout_kind: str = _setting("ordinary", choices=("ordinary", "locked"))  # locked: one mask a sentence, all steps
    recurrent_dropout: float = _setting(0.0, least=0, below=1)  # on h before the h-to-h product, one mask a sentence
    weight_drop: float = _setting(0.0, least=0, below=1)  # on the h-to-h weights, one mask a batch


@dataclass
class LossConfig:
    label_smoothing: float = _setting(0.1, least=0, below=1)
    coverage_weight: float = _setting(0.0, least=0)  # lambda of loss + lambda * coverage loss
    coverage_start: int = _setting(0, least=-1)  # update from which coverage acts; -1: where train.patience ends
    coverage_warmup: int = _setting(0, least=0)  # updates over which coverage_weight climbs from 0


@dataclass
class TrainConfig:
    max_updates: int = _setting(20000, least=1)
    max_epochs: int = _setting(0, least=0)  # 0: no limit
    batch_tokens: int = _setting(2048, least=1)  # rows times the longer padded side, at most
    accumulate: int = _setting(1, least=1)  # batches in one update
    optimizer: str = _setting("adam", choices=("adam", "adamw", "sgd"))
    learning_rate: float = _setting(2e-3, least=0)
    weight_decay: float | None = _setting(None, least=0)  # default 0.01 with adamw, else 0
    warmup: int = _setting(0, least=0)  # updates over which the rate climbs from 0
    schedule: str = _setting("constant", choices=("constant", "inverse_sqrt", "plateau"))
    plateau_factor: float | None = _setting(None, least=0, below=1)  # of a validation without gain; default 0.5
    clip_norm: float = _setting(5.0, least=0)  # of the whole gradient; 0: off
    average: float = _setting(0.998, least=0, below=1)  # decay of the moving average of the weights kept; 0: off
    valid_every: int = _setting(500, least=1)  # updates; a shorter run validates once, at its end
    patience: int = _setting(10, least=0)  # validations without gain before stopping; 0: never stop early
    metric: str = _setting("bleu", choices=("bleu", "chrf", "loss"))  # which model is kept
    log_every: int = _setting(50, least=1)  # updates
    profile: bool = False  # say at the end where the time of an update went; costs a little of it
    seed: int = _setting(1, least=0, below=2**63)
    precision: str = _setting("fp32", choices=("fp32", "bf16", "fp16"))  # of products; weights and the loss are fp32
    device: str = _setting("auto", choices=("auto", "cpu", "cuda"))
    threads: int = _setting(0, least=0)  # CPU threads; 0: torch's choice
    init_from: str | None = None  # start from this model; copying and coverage may be added to it
    resume: str = _setting("auto", choices=("auto", "never"))


@dataclass
class SearchConfig:
    beam_size: int = _setting(5, least=1)
    length_penalty: float = _setting(1.0, least=0, below=10)  # a of score = log P / |Y|^a, |Y| with the end of sentence
    max_length_ratio: float = _setting(2.0, least=0, below=1000)  # a translation has at most
    max_length_extra: int = _setting(10, least=1)  # ratio * source pieces + extra pieces
    min_length: int = _setting(0, least=0)  # pieces before the end of sentence
    too_long: str = _setting("cut", choices=("cut", "split"))  # sources above data.max_source_length
    coverage_penalty: float = _setting(0.0, least=0)  # for source pieces looked at too little (Wu et al. 2016)
    summary_penalty: float = _setting(0.0, least=0)  # for source pieces looked at too much (Gehrmann et al. 2018)
    batch_tokens: int = _setting(4096, least=1)  # padded source pieces searched at once


@dataclass
class Config:
    name: str = "run"
    run_dir: str = "runs/${name}"
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    search: SearchConfig = field(default_factory=SearchConfig)


def from_container(kind: type, values: dict[str, Any], prefix: str = "") -> Any:
    """Make the dataclass ``kind`` from nested plain values and check every one of them.

    Raises:
        ValueError: an unknown key (named with the nearest known one), a wrong type or a value out of range.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{prefix.rstrip('.') or 'a configuration'} must hold settings, but is {values}")
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise ValueError(unknown_key(prefix + key, [prefix + name for name in hints]))
    made = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = from_container(typing.cast(type, hints[name]), {} if value is None else value, f"{prefix}{name}.")
        made[name] = value
    result = kind(**made)
    for item in dataclasses.fields(kind):
        _check(prefix + item.name, getattr(result, item.name), hints[item.name], item.metadata)
    return result


def check_tokenizer(config: TokenizerConfig) -> None:
    """Refuse settings that cannot act together.

    Raises:
        ValueError: with the key to change.
    """
    if config.dropout and config.type != "bpe":
        raise ValueError(
            f"tokenizer.dropout leaves out merges, and tokenizer.type={config.type} has none; "
            "leave it out, or set tokenizer.type=bpe"
        )


def check_model(config: ModelConfig, *, shared: bool) -> None:
    """Refuse settings that cannot act together.

    Args:
        shared: whether source and target have one vocabulary.

    Raises:
        ValueError: with the key to change.
    """
    if config.tie_embeddings in ("inputs", "all") and not shared:
        raise ValueError(
            f"model.tie_embeddings={config.tie_embeddings} needs one vocabulary, but tokenizer.shared is false; "
            "set tokenizer.shared=true, or model.tie_embeddings=output or none"
        )
    if config.attention_size is not None and config.attention not in ("additive", "scaled_dot"):
        raise ValueError(
            f"model.attention_size has no effect with model.attention={config.attention}; "
            "leave it out, or set model.attention=additive or scaled_dot"
        )
    if config.copy_attention is not None and config.copy != "pointer":
        raise ValueError(
            f"model.copy_attention is the pointer's and has no effect with model.copy={config.copy}; "
            "leave it out, or set model.copy=pointer"
        )
    if config.copy == "pointer" and config.attention == "none":
        raise ValueError(
            "model.copy=pointer copies by the weights of an attention, but model.attention is none; "
            "set model.attention=additive or model.copy=copynet"
        )
    if config.residual and max(config.encoder_layers, config.decoder_layers) == 1:
        raise ValueError(
            "model.residual joins layers, but encoder and decoder have one each; "
            "set model.encoder_layers or model.decoder_layers above 1, or model.residual=false"
        )
    if config.memory_dropout and config.attention == config.copy == "none":
        raise ValueError(
            "model.memory_dropout is of what attention and copying read, but model.attention and model.copy are none; "
            "leave it out, or set one of them"
        )
    dropped = config.dropout or config.embedding_dropout or config.memory_dropout
    if config.dropout_kind == "locked" and not dropped:
        raise ValueError("model.dropout_kind=locked has no effect with model.dropout=0; set model.dropout above 0")


def check_search(config: SearchConfig, *, has_attention: bool) -> None:
    """Refuse settings of the search that cannot act.

    Raises:
        ValueError: with the keys to change.
    """
    if (config.coverage_penalty or config.summary_penalty) and not has_attention:
        raise ValueError(
            "search.coverage_penalty and search.summary_penalty look at an attention, but model.attention is none; "
            "set them to 0"
        )


def unknown_key(key: str, known: list[str]) -> str:
    """The message for a mistyped key."""
    names = {name if "." in key else name.rpartition(".")[2]: name for name in reversed(known)}
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
    return f"there is no setting {key}; the nearest is {names[near[0]]}" if near else f"there is no setting {key}"


def keys(kind: type = Config, prefix: str = "", *, texts: bool = False) -> list[str]:
    """Every dotted key of the schema; with ``texts`` those alone whose value is any text."""
    names, hints = [], typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        name, hint = prefix + item.name, hints[item.name]
        section = dataclasses.is_dataclass(hint)
        if not texts or (not section and not item.metadata and hint in (str, str | None, Any)):
            names.append(name)
        if section:
            names += keys(typing.cast(type, hint), f"{name}.", texts=texts)
    return names


_PLAIN = {bool: "true or false", str: "text"}


def _check(key: str, value: Any, hint: Any, limits: typing.Mapping[str, Any]) -> None:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return
    if not limits:
        if hint in _PLAIN and not isinstance(value, hint):
            raise ValueError(f"{key} must be {_PLAIN[hint]}, but is {value}")
        return
    if limits["choices"]:
        if value not in limits["choices"]:
            raise ValueError(f"{key} must be one of {', '.join(limits['choices'])}, but is {value}")
        return
    number = isinstance(value, (int, float) if float in kinds else int) and not isinstance(value, bool)
    number = number and math.isfinite(value)
    least, below = limits["least"], limits["below"]
    if not number or (least is not None and value < least) or (below is not None and value >= below):
        wanted = "a number" if float in kinds else "a whole number"
        bounds = f" of at least {least}" + (f" and below {below}" if below is not None else "")
        raise ValueError(f"{key} must be {wanted}{bounds}, but is {value}")
