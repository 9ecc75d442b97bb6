"""
7. Encoder and decoder, and what a fixed context loses
======================================================

A sequence-to-sequence model (`Sutskever et al. 2014 <https://arxiv.org/abs/1409.3215>`_, `Cho et al. 2014
<https://aclanthology.org/D14-1179>`_) has two recurrent networks. The encoder reads the source and hands over one vector, the
context. The decoder writes the target, one symbol at a time. This chapter trains such a model to repeat a string, and
measures how its accuracy depends on the length of the string and on the width of the context.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.model import Seq2Seq
from seq2seq.search.beam import SearchOptions, beam_search
from seq2seq.text.tokenizer import BOS, EOS, PAD

# %%
# Strings and batches
# -------------------
#
# A string is a list of ids. ``collate`` pads the strings of a batch and adds the symbols for start and end. In training the
# decoder reads ``tgt_in`` and has to predict ``tgt_out``, whose symbol at each step is the input of the next step. That is
# called *teacher forcing*: the next input is the right symbol, even if the decoder would have written another one.

FIRST, LETTERS = 4, 20  # the first letter has id 4, after padding, unknown, start and end
SIZE = FIRST + LETTERS
LONGEST = 10  # in training


def draw(rows, length):
    return torch.randint(FIRST, SIZE, (rows, length)).tolist()


def make_batch(strings):
    return collate(strings, strings, pad_id=PAD, bos_id=BOS, eos_id=EOS)


batch = make_batch(draw(1, 4))
print("src:    ", batch.src.tolist())
print("tgt_in: ", batch.tgt_in.tolist())
print("tgt_out:", batch.tgt_out.tolist())

# %%
# Model and training
# ------------------
#
# ``attention="none"`` gives the decoder the encoder's summary as its context at every step. With one layer of GRU cells, the
# decoder's initial state is computed from the same vector. The loss of a batch is a sum over its target symbols.


def train(width, updates=300):
    torch.manual_seed(1)
    config = ModelConfig(cell="gru", attention="none", embedding_size=32, hidden_size=width, dropout=0.0)
    model = Seq2Seq(config, src_size=SIZE, tgt_size=SIZE, shared=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        length = int(torch.randint(1, LONGEST + 1, ()))
        loss = model(make_batch(draw(64, length)))
        optimizer.zero_grad()
        (loss.total / loss.tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


# %%
# Writing
# -------
#
# After training there is no right target to read: the decoder reads what it wrote itself. With a beam of one hypothesis, the
# search takes the most probable symbol of each step.


def write(model, strings):
    """Return what the model writes for strings of equal length."""
    limits = [len(string) + 1 for string in strings]  # with the end symbol
    options = SearchOptions(BOS, EOS, beam_size=1)
    with model.evaluating():
        found = beam_search(model.step, model.encode(make_batch(strings)), limits, options)
    return [hypotheses[0].ids for hypotheses in found]


def accuracy(model, length, rows=150):
    """Return the share of letters that are repeated at their position."""
    strings = draw(rows, length)
    correct = sum(a == b for ids, string in zip(write(model, strings), strings) for a, b in zip(ids, string))
    return correct / (rows * length)


lengths = (2, 4, 6, 8, 10, 12, 14)
models = {width: train(width) for width in (24, 96)}
shares = {width: [accuracy(model, length) for length in lengths] for width, model in models.items()}

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for (width, by_length), marker in zip(shares.items(), "os"):
    axes.plot(lengths, by_length, marker=marker, label=f"context of width {width}")
    print(f"width {width}:", [round(share, 2) for share in by_length])
axes.axvline(LONGEST, color="0.5", linestyle=":", label="longest string in training")
axes.axhline(1 / LETTERS, color="0.5", linestyle="--", label="guessing")
axes.set(xlabel="length of the string", ylabel="share of correct letters", ylim=(0, 1.05))
axes.legend()

# %%
# The wide context repeats strings of two letters without an error. But the accuracy falls with the length, although the
# training had strings of up to 10 letters. The wider context keeps more at every length. The context has the same size whatever
# the length of the string, and what the model has not learned to fit into it is lost.
#
# Which letters are lost?
# -----------------------
#
# We look at strings of 10 letters, position by position.

strings = draw(300, LONGEST)
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for (width, model), marker in zip(models.items(), "os"):
    written = torch.tensor([ids[:LONGEST] + [PAD] * (LONGEST - len(ids)) for ids in write(model, strings)])
    by_place = (written == torch.tensor(strings)).float().mean(dim=0)
    axes.plot(range(1, LONGEST + 1), by_place.numpy(), marker=marker, label=f"context of width {width}")
    print(f"width {width}: first letter {by_place[0]:.2f}, last letter {by_place[-1]:.2f}")
axes.set(xlabel="position in the string", ylabel="share of correct letters", ylim=(0, 1.05))
axes.legend()

# %%
# The first letters survive best. Each error is also an input of the next step, so a wrong letter makes the ones after it
# harder. The next chapter removes the bottleneck: the decoder looks at the source again at each step.
