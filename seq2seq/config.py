"""Every setting with its default, its range and a description.

The dataclasses are the schema; the YAML files in ``conf/`` contain only differences from them. Hydra composes both,
``from_container`` converts the result to dataclasses, and the rest of the package uses plain dataclasses. ``checked``
makes the same checks on a configuration that was built in Python.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from seq2seq.config_keys import unknown_key

ENCODER_NAMES = ("rnn", "hierarchical", "transformer")
UTILITY_NAMES = ("none", "chrf", "bleu")
DECODER_NAMES = ("rnn", "transformer")
CELL_NAMES = ("rnn_tanh", "rnn_relu", "gru", "lstm")
ATTENTION_NAMES = ("none", "dot", "general", "scaled_dot", "additive", "multi_head", "local_p")
BRIDGE_NAMES = ("linear", "last", "mean", "zero")
TIE_NAMES = ("none", "inputs", "output", "all")
COPY_NAMES = ("none", "pointer", "copynet")
COVERAGE_NAMES = ("none", "sum", "fertility")
TOKENIZER_NAMES = ("unigram", "bpe", "word", "char")
NORMALIZATION_NAMES = ("identity", "nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf")
# The metrics of metrics/scores.py that have a better direction, and the loss.
VALIDATION_METRICS = (
    *("bleu", "chrf", "chrf++", "ter", "wer", "cer", "exact", "rouge1", "rouge2", "rougeL", "rougeLsum"),
    *("repeated-1", "repeated-2", "repeated-3", "repeated-4", "numbers", "names", "loss"),
)

# The largest possible numbers of some settings: (the number, the reason).
_MOST_WIDTH = (2**16, "a weight matrix of 65536 x 65536 takes 16 GiB")
_MOST_LAYERS = (2**10, "every layer adds weights and time")
_MOST_ENTRIES = (10**7, "every entry has a row in the embeddings")
_MOST_HYPOTHESES = (1000, "memory and time grow with the number of hypotheses")


def _setting(
    default: Any,
    *,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    below: float | None = None,
    most: tuple[float, str] | None = None,
) -> Any:
    """Return a field with its possible values.

    Args:
        choices: all values, or (): a number.
        least, below: the number must be at least ``least`` and below ``below``.
        most: the largest number, and the reason for this limit.
    """
    return field(default=default, metadata={"choices": choices, "least": least, "below": below, "most": most})


@dataclass
class FilesConfig:
    """The files of one split: ``src`` and ``tgt`` (parallel files), or ``file`` (records); each is a name or a list.

    A name may have wildcards: ``part-*.parquet``. Each entry of a list is a corpus, which may have a tag and a weight.
    """

    src: Any = None  # lines of source text; may be compressed (.gz)
    tgt: Any = None  # lines of target text, parallel to src; may be compressed (.gz)
    file: Any = None  # records: .jsonl, .json, .tsv, .csv (these also .gz), .parquet; in Python also a datasets.Dataset
    tag: Any = None  # tag of each corpus: de puts the piece <2de> before its sources; one value, or one for each entry
    # only in data.train: how many times an epoch draws each pair of a corpus; one value, or one for each entry
    weight: Any = None


@dataclass
class DataConfig:
    """The corpus: its files and how they are read."""

    root: str = "."  # the folder that relative file names start from
    train: FilesConfig = field(default_factory=FilesConfig)  # files of the training pairs
    valid: FilesConfig = field(default_factory=FilesConfig)  # files of the validation pairs
    test: FilesConfig = field(default_factory=FilesConfig)  # optional: files to score when training ends
    hub: str | None = None  # data set of the hub (user/name), or a folder of its layout, for splits without files
    hub_config: str | None = None  # configuration of that data set, if it has several
    src_field: str = (
        "src"  # source field of a record: key, also nested (translation.en), or column name or number from 0
    )
    tgt_field: str = "tgt"  # target field of a record, likewise
    max_source_length: int = _setting(256, least=1)  # in pieces; for translation, see search.too_long
    max_target_length: int = _setting(256, least=1)  # in pieces
    too_long: str = _setting("drop", choices=("drop", "cut"))  # drop or cut training pairs above these lengths
    valid_share: float = _setting(0.0, least=0, below=1)  # share of the training pairs to hold out for validation
    valid_lines: int = _setting(0, least=0)  # validate on this many pairs from the start of data.valid; 0: all


@dataclass
class TokenizerConfig:
    """How text is split into pieces."""

    type: str = _setting("unigram", choices=TOKENIZER_NAMES)  # subwords (unigram, bpe), words or characters
    # type for the target, if shared is false; default: type
    tgt_type: str | None = _setting(None, choices=TOKENIZER_NAMES)
    model: str | None = None  # use this SentencePiece model instead of training one; if shared is false, for the source
    tgt_model: str | None = None  # likewise for the target, if shared is false
    vocab_size: int = _setting(8000, least=5, most=_MOST_ENTRIES)  # maximum; small training texts give fewer entries
    max_sentences: int = _setting(1_000_000, least=1)  # train the tokenizer on a random sample of at most this many
    shared: bool = True  # one vocabulary for source and target
    user_defined_symbols: Any = None  # list of texts that are always one piece, such as ['<sep>']; not with type=word
    # share of the characters of the text that are covered by pieces of single characters; default: 0.9995, and all
    # characters that occur 10 times; 1 with type=char
    character_coverage: float | None = _setting(
        None, least=0.98, most=(1.0, "it is a share of the characters of the text")
    )
    byte_fallback: bool | None = None  # write characters without a piece as bytes; default: true, false with type=char
    # share of bpe merges to skip, drawn again each epoch (Provilkov 2020)
    dropout: float = _setting(0.0, least=0, below=1)
    nbest: int = _setting(
        0, least=0, most=_MOST_HYPOTHESES
    )  # draw a unigram segmentation from this many best ones, again each epoch (Kudo 2018); 0: off
    nbest_power: float | None = _setting(
        None, least=0
    )  # with nbest: a segmentation is drawn in proportion to P(x)^power; default: 0.1
    normalization: str = _setting(
        "identity", choices=NORMALIZATION_NAMES
    )  # Unicode normalization by SentencePiece; _cf: also folds case


@dataclass
class ModelConfig:
    """The architecture of the model, and its dropouts."""

    # rnn: recurrent layers; hierarchical: recurrent layers over the words and over the sentences of a document
    # (Nallapati); transformer (Vaswani)
    encoder: str = _setting("rnn", choices=ENCODER_NAMES)
    # rnn: recurrent layers; transformer: not with the encoder hierarchical
    decoder: str = _setting("rnn", choices=DECODER_NAMES)
    cell: str = _setting("lstm", choices=CELL_NAMES)  # recurrent cell of encoder and decoder
    embedding_size: int = _setting(256, least=1, most=_MOST_WIDTH)  # width of the embeddings
    hidden_size: int = _setting(256, least=1, most=_MOST_WIDTH)  # width of the decoder
    encoder_hidden_size: int | None = _setting(
        None, least=1, most=_MOST_WIDTH
    )  # width of both directions together; default: hidden_size
    attention_size: int | None = _setting(
        None, least=1, most=_MOST_WIDTH
    )  # width of query and keys; default: hidden_size
    encoder_layers: int = _setting(1, least=1, most=_MOST_LAYERS)  # number of layers
    decoder_layers: int = _setting(1, least=1, most=_MOST_LAYERS)  # number of layers
    # number of heads of the attention multi_head and of a Transformer; must divide their width
    heads: int = _setting(4, least=1, most=_MOST_WIDTH)
    feedforward_size: int | None = _setting(
        None, least=1, most=_MOST_WIDTH
    )  # hidden width of the feed-forward layers of a Transformer; default: 4 times its width
    bidirectional: bool = True  # read the source in both directions
    residual: bool = False  # add the input of a layer to its output, between layers of the same width
    layer_norm: bool = False  # layer normalisation inside the cells (Ba 2016); they then run step by step
    attention: str = _setting(
        "additive", choices=ATTENTION_NAMES
    )  # additive (Bahdanau); dot, general, local_p (Luong); scaled_dot, multi_head (Vaswani)
    copy: str = _setting("none", choices=COPY_NAMES)  # pointer: gate and attention (See); copynet: joint softmax (Gu)
    copy_attention: str | None = _setting(None, choices=("shared", "separate"))  # of the pointer; default: shared
    # attention so far, as input of the energies: sum (See), or sum / fertility (Tu)
    coverage: str = _setting("none", choices=COVERAGE_NAMES)
    # parts that share one matrix; inputs: source and target embeddings; output: target embeddings and output layer;
    # all: all three
    tie_embeddings: str = _setting("none", choices=TIE_NAMES)
    bridge: str | None = _setting(
        None, choices=BRIDGE_NAMES
    )  # how the encoder initializes the decoder; default: linear from its final states, or mean if it has none
    dropout: float = _setting(0.3, least=0, below=1)  # of embeddings, between layers and of decoder outputs
    embedding_dropout: float | None = _setting(None, least=0, below=1)  # of embeddings; default: dropout
    word_dropout: float = _setting(0.0, least=0, below=1)  # of whole pieces, in the source and in the target input
    memory_dropout: float = _setting(0.0, least=0, below=1)  # of the encoder outputs that attention and copying read
    dropout_kind: str = _setting("ordinary", choices=("ordinary", "locked"))  # locked: one mask for all time steps
    recurrent_dropout: float = _setting(0.0, least=0, below=1)  # of the recurrent state, one mask per sentence (Gal)
    weight_drop: float = _setting(0.0, least=0, below=1)  # of hidden-to-hidden weights, one mask per batch (Merity)


@dataclass
class LossConfig:
    """The training loss."""

    # e in: (1 - e) * NLL + e * mean of -log P over the vocabulary
    label_smoothing: float = _setting(0.1, least=0, below=1)
    coverage_weight: float = _setting(0.0, least=0)  # lambda in: loss + lambda * coverage loss
    # updates before coverage starts; -1: it starts when train.patience is used up
    coverage_start: int = _setting(0, least=-1)
    coverage_warmup: int = _setting(0, least=0)  # updates over which coverage_weight rises from 0


@dataclass
class TrainConfig:
    """Updates, optimizer, validation and hardware of a training run."""

    max_updates: int = _setting(20000, least=1)  # the run ends after this many updates
    max_epochs: int = _setting(0, least=0)  # the run ends after this many epochs; 0: no limit
    # maximum size of a batch: its pairs times the length of its longer padded side
    batch_tokens: int = _setting(2048, least=1)
    accumulate: int = _setting(1, least=1)  # batches per update
    optimizer: str = _setting("adam", choices=("adam", "adamw", "sgd"))
    learning_rate: float = _setting(2e-3, least=0)  # the highest one; warmup and schedule lower it
    weight_decay: float | None = _setting(None, least=0)  # default: 0.01 with adamw, otherwise 0
    warmup: int = _setting(0, least=0)  # updates over which the learning rate rises from 0
    schedule: str = _setting(
        "constant", choices=("constant", "inverse_sqrt", "cosine", "plateau")
    )  # of the learning rate; cosine: to 0 at max_updates
    # with schedule=plateau: factor of the learning rate at each validation without gain; default: 0.5
    plateau_factor: float | None = _setting(None, least=0, below=1)
    clip_norm: float = _setting(5.0, least=0)  # maximum norm of the whole gradient; 0: no clipping
    average: float = _setting(0.998, least=0, below=1)  # decay of the moving average of the saved weights; 0: off
    valid_every: int = _setting(500, least=1)  # updates between validations; a shorter run validates at its end
    patience: int = _setting(10, least=0)  # stop after this many validations without gain; 0: never
    metric: str = _setting("bleu", choices=VALIDATION_METRICS)  # validation score that selects the best model
    log_every: int = _setting(50, least=1)  # updates between lines of the log
    # learning curves for TensorBoard, beside metrics.jsonl; requires the extra track
    track: str = _setting("none", choices=("none", "tensorboard"))
    profile: bool = False  # report at the end how the time of an update was spent; slows training down a little
    seed: int = _setting(1, least=0, below=2**63)  # seed of initial weights, order of batches, dropout and sampling
    # of matrix products; weights and loss stay fp32; auto: bf16 on a GPU that supports it and on a CPU with AMX,
    # otherwise fp32
    precision: str = _setting("fp32", choices=("auto", "fp32", "bf16", "fp16"))
    device: str = _setting("auto", choices=("auto", "cpu", "cuda"))  # auto: a GPU if there is one
    threads: int = _setting(0, least=0)  # CPU threads; 0: PyTorch's choice
    init_from: str | None = None  # start from the weights of this model; parameters of another size start at random
    freeze: Any = None  # list of parts of the model that are not trained, such as [encoder,src_embedding]
    src_vectors: str | None = None  # pretrained vectors of source pieces, as text: word2vec, GloVe or fastText
    tgt_vectors: str | None = None  # likewise of target pieces
    resume: str = _setting("auto", choices=("auto", "never"))  # auto: continue a run that the run directory holds


@dataclass
class SearchConfig:
    """The search: beam search, or sampling if ``samples`` is not 0."""

    beam_size: int = _setting(5, least=1, most=_MOST_HYPOTHESES)  # hypotheses per sentence; 1: greedy search
    length_penalty: float = _setting(1.0, least=0, below=10)  # a in: score = log P / |Y|^a; |Y| with end of sentence
    max_length_ratio: float | None = _setting(
        None, least=0, below=1000
    )  # maximum length of a translation, in pieces per source piece; default: learned from the training pairs
    # pieces added to that maximum; if only one of the two is set, max_length_ratio is 2.0 or max_length_extra is 10
    max_length_extra: int | None = _setting(None, least=1)
    min_length: int = _setting(0, least=0)  # minimum length of a translation in pieces
    too_long: str = _setting("cut", choices=("cut", "split"))  # cut or split sources above data.max_source_length
    # weight of the penalty for source pieces with too little attention (Wu 2016)
    coverage_penalty: float = _setting(0.0, least=0)
    summary_penalty: float = _setting(0.0, least=0)  # weight of the penalty for too much attention (Gehrmann 2018)
    batch_tokens: int = _setting(4096, least=1)  # maximum of source pieces in a batch, padding included
    precision: str = _setting(
        "fp32", choices=("fp32", "bf16", "auto")
    )  # of the products of the output layer; auto: bf16 on a CPU with instructions for it
    samples: int = _setting(
        0, least=0, most=_MOST_HYPOTHESES
    )  # translations drawn at random per sentence, the best score first; 0: beam search
    seed: int = _setting(1, least=0)  # seed of the samples
    temperature: float = _setting(
        1.0, least=0.01
    )  # divides the log-probabilities before a draw; below 1: more probable pieces
    top_k: int = _setting(0, least=0)  # draw from the k most probable pieces; 0: from all
    top_p: float = _setting(
        1.0, least=0, most=(1, "it is a probability")
    )  # draw from the most probable pieces whose probabilities sum to p
    no_repeat_ngram: int = _setting(0, least=0)  # n: no n-gram of pieces occurs twice in a translation; 0: off
    repetition_penalty: float = _setting(
        1.0, least=1
    )  # multiplies the log-probabilities of pieces that a translation already has (Keskar 2019)
    may_repeat: str = ""  # words, separated by spaces, that no_repeat_ngram and repetition_penalty do not affect
    forbidden: str = ""  # words, separated by spaces, whose sequence of pieces is blocked
    mbr: str = _setting(
        "none", choices=UTILITY_NAMES
    )  # minimum Bayes risk: choose the hypothesis with the largest mean chrF or BLEU against the others
    shortlist: int = _setting(
        0, least=0, most=(64, "a shortlist holds no more for a source piece")
    )  # choose from this number of probable target pieces per source piece, and the most frequent ones; 0: from all pieces


@dataclass
class Config:
    """Everything that defines a training run."""

    name: str = "run"  # the name of the run; with seq2seq train, default: the name of the data group
    run_dir: str = "runs/${name}"  # the folder of the run; ${name} is replaced by the name
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    search: SearchConfig = field(default_factory=SearchConfig)


def checked(config: Config) -> Config:
    """Check every value of a configuration and put its name into ``run_dir``.

    >>> checked(Config(name="mine")).run_dir
    'runs/mine'

    Raises:
        ValueError: a wrong type or a value out of range, with its key.
    """
    result: Config = from_container(Config, dataclasses.asdict(config))
    return dataclasses.replace(result, run_dir=result.run_dir.replace("${name}", result.name))


def from_container(kind: type, values: dict[str, Any], prefix: str = "") -> Any:
    """Convert nested plain values to the dataclass ``kind`` and check each of them.

    Args:
        prefix: text before the keys in messages, for example ``model.``.

    Raises:
        ValueError: an unknown key (the nearest one is named), a wrong type or a value out of range.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{prefix.rstrip('.') or 'a configuration'} must hold settings, but is {values}")
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise ValueError(unknown_key(prefix + key, [prefix + name for name in hints]))
    plain = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = from_container(typing.cast(type, hints[name]), {} if value is None else value, f"{prefix}{name}.")
        plain[name] = os.fspath(value) if isinstance(value, os.PathLike) else value
    result = kind(**plain)
    for item in dataclasses.fields(kind):
        _check(prefix + item.name, getattr(result, item.name), hints[item.name], item.metadata)
    return result


def keys(kind: type = Config, prefix: str = "", *, texts: bool = False) -> list[str]:
    """List every dotted key of the schema; with ``texts``, only the keys whose value is any text."""
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
        expected = "a number" if float in kinds else "a whole number"
        bounds = f" of at least {least}" + (f" and below {below}" if below is not None else "")
        raise ValueError(f"{key} must be {expected}{bounds}, but is {value}")
    if isinstance(value, int) and value >= 2**63:
        raise ValueError(f"{key} must be below {2**63}, because it is stored in 64 bits, but is {value}")
    if limits["most"] and value > limits["most"][0]:
        most, reason = limits["most"]
        raise ValueError(f"{key} must be at most {most}, because {reason}, but is {value}")
