"""Change a serialized SentencePiece model: renumber its special tokens, and add pieces.

The format is a protocol buffer, ``sentencepiece_model.proto``. A message is a sequence of fields; each begins with a varint
of 8 * number + wire type. Of a field that may occur once, the last occurrence counts, and nested messages are merged, so
that a setting is changed by appending a field.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import sentencepiece

from seq2seq.text.tokenizer import BOS, EOS, PAD, SPECIALS, UNK, UNKNOWN

_PIECE, _TRAINER = 1, 2  # fields of the model: its pieces, one field each, and the settings of the trainer
_NAME, _SCORE, _TYPE = 1, 2, 3  # fields of a piece
_NORMAL, _UNKNOWN_TYPE, _CONTROL = 1, 2, 3  # types of a piece
_MODEL_TYPE, _UNK_ID, _BOS_ID, _EOS_ID, _PAD_ID, _UNK_SURFACE, _UNK_NAME = 3, 40, 41, 42, 43, 44, 45  # of the trainer
_BOS_NAME, _EOS_NAME, _PAD_NAME = 46, 47, 48
_VARINT, _BYTES = 0, 2  # wire types
_WIDTHS = {1: 8, 5: 4}  # bytes of the wire types of fixed width
_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


class _Field(NamedTuple):
    number: int
    value: bytes | int
    raw: bytes  # the whole field, as it stands in the message


def model_kind(model: bytes) -> str:
    """Return the kind of a SentencePiece model: unigram, bpe, word or char.

    Raises:
        ValueError: the bytes are not a SentencePiece model.
    """
    load_processor(model)
    kind = 1
    for field in _fields(model):
        if field.number == _TRAINER and isinstance(field.value, bytes):
            kind = next((int(f.value) for f in _fields(field.value) if f.number == _MODEL_TYPE), kind)
    return _KINDS[kind]


def renumber(model: bytes) -> bytes:
    """Give the ids 0 to 3 to padding, unknown, start and end; the other pieces follow in their order.

    A special token that the model lacks is added. All four get the names ``SPECIALS``.

    Raises:
        ValueError: the bytes are not a SentencePiece model.
    """
    processor = load_processor(model)
    special = {processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id()}
    fields = list(_fields(model))
    pieces = [field.raw for field in fields if field.number == _PIECE]
    kept = [
        raw for index, raw in enumerate(pieces) if index not in special and processor.id_to_piece(index) not in SPECIALS
    ]
    first = [_piece(name, 0.0, _UNKNOWN_TYPE if name == SPECIALS[UNK] else _CONTROL) for name in SPECIALS]
    others = [field.raw for field in fields if field.number != _PIECE]
    ids = ((_UNK_ID, UNK), (_BOS_ID, BOS), (_EOS_ID, EOS), (_PAD_ID, PAD))
    names = ((_UNK_NAME, UNK), (_BOS_NAME, BOS), (_EOS_NAME, EOS), (_PAD_NAME, PAD))
    settings = [_number(field, value) for field, value in ids]
    settings += [_text(field, SPECIALS[value].encode()) for field, value in names]
    settings.append(_text(_UNK_SURFACE, UNKNOWN.encode()))
    return b"".join([*first, *kept, *others, _text(_TRAINER, b"".join(settings))])


def add_pieces(model: bytes, pieces: Iterable[tuple[str, float]]) -> bytes:
    """Add pieces, each with its score, after those of a model."""
    return model + b"".join(_piece(name, score, _NORMAL) for name, score in pieces)


class Segmentation(NamedTuple):
    """One of the n best segmentations of a text, as SentencePiece serializes it (SentencePieceText)."""

    message: bytes
    score: float  # natural logarithm of its probability

    def read(self) -> tuple[list[int], list[str], list[tuple[int, int]]]:
        """Return the ids and the strings of its pieces, and their start and end in the UTF-8 text."""
        ids, pieces, offsets = [], [], []
        for field in _fields(self.message):
            if field.number == 2 and isinstance(field.value, bytes):
                values = {each.number: each.value for each in _fields(field.value)}
                ids.append(int(values.get(2, 0)))
                pieces.append(bytes(values[1]).decode())
                offsets.append((int(values.get(4, 0)), int(values.get(5, 0))))
        return ids, pieces, offsets


def read_nbest(message: bytes) -> list[Segmentation]:
    """Read the n best segmentations of a text (NBestSentencePieceText), the best first.

    Fields are in the order of their numbers, so the score, field 3, is in the last bytes of a segmentation.
    """
    result = []
    for field in _fields(message):
        assert isinstance(field.value, bytes)
        has_score = field.value[-5:-4] == bytes([8 * 3 + 5])
        result.append(Segmentation(field.value, struct.unpack("<f", field.value[-4:])[0] if has_score else 0.0))
    return result


def load_processor(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """Load a serialized SentencePiece model.

    Raises:
        ValueError: the bytes are not a SentencePiece model.
    """
    processor = sentencepiece.SentencePieceProcessor()
    try:
        loaded = bool(model) and processor.load_from_serialized_proto(model)
    except RuntimeError:
        loaded = False
    if not loaded:
        raise ValueError(f"these {len(model)} bytes are not a SentencePiece model")
    return processor


def _fields(message: bytes) -> Iterator[_Field]:
    """Yield the fields of a message that SentencePiece has loaded."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _read_varint(message, position)
        number, wire = tag >> 3, tag & 7
        value: bytes | int
        if wire == _VARINT:
            value, position = _read_varint(message, position)
        else:
            size, position = _read_varint(message, position) if wire == _BYTES else (_WIDTHS[wire], position)
            value, position = message[position : position + size], position + size
        yield _Field(number, value, message[start:position])


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """Read a number in groups of 7 bits, the lowest first; return it and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _varint(value: int) -> bytes:
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def _number(field: int, value: int) -> bytes:
    return _varint(8 * field + _VARINT) + _varint(value)


def _text(field: int, value: bytes) -> bytes:
    return _varint(8 * field + _BYTES) + _varint(len(value)) + value


def _piece(name: str, score: float, kind: int) -> bytes:
    content = _text(_NAME, name.encode()) + _varint(8 * _SCORE + 5) + struct.pack("<f", score) + _number(_TYPE, kind)
    return _text(_PIECE, content)
