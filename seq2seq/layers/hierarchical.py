"""The hierarchical encoder: recurrent layers over the words of each sentence, and over the sentences of a document.

Nallapati et al. 2016, section 2.4. The word layers start anew in every sentence, so all sentences of a batch run at once,
as rows of the recurrent encoder; the number of steps is that of the longest sentence. A sentence enters the sentence
layers as the summary of its word layers, the last output of each direction. The values of the words are those of the
word layers; the attention re-scales their weights by the weights of the sentences, see ``attention.Attention.prior``. The
summary and the final states, from which the decoder starts, are those of the sentence layers. The positional embeddings
of the paper are left out, since the sentence layers are recurrent.

Letters: Z sentences of the longest document in sentences, R sentences of the batch, W words of the longest sentence in
words (pieces, the end of sentence included); the others are those of ``seq2seq.layers``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seq2seq.layers.encoder import Encoded, EncodedSentences, RecurrentEncoder, Source


class SentenceLayout(NamedTuple):
    """The places of the words and the sentences of a batch; all tensors are on the CPU.

    The R sentences are rows in the order of their lengths, the longest one first. In ``counts`` and ``rows`` the documents
    are in the order of their numbers of sentences, so that cuDNN need not sort them, which synchronises a GPU.
    """

    lengths: Tensor  # (R,), words of each row
    counts: Tensor  # (B,), sentences of each document, the largest number first
    numbers: Tensor  # (B, S), number of the sentence of each position in its document; at padding that of the last one
    words: Tensor  # (R, W), index into B*S of each word of the rows; after the end of a sentence its last word
    places: Tensor  # (B, S), index into R*W of each position; at padding 0
    rows: Tensor  # (B, Z), row of each sentence of the documents; after the last sentence its row again
    documents: Tensor  # (B,), place in ``counts`` and ``rows`` of each document

    @classmethod
    def of(cls, segments: Tensor, lengths: Tensor) -> SentenceLayout:
        """Find the places.

        Args:
            segments: (B, S), numbers that differ between neighbouring positions of two sentences; not read at padding.
            lengths: real positions of each document, at least 1: (B,).
        """
        (B, S), positions = segments.shape, torch.arange(segments.shape[1])
        real = positions < lengths.unsqueeze(1)
        begins = real.clone()
        begins[:, 1:] &= segments[:, 1:] != segments[:, :-1]
        numbers, counts = begins.cumsum(dim=1) - 1, begins.sum(dim=1)
        first_sentence = (counts.cumsum(dim=0) - counts).unsqueeze(1)  # of each document, in the order of the text
        sentences = first_sentence + numbers  # (B, S)
        starts = begins.flatten().nonzero().squeeze(1)  # (R,), index into B*S
        sizes = sentences[real].bincount(minlength=len(starts))
        order = sizes.argsort(descending=True, stable=True)
        row = order.argsort()  # of each sentence
        offsets = torch.minimum(torch.arange(int(sizes.max())), sizes[order].unsqueeze(1) - 1)
        columns = torch.arange(B * S).view(B, S) - starts[sentences]
        largest = counts.argsort(descending=True, stable=True)  # documents
        last = torch.minimum(torch.arange(int(counts.max())), counts[largest].unsqueeze(1) - 1)
        return cls(
            lengths=sizes[order],
            counts=counts[largest],
            numbers=numbers,
            words=starts[order].unsqueeze(1) + offsets,
            places=(row[sentences] * offsets.shape[1] + columns).masked_fill(~real, 0),
            rows=row[first_sentence[largest] + last],
            documents=largest.argsort(),
        )


class HierarchicalEncoder(nn.Module):
    """Encodes the words of each sentence, then the sentences of each document.

    >>> words = RecurrentEncoder("gru", input_size=4, hidden_size=6)
    >>> encoder = HierarchicalEncoder(words, RecurrentEncoder("gru", input_size=6, hidden_size=6), nn.Dropout(0.1))

    Args:
        words: the layers over the words of a sentence.
        sentences: the layers over the sentences; they read the values of ``words``.
        dropout: dropout of the inputs of ``sentences``.
    """

    has_sentences = True

    def __init__(self, words: RecurrentEncoder, sentences: RecurrentEncoder, dropout: nn.Module) -> None:
        super().__init__()
        self.words = words
        self.sentences = sentences
        self.dropout = dropout
        self.hidden_size = words.hidden_size
        self.direction_size = sentences.direction_size

    def forward(self, embedded: Tensor, source: Source) -> Encoded:
        """Encode embedded pieces (B, S, E).

        Raises:
            ValueError: the source has no segments.
        """
        if source.segments.shape != embedded.shape[:2]:
            raise ValueError("a hierarchical encoder requires Batch.segments; pass segments to collate")
        layout = SentenceLayout.of(source.segments, source.src_lengths)
        numbers, words, places, rows, documents = (
            tensor.to(embedded.device, non_blocking=True) for tensor in layout[2:]
        )
        inside = self.words(_take(embedded.flatten(0, 1), words), layout.lengths)
        outside = self.sentences(self.dropout(_take(inside.summary, rows)), layout.counts)
        assert outside.final is not None
        tensors = (outside.values, outside.mask, outside.summary, outside.final)
        sentence_values, sentence_mask, summary, final = (tensor.index_select(0, documents) for tensor in tensors)
        mask = torch.arange(embedded.shape[1], device=embedded.device)
        mask = mask < source.src_lengths.to(embedded.device, non_blocking=True).unsqueeze(1)
        values = _take(inside.values.flatten(0, 1), places).masked_fill(~mask.unsqueeze(2), 0.0)
        sentences = EncodedSentences(sentence_values, sentence_mask, numbers)
        return Encoded(values, mask, summary, final, sentences)


def _take(vectors: Tensor, places: Tensor) -> Tensor:
    """Select vectors (P, X) by their indices (I, J): (I, J, X)."""
    return vectors.index_select(0, places.flatten()).unflatten(0, places.shape)
