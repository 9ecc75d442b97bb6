"""
1. 循环单元：手工实现与工具包的层
=================================

循环网络（recurrent network）逐个时间步读取序列。它保存一个向量，即“状态”（state）；在每个时间步，
它由旧状态和当前输入计算新状态。本章先手工实现一个单元（cell），验证工具包的层算出相同的数值，
再观察一个输入在状态中能保留多久，最后训练一个单元来记住输入。
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.layers import RecurrentEncoder, StackedCell

torch.manual_seed(1)

# %%
# 手工实现
# --------
#
# 最简单的单元是 :math:`h_t = \tanh(W x_t + U h_{t-1} + b)`。这里输入 :math:`x_t` 的宽度为 3，状态 :math:`h_t` 的宽度为
# 8。所有时间步使用同一组权重，因此单元可以读取任意长度的序列。

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
# 使用工具包的层
# --------------
#
# :class:`seq2seq.layers.RecurrentEncoder` 在整个序列上运行一个单元。权重相同时，它给出的状态也相同，只有舍入误差。与 PyTorch
# 的层一样，这个层有两个偏置向量；这里两者都为零。

encoder = RecurrentEncoder("rnn_tanh", input_size=input_width, hidden_size=width, bidirectional=False)
layer = encoder.layers[0]
with torch.no_grad():
    layer.weight_ih_l0.copy_(W)
    layer.weight_hh_l0.copy_(U)
    encoded = encoder(sequence.unsqueeze(0))  # a batch of one sequence

print("largest difference:", float((encoded.values[0] - by_hand).abs().max()))

# %%
# 同一批次（batch）中的序列长短不一。较短的序列会被填充（padding），层根据各序列的长度知道它们在哪里结束：结束之后的输出值为
# 0，而“汇总向量”（summary）是最后一个真实时间步之后的状态。

batch = torch.stack((sequence, sequence))
with torch.no_grad():
    encoded = encoder(batch, torch.tensor([20, 5]))
print("steps with a value:", encoded.values.abs().sum(dim=2).count_nonzero(dim=1).tolist())
print(
    "summary of the short one is its state after step 5:",
    bool(torch.allclose(encoded.summary[1], by_hand[4], atol=1e-6)),
)

# %%
# :class:`seq2seq.layers.StackedCell` 是同样的单元，用于自己编写的循环。解码器（decoder）需要这样的循环，因为只有完成上一步，
# 才知道下一步的输入。

cell = StackedCell("rnn_tanh", input_size=input_width, hidden_size=width)
state = cell.start(1)
for x in sequence:
    output, state = cell.step(x.unsqueeze(0), state)
print("output of a step:", tuple(output.shape), " state:", tuple(state.shape))

# %%
# 一个输入能保留多久？
# --------------------
#
# 我们在第 0 步给单元一个输入，之后的输入全为零。此后，状态只包含单元对这个输入的记忆。

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
# 每乘一次 :math:`U`，状态的长度就变为原来的 0.8，tanh 又使它略微缩短，所以范数（norm）始终低于虚线。29
# 步之后，剩下的不到这个输入的百分之一。下一章将说明，梯度也以同样的方式衰减。
#
# 训练单元来记住输入
# ------------------
#
# 单元记住什么由权重决定，而权重是学习得到的。任务：在每个时间步，给出三步之前的输入。一个线性层从状态中读出答案。

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
# 不看过去的网络，误差不可能低于左图中的虚线。训练后的网络远低于虚线：它学会了把最近三个输入保存在状态中。
