"""
6. Dropout, ordinary and recurrent
==================================

Dropout sets random units to 0 in training, so that a network cannot rely on single ones (`Srivastava et al. 2014
<https://jmlr.org/papers/v15/srivastava14a.html>`_). In a recurrent network it matters where the mask is applied and how often
it changes. This chapter draws the masks, shows why a new mask at every step destroys a memory, and measures the effect of
dropout on a small data set.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.layers import RecurrentEncoder, SequenceDropout, StackedCell, WordDropout

torch.manual_seed(1)

# %%
# Three masks
# -----------
#
# We apply three kinds of dropout to a sequence of ones. Ordinary dropout draws for each element whether it is removed, locked
# dropout (`Gal and Ghahramani 2016 <https://arxiv.org/abs/1512.05287>`_) draws one mask for all steps, and word dropout removes
# whole steps. The elements that are kept are scaled up, so that the expected value stays 1.

ones = torch.ones(1, 40, 16)
kinds = {
    "ordinary": SequenceDropout(0.3),
    "locked": SequenceDropout(0.3, locked=True),
    "word": WordDropout(0.3),
}
figure, panels = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
for axes, (name, dropout) in zip(panels, kinds.items()):
    masked = dropout(ones)[0]
    image = axes.imshow(masked.T.numpy(), cmap="gray", vmin=0, aspect="auto")
    axes.set(title=name, xlabel="step", ylabel="unit", yticks=range(0, 16, 5))
    print(f"{name}: values {sorted(set(masked.flatten().tolist()))}")
figure.colorbar(image, ax=panels, label="value")

# %%
# A mask in the recurrence
# ------------------------
#
# What if dropout is applied to the state between the steps? We take a cell that keeps its state without loss (a ReLU cell
# with the identity as weights and no input), and follow the state over 30 steps: with a new mask at every step, and with
# ``recurrent_dropout``, whose mask is the same at all steps of a sequence. We count the units that are not 0; the scaling of
# the kept ones does not change this number.

width, steps, p = 64, 30, 0.25
cell = StackedCell("rnn_relu", input_size=1, hidden_size=width, recurrent_dropout=p)
nothing = torch.zeros(200, 1)  # the inputs of 200 sequences
with torch.no_grad():
    cell.inputs[0].weight.zero_()

alive = {"a new mask at every step": [], "one mask for all steps": []}
for name, shares in alive.items():
    state = torch.ones(200, 1, width)
    constants = cell.prepare(200)  # draws the masks
    for _ in range(steps):
        with torch.no_grad():
            _, state = cell.step(nothing, state, cell.prepare(200) if "new" in name else constants)
        shares.append(float((state > 0).float().mean()))

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, shares in alive.items():
    axes.plot(range(1, steps + 1), shares, marker=".", label=name)
    print(f"{name}: {shares[-1]:.3f} of the units are alive after {steps} steps")
axes.plot(range(1, steps + 1), [(1 - p) ** k for k in range(1, steps + 1)], "k:", label="0.75 to the power of k")
axes.set(xlabel="step k", ylabel="share of units that are not 0", ylim=(0, 1.05))
axes.legend()

# %%
# New masks erase the whole memory: each step loses another quarter of what is left. One mask for all steps removes a quarter
# of the units once, and the others keep their memory over any number of steps. The toolkit therefore has ``recurrent_dropout``
# only in this form. ``weight_drop`` (`Merity et al. 2018 <https://arxiv.org/abs/1708.02182>`_) removes single weights of the
# recurrence instead, also with one mask for all steps.
#
# The effect on a small data set
# ------------------------------
#
# 300 sequences of 12 random symbols, each with one of two classes: the class of a sequence is 1 if symbol 0 occurs more often
# than symbol 1. About a fifth of the training labels are wrong. A network that learns these by heart becomes worse on new
# sequences, whose labels are all right.

SYMBOLS, LENGTH = 6, 12


def draw(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    symbols = torch.randint(SYMBOLS, (rows, LENGTH), generator=generator)
    labels = ((symbols == 0).sum(dim=1) > (symbols == 1).sum(dim=1)).long()
    return symbols, labels


class Classifier(nn.Module):
    def __init__(self, dropout, recurrent_dropout):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, 16)
        self.dropout = SequenceDropout(dropout, locked=True)
        self.encoder = RecurrentEncoder("gru", input_size=16, hidden_size=64, recurrent_dropout=recurrent_dropout)
        self.output = nn.Linear(64, 2)

    def forward(self, symbols):
        summary = self.encoder(self.dropout(self.embedding(symbols))).summary
        return self.output(self.dropout(summary.unsqueeze(1)).squeeze(1))


def train(dropout, recurrent_dropout, updates=300):
    """Return the accuracies on the training labels and on new sequences, every 20 updates."""
    torch.manual_seed(1)
    symbols, labels = draw(300, seed=1)
    wrong = torch.rand(300) < 0.2
    labels = torch.where(wrong, 1 - labels, labels)
    new_symbols, new_labels = draw(1000, seed=2)
    network = Classifier(dropout, recurrent_dropout)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    curves = [], []
    for update in range(1, updates + 1):
        chosen = torch.randint(300, (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(symbols[chosen]), labels[chosen]).backward()
        optimizer.step()
        if update % 20 == 0:
            network.eval()
            with torch.no_grad():
                for curve, (x, y) in zip(curves, ((symbols, labels), (new_symbols, new_labels))):
                    curve.append(float((network(x).argmax(dim=1) == y).float().mean()))
            network.train()
    return curves


settings = {"no dropout": (0.0, 0.0), "dropout 0.5": (0.5, 0.0), "dropout 0.5, recurrent dropout 0.3": (0.5, 0.3)}
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for (name, options), color in zip(settings.items(), ("tab:red", "tab:blue", "tab:green")):
    fitted, new = train(*options)
    updates = range(20, 20 * len(new) + 1, 20)
    axes.plot(updates, fitted, color=color, linestyle=":", label=f"{name}: training labels")
    axes.plot(updates, new, color=color, label=f"{name}: new sequences")
    print(f"{name}: training labels {fitted[-1]:.2f}, new sequences {new[-1]:.2f}")
axes.set(xlabel="update", ylabel="accuracy")
axes.legend(fontsize=8)

# %%
# Without dropout the network learns the training labels by heart, the wrong ones included, and its accuracy on new sequences
# falls while it does. With dropout it learns fewer of them, and stays better on new sequences. How much recurrent dropout adds
# to that differs from seed to seed on so small a data set: to compare settings that are close, train each of them several
# times. A larger data set needs less dropout, and the right amount is found on validation data.
