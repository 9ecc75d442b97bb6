"""
8. Attention, and other cures for the fixed context
===================================================

The model of the last chapter squeezes the whole source into one vector. With *attention* (`Bahdanau et al. 2015
<https://arxiv.org/abs/1409.0473>`_) the decoder looks at the source again at each step: it compares its state with every
encoder state, turns the results into weights that sum to 1, and reads the weighted sum. This chapter looks at the weights, and
compares attention with other changes of the model: one direction or both, more width, an encoder over sentences, and a
Transformer.
"""

import time

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.layers import make_attention
from seq2seq.model import Seq2Seq
from seq2seq.search.beam import SearchOptions, beam_search
from seq2seq.text.tokenizer import BOS, EOS, PAD

# %%
# One query
# ---------
#
# An attention compares a query :math:`s` of width 6, the state of the decoder, with five values :math:`h_j` of width 8,
# the states of the encoder. The kind "additive" computes the energies :math:`e_j = v \cdot \tanh(W s + U h_j + b)` with
# learned :math:`v, W, U, b`. The weights :math:`a_j` are their softmax, and the context is :math:`\sum_j a_j h_j`. The
# second sequence has only two real values: padding gets no weight.

torch.manual_seed(1)
attention = make_attention("additive", query_size=6, memory_size=8)
query, values = torch.randn(2, 1, 6), torch.randn(2, 5, 8)
mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
attended = attention(query, values, mask)
print("weights:", [[round(weight, 2) for weight in row[0]] for row in attended.weights.tolist()])
print("context:", tuple(attended.context.shape))

# %%
# The same task with attention
# ----------------------------
#
# Again a model repeats strings, here of up to 8 letters. ``segments`` cuts a string into "sentences" of four letters; only the
# hierarchical encoder (`Nallapati et al. 2016 <https://aclanthology.org/K16-1028>`_) reads them.

FIRST, LETTERS = 4, 10  # the first letter has id 4, after padding, unknown, start and end
SIZE = FIRST + LETTERS
LONGEST = 8  # in training


def draw(rows, length):
    return torch.randint(FIRST, SIZE, (rows, length)).tolist()


def make_batch(strings):
    segments = [[place // 4 for place in range(len(string))] for string in strings]
    return collate(strings, strings, pad_id=PAD, bos_id=BOS, eos_id=EOS, segments=segments)


def train(learning_rate=1e-2, updates=350, **options):
    """Return the model, and the seconds of the training."""
    torch.manual_seed(1)
    model = Seq2Seq(ModelConfig(dropout=0.0, **options), src_size=SIZE, tgt_size=SIZE, shared=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    begin = time.perf_counter()
    for _ in range(updates):
        loss = model(make_batch(draw(32, int(torch.randint(1, LONGEST + 1, ())))))
        optimizer.zero_grad()
        (loss.total / loss.tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model, time.perf_counter() - begin


def accuracy(model, length, rows=100):
    """Return the share of letters that are repeated at their position."""
    strings = draw(rows, length)
    options = SearchOptions(BOS, EOS, beam_size=1)
    with model.evaluating():
        found = beam_search(model.step, model.encode(make_batch(strings)), [length + 1] * rows, options)
    correct = sum(a == b for hypotheses, string in zip(found, strings) for a, b in zip(hypotheses[0].ids, string))
    return correct / (rows * length)


small = {"cell": "gru", "embedding_size": 32, "hidden_size": 48}
transformer = {"encoder": "transformer", "decoder": "transformer", "embedding_size": 48, "hidden_size": 48}
models = {
    "fixed context": train(**small, attention="none"),
    "attention, one direction": train(**small, bidirectional=False),
    "attention, both directions": train(**small),
    "attention, twice as wide": train(**small | {"hidden_size": 96}),
    "attention, hierarchical": train(**small, encoder="hierarchical"),
    "Transformer": train(4e-3, 250, **transformer),
}

# %%
# The accuracy by length, also beyond the trained lengths:

lengths = (2, 4, 6, 8, 10, 12)
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for (name, (model, seconds)), marker in zip(models.items(), "osD^vx"):
    shares = [accuracy(model, length) for length in lengths]
    weights = sum(parameter.numel() for parameter in model.parameters())
    axes.plot(lengths, shares, marker=marker, label=name)
    print(f"{name:30} {weights:6} weights {seconds:5.1f} s", [round(share, 2) for share in shares])
axes.axvline(LONGEST, color="0.5", linestyle=":", label="longest string in training")
axes.set(xlabel="length of the string", ylabel="share of correct letters", ylim=(0, 1.05))
axes.legend(fontsize=8)

# %%
# At the longest trained length, every model with attention repeats more letters than the one with a fixed context. The other
# changes matter less here:
#
# - Both directions are no gain on this task: to repeat a letter, nothing that comes after it is needed, and each
#   direction has only half the width. Chapter 5 has a task where the future counts.
# - More width is a gain, at about three times as many weights.
# - The hierarchical encoder reads each group of four letters on its own, and then the sequence of groups; the attention
#   weights both letters and groups. Such groups mean nothing here, so it gains nothing either. It is made for documents,
#   whose sentences are units.
# - The Transformer has no recurrence at all. It compares all positions with each other directly. Here it is trained for
#   250 updates instead of 350 and with another learning rate, so the two trainings are not a measure of speed.
#
# Beyond the trained lengths, all of them lose accuracy.
#
# Where the decoder looks
# -----------------------
#
# ``provenance`` returns the weights of each step for a known target. We compare the attention in one and in both directions.

string = draw(1, LONGEST)
letters = [chr(ord("a") + index - FIRST) for index in string[0]] + ["end"]
figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axes, name in zip(panels, ("attention, one direction", "attention, both directions")):
    model = models[name][0]
    with model.evaluating():
        weights = model.provenance(make_batch(string)).weights  # (T, S)
    image = axes.imshow(weights.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="source", ylabel="target", title=name, xticks=range(9), yticks=range(9))
    axes.set_xticklabels(letters)
    axes.set_yticklabels(letters)
    print(f"{name}: the largest weight of a step is {weights.amax(dim=1).mean():.2f} on average")
figure.colorbar(image, ax=panels, label="weight")

# %%
# In both models the largest weights are along the diagonal: the decoder looks near the letter that it writes next. The weights
# need not be sharp for that. A state of the encoder also knows the neighbours of its letter, in both directions if it reads
# in both, so looking at several states can be enough to name one letter.
#
# Attention removes the limit of the fixed context at the lengths of the training, and it shows where a letter comes
# from. The next chapter uses that to copy.
