"""Checks of settings together: values that contradict each other, and settings that would have no effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig, from_container

_SAMPLING_SETTINGS = ("seed", "temperature", "top_k", "top_p")  # they have no effect on beam search


def check_tokenizer(config: TokenizerConfig) -> None:
    """Refuse values out of range, and settings that have no effect or do not fit together.

    Raises:
        ValueError: with the key to change.
    """
    from_container(TokenizerConfig, dataclasses.asdict(config), "tokenizer.")
    for name in ("tgt_type", "tgt_model"):
        if getattr(config, name) is not None and config.shared:
            raise ValueError(
                f"tokenizer.{name} has no effect with one vocabulary; remove it, or set tokenizer.shared=false"
            )
    types = {config.type, config.tgt_type or config.type}
    if config.dropout and "bpe" not in types:
        raise ValueError(
            f"tokenizer.dropout omits merges, but tokenizer.type={config.type} has none; "
            "remove it, or set tokenizer.type=bpe"
        )
    if config.nbest and "unigram" not in types:
        raise ValueError(
            f"tokenizer.nbest draws segmentations, of which tokenizer.type={config.type} has only one; "
            "remove it, or set tokenizer.type=unigram"
        )
    if config.nbest_power is not None and not config.nbest:
        raise ValueError(
            "tokenizer.nbest_power has no effect with tokenizer.nbest=0; remove it, or set tokenizer.nbest=64"
        )
    _check_training_of_tokenizers(config)


# Settings of the training of a SentencePiece tokenizer that the type word does not have.
_SENTENCEPIECE_SETTINGS = ("user_defined_symbols", "character_coverage", "byte_fallback")


def _check_training_of_tokenizers(config: TokenizerConfig) -> None:
    """Refuse settings of the training of tokenizers where no tokenizer is trained, or none of the type that has them.

    Raises:
        ValueError: with the key to change.
    """
    sides = [("type", config.type, config.model)]
    if not config.shared:
        sides.append(("tgt_type" if config.tgt_type else "type", config.tgt_type or config.type, config.tgt_model))
    for key, kind, model in sides:
        if model is not None and kind == "word":
            raise ValueError(
                f"tokenizer.{key} must be unigram, bpe or char for a SentencePiece model, but is word; change it, or "
                f"remove the model {model}"
            )
    default = TokenizerConfig()
    if all(model is not None for _, _, model in sides):
        for name in ("vocab_size", "max_sentences", "normalization", *_SENTENCEPIECE_SETTINGS):
            if getattr(config, name) != getattr(default, name):
                raise ValueError(
                    f"tokenizer.{name} has no effect with tokenizer.model={config.model}, which is trained already; "
                    "remove one of them"
                )
    if all(kind == "word" for _, kind, _ in sides):
        for name in _SENTENCEPIECE_SETTINGS:
            if getattr(config, name) is not None:
                raise ValueError(
                    f"tokenizer.{name} has no effect with tokenizer.type=word; remove it, or set tokenizer.type=unigram"
                )
    symbols = config.user_defined_symbols
    if symbols is not None and not (
        isinstance(symbols, (list, tuple))
        and all(isinstance(symbol, str) and symbol and not any(map(str.isspace, symbol)) for symbol in symbols)
    ):
        raise ValueError(
            f"tokenizer.user_defined_symbols must be a list of texts without spaces, such as ['<sep>'], but is {symbols}"
        )


def check_model(config: ModelConfig, *, shared: bool) -> None:
    """Refuse values out of range, and settings that have no effect or do not fit together.

    Args:
        shared: whether source and target have one vocabulary.

    Raises:
        ValueError: with the key to change.
    """
    from_container(ModelConfig, dataclasses.asdict(config), "model.")
    _check_transformer(config)
    if config.tie_embeddings in ("inputs", "all") and not shared:
        raise ValueError(
            f"model.tie_embeddings={config.tie_embeddings} requires one vocabulary, but tokenizer.shared is false; "
            "set tokenizer.shared=true, or model.tie_embeddings=output or none"
        )
    if config.attention_size is not None and config.attention not in ("additive", "scaled_dot", "multi_head"):
        raise ValueError(
            f"model.attention_size has no effect with model.attention={config.attention}; "
            "remove it, or set model.attention=additive, scaled_dot or multi_head"
        )
    if (
        config.heads != ModelConfig().heads
        and config.attention != "multi_head"
        and "transformer" not in (config.encoder, config.decoder)
    ):
        raise ValueError(
            f"model.heads has no effect with model.attention={config.attention}; "
            "remove it, or set model.attention=multi_head, or model.encoder or model.decoder to transformer"
        )
    if config.copy_attention is not None and config.copy != "pointer":
        raise ValueError(
            f"model.copy_attention has no effect with model.copy={config.copy}; remove it, or set model.copy=pointer"
        )
    if config.copy == "pointer" and config.attention == "none":
        raise ValueError(
            "model.copy=pointer requires an attention, but model.attention is none; "
            "set model.attention=additive or model.copy=copynet"
        )
    _check_residual(config)
    if config.memory_dropout and config.attention == config.copy == "none":
        raise ValueError(
            "model.memory_dropout has no effect with model.attention=none and model.copy=none; "
            "remove it, or set one of them"
        )
    dropped = config.dropout or config.embedding_dropout or config.memory_dropout
    if config.dropout_kind == "locked" and not dropped:
        raise ValueError("model.dropout_kind=locked has no effect with model.dropout=0; set model.dropout above 0")


def _check_transformer(config: ModelConfig) -> None:
    """Refuse settings that have no effect with a Transformer, or without one.

    Raises:
        ValueError: with the first such key.
    """
    sides = [side for side in ("encoder", "decoder") if getattr(config, side) == "transformer"]
    if not sides:
        found = f"model.encoder={config.encoder} and model.decoder=rnn"
        _refuse(config, ("feedforward_size",), found, "set one of these to transformer")
    if len(sides) == 2:
        found = "model.encoder=transformer and model.decoder=transformer"
        names = ("cell", "layer_norm", "residual", "recurrent_dropout", "weight_drop")
        _refuse(config, names, found, "set one of these to rnn")
    if "encoder" in sides:
        _refuse(config, ("bidirectional",), "model.encoder=transformer", "set model.encoder=rnn")
        if config.bridge in ("linear", "last") and config.decoder == "rnn":
            raise ValueError(
                f"model.bridge={config.bridge} requires an encoder with final states, but model.encoder is transformer; "
                "set model.bridge=mean or zero, or model.encoder=rnn"
            )
    if "decoder" in sides:
        if config.encoder == "hierarchical":
            raise ValueError(
                "model.encoder=hierarchical re-scales the attention of a recurrent decoder, but model.decoder is transformer; "
                "set model.decoder=rnn, or model.encoder=rnn or transformer"
            )
        if config.coverage != "none":
            raise ValueError(
                f"model.coverage={config.coverage} requires a recurrence over the target steps, but model.decoder is "
                "transformer, which computes all steps at once; set model.coverage=none or model.decoder=rnn"
            )
        _refuse(config, ("bridge",), "model.decoder=transformer", "set model.decoder=rnn")
        if config.copy_attention != "separate":  # which is of the kind model.attention
            remedy = "set model.decoder=rnn or model.copy_attention=separate"
            _refuse(config, ("attention", "attention_size"), "model.decoder=transformer", remedy)
    for side in sides:
        _check_width(config, side)


def _refuse(config: ModelConfig, names: tuple[str, ...], found: str, remedy: str) -> None:
    """Refuse settings that have no effect with the settings ``found``, where they differ from their defaults.

    Args:
        remedy: the settings with which they have an effect.

    Raises:
        ValueError: with the first such key.
    """
    default = ModelConfig()
    for name in names:
        value = getattr(config, name)
        if value != getattr(default, name):
            value = str(value).lower() if isinstance(value, bool) else value
            raise ValueError(f"model.{name}={value} has no effect with {found}; remove it, or {remedy}")


def _check_width(config: ModelConfig, side: str) -> None:
    """Check the width of a Transformer, ``side`` = encoder or decoder.

    Raises:
        ValueError: it is not that of the embeddings, or model.heads does not divide it.
    """
    key, width = "model.hidden_size", config.hidden_size
    if side == "encoder" and config.encoder_hidden_size is not None:
        key, width = "model.encoder_hidden_size", config.encoder_hidden_size
    if width != config.embedding_size:
        raise ValueError(
            f"{key} must equal model.embedding_size={config.embedding_size} with model.{side}=transformer, whose layers add "
            f"their outputs to the embeddings, but is {width}; set both to the same number"
        )
    if width % config.heads:
        raise ValueError(
            f"model.heads must divide the width of a Transformer, {key}={width}, but is {config.heads}; change one of them"
        )


def _check_residual(config: ModelConfig) -> None:
    """Refuse residual connections where every recurrent part has one layer.

    Raises:
        ValueError: with the keys to change.
    """
    recurrent = [side for side in ("encoder", "decoder") if getattr(config, side) != "transformer"]
    if config.residual and all(getattr(config, f"{side}_layers") == 1 for side in recurrent):
        found = "encoder and decoder have one each" if len(recurrent) == 2 else f"the recurrent {recurrent[0]} has one"
        layers = " or ".join(f"model.{side}_layers" for side in recurrent)
        raise ValueError(
            f"model.residual requires more than one layer, but {found}; set {layers} above 1, or model.residual=false"
        )


def check_search(config: SearchConfig, *, has_attention: bool) -> None:
    """Refuse values out of range, penalties without an attention, and settings that have no effect.

    Raises:
        ValueError: with the keys to change.
    """
    from_container(SearchConfig, dataclasses.asdict(config), "search.")
    if (config.coverage_penalty or config.summary_penalty) and not has_attention:
        raise ValueError(
            "search.coverage_penalty and search.summary_penalty require an attention, but model.attention is none; "
            "set them to 0"
        )
    default = SearchConfig()
    if config.samples:
        if config.beam_size != default.beam_size:
            raise ValueError(_beam_with_samples(config))
    else:
        for name in _SAMPLING_SETTINGS:
            if getattr(config, name) != getattr(default, name):
                raise ValueError(
                    f"search.{name}={getattr(config, name)} has no effect with search.samples=0, the beam search; "
                    "remove it, or set search.samples to the number of translations to draw"
                )
    if config.may_repeat.strip() and not config.no_repeat_ngram and config.repetition_penalty == 1:
        raise ValueError(
            f"search.may_repeat={config.may_repeat} has no effect without search.no_repeat_ngram and "
            "search.repetition_penalty; remove it, or set one of them"
        )
    hypotheses = config.samples or config.beam_size
    if config.mbr != "none" and hypotheses == 1:
        raise ValueError(
            f"search.mbr={config.mbr} compares hypotheses and requires more than one, but search."
            f"{'samples' if config.samples else 'beam_size'} is 1; set it to 2 or more"
        )


def changed_search(config: SearchConfig, changes: Mapping[str, Any]) -> SearchConfig:
    """Return search settings with some changes; a number of samples changes from beam search to sampling, or back.

    Args:
        changes: new values; None leaves a setting unchanged.

    Raises:
        ValueError: an unknown setting, a value out of range, or a beam size with sampling.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    values = dataclasses.asdict(config) | given
    if "samples" in given:
        default = SearchConfig()
        ineffective = ("beam_size",) if given["samples"] else _SAMPLING_SETTINGS
        values |= {name: getattr(default, name) for name in ineffective if name not in given}
    changed: SearchConfig = from_container(SearchConfig, values, "search.")
    if changed.samples and "beam_size" in given:
        raise ValueError(_beam_with_samples(changed))
    return changed


def _beam_with_samples(config: SearchConfig) -> str:
    return (
        f"search.beam_size={config.beam_size} has no effect with search.samples={config.samples}, which draws translations "
        "at random; remove one of them"
    )
