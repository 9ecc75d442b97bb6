"""Extend the vocabularies of a trained model with the pieces of a new text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from seq2seq import model_dir
from seq2seq.model_dir import CONFIG, Tokenizers
from seq2seq.text.extension import extend_tokenizer
from seq2seq.text.factory import tokenizer_configs
from seq2seq.text.tags import TaggedTokenizer
from seq2seq.text.tokenizer import UNK, Tokenizer

_SRC_ROWS = ("src_embedding.weight",)  # parameters with a row for each source piece
_TGT_ROWS = ("tgt_embedding.weight", "readout.logits.weight", "readout.logits.bias")  # and for each target piece


def extend_model(path: str, texts: Sequence[Sequence[str]], *, output: Path, most: int) -> list[int]:
    """Save a model with more pieces.

    The rows of embeddings and output layer are mapped by the strings of their pieces, so those of old pieces do not change.
    The row of a new piece is the mean of the rows of the old pieces that its text is segmented into. The new model has no
    shortlist, since that of the model has other pieces, and does not search with one.

    Args:
        path: the model or run directory.
        texts: the new texts of the shared vocabulary, or of the source and of the target; no text: no new pieces.
        output: the new model directory.
        most: the largest number of new pieces in a vocabulary.

    Returns:
        The number of new pieces in each vocabulary.

    Raises:
        ValueError: there is no model, the output holds a model, or the texts have no new piece.
    """
    if (output / CONFIG).exists():
        raise ValueError(f"--output must be a new folder, but {output} holds a model")
    model, settings, before = model_dir.load(path, torch.device("cpu"))
    configs = tokenizer_configs(settings.tokenizer)
    if len(configs) == 1 and len(texts) > 1 and texts[1]:
        raise ValueError("--tgt-corpus must be omitted, because source and target share one vocabulary; use --corpus")
    plain = [each.plain if isinstance(each, TaggedTokenizer) else each for each in before][: len(configs)]
    extended = [
        extend_tokenizer(old, config, lines, most=most) if lines else old
        for old, config, lines in zip(plain, configs, texts, strict=False)
    ]
    counts = [new.size - old.size for new, old in zip(extended, plain, strict=True)]
    if not any(counts):
        raise ValueError("the corpus must have pieces that the model lacks, but has none")
    after = model_dir.with_tags(Tokenizers(extended[0], extended[-1]), before.src.tags)
    larger = model_dir.build_model(settings, after)
    weights = model.state_dict()
    for names, old, new in ((_SRC_ROWS, before.src, after.src), (_TGT_ROWS, before.tgt, after.tgt)):
        rows = _row_sources(old, new)
        weights |= {name: _mapped(weights[name], rows) for name in names}
    larger.load_state_dict(weights)
    search = dataclasses.replace(settings.search, shortlist=0)
    model_dir.save_settings(output, settings._replace(search=search), after)
    model_dir.save_weights(output, larger)
    return counts


def _row_sources(old: Tokenizer, new: Tokenizer) -> list[list[int]]:
    """Return for each new id the old ids whose rows are averaged: one for a piece that the old vocabulary has."""
    ids = {piece: index for index, piece in enumerate(old.pieces(range(old.size)))}
    names = new.pieces(range(new.size))
    texts = [new.decode([index]) for index in range(new.size)]
    segments = old.encode_batch(texts)
    return [[ids[name]] if name in ids else found or [UNK] for name, found in zip(names, segments, strict=True)]


def _mapped(weight: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
    """Make a parameter whose rows are means of rows of ``weight``."""
    return torch.stack([weight[row[0]] if len(row) == 1 else weight[list(row)].mean(dim=0) for row in rows])
