"""
1. A recurrent cell, by hand and as a layer
===========================================

A recurrent network reads a sequence one step at a time. It keeps a vector, the *state*, and at each step computes a new
state from the old one and the input. This chapter writes one cell by hand, checks that the layer of the toolkit computes
the same numbers, looks at how long an input stays visible in the state, and trains a cell to remember.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.layers import RecurrentEncoder, StackedCell

torch.manual_seed(1)

# %%
# By hand
# -------
#
# The simplest cell is :math:`h_t = \tanh(W x_t + U h_{t-1} + b)`. The input :math:`x_t` has width 3 here and the state
# :math:`h_t` width 8. The same weights are used at every step, so the cell reads sequences of any length.

input_width, width = 3, 8
sequence = torch.randn(20, input_width)  # 20 steps
W = torch.randn(width, input_width) * 0.5
U = nn.init.orthogonal_(torch.empty(width, width)) * 0.8
b = torch.zeros(width)

h = torch.zeros(width)
states = []
for x in sequence:
    h = torch.tanh(W @ x + U @ h + b)
    states.append(h)
by_hand = torch.stack(states)
print("states:", tuple(by_hand.shape))

# %%
# As a layer
# ----------
#
# :class:`seq2seq.layers.RecurrentEncoder` runs a cell over whole sequences. With the same weights it gives the same
# states, up to rounding. The layer has two bias vectors, as the layers of PyTorch do; here both are zero.

encoder = RecurrentEncoder("rnn_tanh", input_size=input_width, hidden_size=width, bidirectional=False)
layer = encoder.layers[0]
with torch.no_grad():
    layer.weight_ih_l0.copy_(W)
    layer.weight_hh_l0.copy_(U)
    encoded = encoder(sequence.unsqueeze(0))  # a batch of one sequence

print("largest difference:", float((encoded.values[0] - by_hand).abs().max()))

# %%
# Sequences of a batch have different lengths. The shorter ones are padded, and the lengths tell the layer where each of
# them ends: its values are 0 after the end, and its *summary* is the state after its last real step.

batch = torch.stack((sequence, sequence))
with torch.no_grad():
    encoded = encoder(batch, torch.tensor([20, 5]))
print("steps with a value:", encoded.values.abs().sum(dim=2).count_nonzero(dim=1).tolist())
print(
    "summary of the short one is its state after step 5:",
    bool(torch.allclose(encoded.summary[1], by_hand[4], atol=1e-6)),
)

# %%
# :class:`seq2seq.layers.StackedCell` is the same cell for a loop of your own. A decoder needs such a loop, because the
# input of a step is only known when the step before it is done.

cell = StackedCell("rnn_tanh", input_size=input_width, hidden_size=width)
state = cell.start(1)
for x in sequence:
    output, state = cell.step(x.unsqueeze(0), state)
print("output of a step:", tuple(output.shape), " state:", tuple(state.shape))

# %%
# How long is an input visible?
# -----------------------------
#
# We give the cell one input at step 0 and zeros after it. The state then contains only what the cell remembers of this input.

impulse = torch.zeros(1, 30, input_width)
impulse[0, 0] = 1.0
with torch.no_grad():
    response = encoder(impulse).values[0]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
image = left.imshow(response.T.numpy(), cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
left.set(xlabel="step", ylabel="unit of the state", title="the state after one input at step 0")
figure.colorbar(image, ax=left)
norms = response.norm(dim=1)
right.semilogy(norms.numpy(), marker=".", label="norm of the state")
right.semilogy(
    [float(norms[0]) * 0.8**k for k in range(30)], color="0.5", linestyle="--", label="0.8 to the power of k"
)
right.set(xlabel="step k", ylabel="norm", title="the memory fades exponentially")
right.legend()

print(f"norm at step 0: {norms[0]:.3f}, at step 10: {norms[10]:.3f}, at step 29: {norms[29]:.4f}")

# %%
# Each multiplication with :math:`U` shortens the state to 0.8 of its length, and the tanh shortens it a little more, so the
# norm stays below the dashed line. After 29 steps, less than a hundredth of the input is left. The next chapter shows that
# gradients fade in the same way.
#
# Training a cell to remember
# ---------------------------
#
# The weights decide what is remembered, and they are learned. The task: at each step, return the number that was the input
# three steps before. A linear layer reads the answer from the state.

lag = 3
network = nn.ModuleDict(
    {
        "encoder": RecurrentEncoder("rnn_tanh", input_size=1, hidden_size=32, bidirectional=False),
        "output": nn.Linear(32, 1),
    }
)
optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)


def draw(rows):
    inputs = torch.rand(rows, 20, 1) - 0.5
    return inputs, inputs[:, :-lag]  # the answers from step 3 on


losses = []
for _ in range(300):
    inputs, answers = draw(64)
    predicted = network["output"](network["encoder"](inputs).values)[:, lag:]
    loss = nn.functional.mse_loss(predicted, answers)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

inputs, answers = draw(1)
with torch.no_grad():
    predicted = network["output"](network["encoder"](inputs).values)[:, lag:]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.semilogy(losses, label="training")
left.axhline(1 / 12, color="0.5", linestyle="--", label="always answering the mean")
left.set(xlabel="update", ylabel="mean square error")
left.legend()
right.plot(range(lag, 20), answers[0, :, 0].numpy(), color="black", marker="o", label="input three steps before")
right.plot(
    range(lag, 20),
    predicted[0, :, 0].numpy(),
    color="tab:red",
    linestyle="--",
    marker="x",
    label="answer of the network",
)
right.set(xlabel="step", ylabel="value")
right.legend()
print(f"error at first: {losses[0]:.4f}, at the end: {losses[-1]:.5f}")

# %%
# A network that ignores the past can do no better than the dashed line on the left. The trained one is far below it: it
# learned to carry the last three inputs in its state.
