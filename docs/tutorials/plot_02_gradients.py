"""
2. Why gradients vanish and explode
===================================

A recurrent network is trained through its steps: the gradient of a loss at step t with respect to the state of an earlier
step is a product with one factor for each step between them. Such a product shrinks or grows exponentially (`Bengio et al.
1994 <https://doi.org/10.1109/72.279181>`_, `Pascanu et al. 2013 <https://arxiv.org/abs/1211.5063>`_). This chapter measures
it with :mod:`seq2seq.gradients`, the module behind ``seq2seq gradients``.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.gradients import gradients_over_time
from seq2seq.layers import RecurrentEncoder
from seq2seq.model import Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD

# %%
# A model with a known factor
# ---------------------------
#
# We take an encoder of the simplest cell, :math:`h_t = \tanh(W x_t + U h_{t-1})`, and make :math:`U` a random orthogonal
# matrix times a number a. An orthogonal matrix, like a rotation, changes no length. Each step therefore multiplies gradients
# by a, and by the slope of the tanh, which is at most 1. The inputs are made small, so that the slope is close to 1.


def make_model(factor, scale=0.05):
    torch.manual_seed(1)
    config = ModelConfig(cell="rnn_tanh", attention="none", embedding_size=16, hidden_size=16, bidirectional=False)
    model = Seq2Seq(config, src_size=50, tgt_size=50, shared=True)
    layer = model.encoder.layers[0]
    with torch.no_grad():
        nn.init.orthogonal_(layer.weight_hh_l0).mul_(factor)
        layer.weight_ih_l0.mul_(scale)
    return model


length = 40
source = torch.randint(4, 50, (length,), generator=torch.Generator().manual_seed(1)).tolist()
batch = collate([source], [source[:2]], pad_id=PAD, bos_id=BOS, eos_id=EOS)

# %%
# ``gradients_over_time`` returns curves: the mean norm of :math:`\partial h_t / \partial h_{t-k}` for each distance k. We
# take the curve of the encoder.


def measure(model):
    curves = gradients_over_time(model, [batch], max_distance=length)
    return next(curve.mean for curve in curves if curve.part == "encoder")


factors = (0.7, 0.9, 1.0, 1.1)
curves = {factor: measure(make_model(factor)) for factor in factors}

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for factor, curve in curves.items():
    (line,) = axes.semilogy(curve, marker=".", label=f"a = {factor}")
    axes.semilogy([factor**k for k in range(len(curve))], color=line.get_color(), linestyle=":", alpha=0.7)
axes.set(
    xlabel="distance k in steps",
    ylabel="norm of the gradient",
    title="measured (dots) and a to the power of k (dotted)",
)
axes.legend()

for factor, curve in curves.items():
    print(f"a = {factor}: after 10 steps {curve[10]:.2g}, after 30 steps {curve[30]:.2g}")

# %%
# For a below 1 the gradient vanishes: at a = 0.7, 30 steps leave less than a ten-thousandth. The network then learns nothing
# about inputs that are that far back. For a above 1 it grows. The larger the states become, the smaller is the slope of the
# tanh, which slows the growth: the curve of a = 1.1 falls below its dotted line. The gradient keeps its size only at a = 1
# with small states.
#
# Saturated units
# ---------------
#
# The tanh is flat where the state is near -1 or 1. With larger inputs the same matrix, a = 1, loses gradients too.

scales = (0.05, 1.0, 3.0)
saturated = {scale: measure(make_model(1.0, scale)) for scale in scales}

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for scale, curve in saturated.items():
    axes.semilogy(curve, marker=".", label=f"inputs times {scale}")
axes.set(xlabel="distance k in steps", ylabel="norm of the gradient", title="a = 1, inputs of different size")
axes.legend()
for scale, curve in saturated.items():
    print(f"inputs times {scale}: after 30 steps {curve[30]:.2g}")

# %%
# Larger inputs push the units into the flat parts, and the gradient vanishes although :math:`U` preserves lengths.
#
# What it means for learning
# --------------------------
#
# The task: name the first symbol of a sequence after reading all of it. The longer the sequence, the more random symbols are
# between the first step and the answer. We train the same network with the usual initial weights for each length, and count
# correct answers.

SYMBOLS = 8


def train(length, updates=150):
    """Return the accuracy of a network that is trained to name the first of ``length`` symbols."""
    torch.manual_seed(1)
    encoder = RecurrentEncoder("rnn_tanh", input_size=SYMBOLS, hidden_size=32, bidirectional=False)
    output = nn.Linear(32, SYMBOLS)
    optimizer = torch.optim.Adam([*encoder.parameters(), *output.parameters()], lr=3e-3)
    for _ in range(updates):
        symbols = torch.randint(SYMBOLS, (64, length))
        logits = output(encoder(nn.functional.one_hot(symbols, SYMBOLS).float()).summary)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, symbols[:, 0]).backward()
        nn.utils.clip_grad_norm_([*encoder.parameters(), *output.parameters()], 1.0)
        optimizer.step()
    symbols = torch.randint(SYMBOLS, (1000, length))
    with torch.no_grad():
        logits = output(encoder(nn.functional.one_hot(symbols, SYMBOLS).float()).summary)
    return float((logits.argmax(dim=1) == symbols[:, 0]).float().mean())


lengths = (2, 5, 10, 20, 40)
accuracy = [train(length) for length in lengths]

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
axes.plot(lengths, accuracy, marker="o", label="network after 150 updates")
axes.axhline(1 / SYMBOLS, color="0.5", linestyle="--", label="guessing")
axes.set(xlabel="length of the sequence", ylabel="share of correct answers", ylim=(0, 1.05))
axes.legend()
print({length: round(share, 2) for length, share in zip(lengths, accuracy)})

# %%
# Short distances are learned quickly. At length 40 the network is hardly better than a guess after as many updates:
# the first symbol does reach the state a little, but its gradient is too small against those of the 39 random symbols.
#
# Exploding gradients have a simple cure, which the code above uses and the toolkit applies by default
# (``train.clip_norm``): if the norm of the whole gradient is above a limit, the gradient is scaled down to the limit. Its
# direction stays. Vanishing gradients need another cell, the subject of the next two chapters.
