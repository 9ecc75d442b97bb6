"""
5. Both directions, and depth
=============================

A layer that reads from left to right knows only the past. A bidirectional layer (`Schuster and Paliwal 1997
<https://doi.org/10.1109/78.650093>`_) reads in both directions and concatenates the two states of each step. Layers can also be
stacked. This chapter measures what each of the two gives, and what it costs.
"""

import time

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.layers import RecurrentEncoder

SYMBOLS, LENGTH = 8, 14

# %%
# Past and future
# ---------------
#
# The task: at each step, name the symbol d steps before or after. One network has to answer for all d from -3 to 3, with
# one linear output for each d.

OFFSETS = range(-3, 4)


def one_hot(symbols):
    return nn.functional.one_hot(symbols, SYMBOLS).float()


def train_offsets(bidirectional, updates=150):
    """Return the share of correct answers for each d."""
    torch.manual_seed(1)
    encoder = RecurrentEncoder("gru", input_size=SYMBOLS, hidden_size=64, bidirectional=bidirectional)
    outputs = nn.ModuleList(nn.Linear(64, SYMBOLS) for _ in OFFSETS)
    optimizer = torch.optim.Adam([*encoder.parameters(), *outputs.parameters()], lr=1e-2)

    def run(rows):
        symbols = torch.randint(SYMBOLS, (rows, LENGTH))
        values = encoder(one_hot(symbols)).values[:, 3:-3]  # the steps that have all neighbours
        for d, output in zip(OFFSETS, outputs):
            yield output(values).flatten(0, 1), symbols[:, 3 + d : LENGTH - 3 + d].flatten()

    for _ in range(updates):
        loss = sum(nn.functional.cross_entropy(logits, answers) for logits, answers in run(32))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return [float((logits.argmax(dim=1) == answers).float().mean()) for logits, answers in run(300)]


one, both = train_offsets(False), train_offsets(True)

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
axes.bar([d - 0.2 for d in OFFSETS], one, width=0.4, label="left to right, width 64")
axes.bar([d + 0.2 for d in OFFSETS], both, width=0.4, label="both directions, width 32 each")
axes.axhline(1 / SYMBOLS, color="0.5", linestyle="--", label="guessing")
axes.set(xlabel="d (negative: past, positive: future)", ylabel="share of correct answers", ylim=(0, 1.05))
axes.legend(loc="center right")
print("left to right:  ", [round(share, 2) for share in one])
print("both directions:", [round(share, 2) for share in both])

# %%
# From left to right, the future can only be guessed. In both directions, past and future are equally known, at the same
# total width: in the toolkit, ``hidden_size`` of an encoder is the width of both directions together. An encoder knows its
# whole source, so it reads in both directions by default. A decoder cannot: its future is not written yet.
#
# Depth, and a shortcut for gradients
# -----------------------------------
#
# In a stack, each layer reads the values of the one below. The gradient then also passes through all layers, and the problem
# of chapter 2 occurs again, over layers instead of steps. A residual connection adds the input of a layer to its output (in
# the toolkit, from the second layer on), so that the gradient has a direct path. We train stacks of GRU layers on the task of
# the past, d = -2, and follow the loss.


def train_depth(num_layers, residual, updates=80):
    """Return the losses, and the seconds of an update."""
    torch.manual_seed(1)
    encoder = RecurrentEncoder(
        "gru", input_size=SYMBOLS, hidden_size=32, num_layers=num_layers, bidirectional=False, residual=residual
    )
    output = nn.Linear(32, SYMBOLS)
    parameters = [*encoder.parameters(), *output.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    losses, begin = [], time.perf_counter()
    for _ in range(updates):
        symbols = torch.randint(SYMBOLS, (32, LENGTH))
        logits = output(encoder(one_hot(symbols)).values[:, 2:])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), symbols[:, :-2].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses, (time.perf_counter() - begin) / updates


stacks = {
    "1 layer": train_depth(1, False),
    "2 layers": train_depth(2, False),
    "6 layers": train_depth(6, False),
    "6 layers, residual": train_depth(6, True),
}

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, (losses, seconds) in stacks.items():
    axes.plot(losses, label=name)
    print(f"{name}: loss {losses[-1]:.2f}, {1000 * seconds:.1f} ms an update")
axes.axhline(float(torch.tensor(SYMBOLS).log()), color="0.5", linestyle="--", label="guessing")
axes.set(xlabel="update", ylabel="cross-entropy in nats", ylim=(0, None))
axes.legend()

# %%
# Six layers without residual connections learn more slowly than one or two layers. With them, six layers learn at least as fast
# as the shallow stacks. Depth costs time: the layers of a stack are computed one after the other, so an update of six layers
# takes several times as long as one of a single layer. On this simple task one or two layers are enough; the toolkit has one
# layer in encoder and decoder by default, and ``model.residual`` for deep stacks.
