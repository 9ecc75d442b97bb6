"""Layers of the model. They import only torch, and need neither a configuration nor a tokenizer.

The names below are the interface for systems of your own, for example a classifier of sequences. Every docstring has an
example. The modules of this folder hold the other parts of the model.

>>> encoder = RecurrentEncoder("lstm", input_size=8, hidden_size=16)  # both directions
>>> pool, dropout = AttentionPool(16), SequenceDropout(0.2, locked=True)
>>> encoded = encoder(dropout(torch.randn(2, 5, 8)), torch.tensor([5, 3]))  # two sequences of 5 and 3 steps
>>> pool(encoded.values, encoded.mask).shape
torch.Size([2, 16])

Shape letters: B sentences, S source length, T target length, R target tokens without padding, V target vocabulary,
Z sentences of a document, E embedding width, H decoder width, M encoder width (both directions), A attention width, L layers, K hypotheses of a beam,
N = B*K rows, W width of a layer's packed state (H, or 2H for the LSTM: h, then c). Lengths include the end of sentence.
In cells and in the fast twins H is the width of one layer and direction, D the number of directions, G gates per unit, and
I the input width.
"""

from seq2seq.layers.attention import Attended, make_attention
from seq2seq.layers.cells import StackedCell
from seq2seq.layers.dropout import SequenceDropout, WordDropout, drop_weight
from seq2seq.layers.encoder import Encoded, RecurrentEncoder
from seq2seq.layers.pooling import AttentionPool

__all__ = [
    "Attended",
    "AttentionPool",
    "Encoded",
    "RecurrentEncoder",
    "SequenceDropout",
    "StackedCell",
    "WordDropout",
    "drop_weight",
    "make_attention",
]
