"""
4. GRU
======

门控循环单元（gated recurrent unit，GRU，`Cho et al. 2014 <https://aclanthology.org/D14-1179>`_）与 LSTM
一样有门，但只有一个状态，权重是三块而不是四块。本章手工实现其中一步，统计权重的个数，
并用一个需要选择保留什么的任务比较三种单元。
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.layers import RecurrentEncoder, StackedCell

torch.manual_seed(1)

# %%
# 手工实现一步
# ------------
#
# 重置门（reset gate）r 决定旧状态有多少进入新内容 n，更新门（update gate）z 混合两者：
#
# .. math:: n = \tanh(W_n x + b + r \odot (U_n h_{t-1} + b')), \qquad h_t = (1 - z) \odot n + z \odot h_{t-1}.
#
# 与 PyTorch 和论文一样，z = 1 表示保留旧状态。在论文中，r 先乘以 :math:`h_{t-1}`，结果再与 :math:`U_n` 相乘；这里与 PyTorch
# 一样，r 乘以这个乘积。

width = 8
cell = StackedCell("gru", input_size=3, hidden_size=width)
x, h = torch.randn(1, 3), torch.randn(1, width)

with torch.no_grad():
    r_x, z_x, n_x = cell.inputs[0](x).chunk(3, dim=1)
    r_h, z_h, n_h = (h @ cell.weight_hh[0].T + cell.bias_hh[0]).chunk(3, dim=1)
    r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    n = (n_x + r * n_h).tanh()
    by_hand = (1 - z) * n + z * h
    output, _ = cell.step(x, h.unsqueeze(1))

print("largest difference:", float((output - by_hand).abs().max()))

# %%
# 选择保留什么
# ------------
#
# 输入是一串随机符号，其中一些带有标记。最后一个时间步之后，网络要给出最后一个带标记的符号。每遇到一个标记，它都必须改写记忆；
# 遇到没有标记的符号，则必须忽略。

SYMBOLS, LENGTH = 8, 20


def draw(rows):
    """Draw sequences: inputs (B, T, symbols + 1), whose last entry is the mark, and answers (B,)."""
    symbols = torch.randint(SYMBOLS, (rows, LENGTH))
    marked = torch.rand(rows, LENGTH) < 0.2
    marked[:, 0] = True
    last = (marked * torch.arange(1, LENGTH + 1)).argmax(dim=1, keepdim=True)
    inputs = torch.cat((nn.functional.one_hot(symbols, SYMBOLS).float(), marked.unsqueeze(2).float()), dim=2)
    return inputs, symbols.gather(1, last).squeeze(1)


inputs, answers = draw(1)
print("symbols:", inputs[0, :, :SYMBOLS].argmax(dim=1).tolist())
print("marked: ", inputs[0, :, SYMBOLS].int().tolist())
print("answer: ", int(answers))

# %%
# 选取宽度时，使三种单元的权重个数大致相同。


def train(kind, width, learning_rate, updates=200):
    """Return the network, and the share of correct answers of every update."""
    torch.manual_seed(1)
    encoder = RecurrentEncoder(kind, input_size=SYMBOLS + 1, hidden_size=width, bidirectional=False)
    output = nn.Linear(width, SYMBOLS)
    parameters = [*encoder.parameters(), *output.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    shares = []
    for _ in range(updates):
        inputs, answers = draw(64)
        logits = output(encoder(inputs).summary)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, answers).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        shares.append(float((logits.argmax(dim=1) == answers).float().mean()))
    return encoder, shares


cells = {"rnn_tanh": (56, 3e-3), "lstm": (28, 1e-2), "gru": (32, 1e-2)}
trained = {kind: train(kind, *options) for kind, options in cells.items()}

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for kind, (encoder, shares) in trained.items():
    smooth = [sum(shares[max(0, u - 9) : u + 1]) / len(shares[max(0, u - 9) : u + 1]) for u in range(len(shares))]
    axes.plot(smooth, label=f"{kind}, width {encoder.hidden_size}")
    size = sum(parameter.numel() for parameter in encoder.parameters())
    print(f"{kind}: {size} weights, {sum(shares[-20:]) / 20:.2f} of the last answers are correct")
axes.axhline(1 / SYMBOLS, color="0.5", linestyle="--", label="guessing")
axes.set(xlabel="update", ylabel="share of correct answers", ylim=(0, 1.05))
axes.legend()

# %%
# 两种门控单元学会了这个任务，普通单元在这么多次更新内没有学会：标记只是 tanh
# 中多出的一个加数，没有门来保护状态不受无标记符号的影响。权重个数大致相同时，GRU 的隐藏单元（unit）比 LSTM 多。
#
# 观察更新门
# ----------
#
# 我们根据训练好的 GRU 的权重和状态，计算每个隐藏单元在每个时间步的更新门。

encoder = trained["gru"][0]
layer = encoder.layers[0]
inputs, answers = draw(200)
with torch.no_grad():
    states = encoder(inputs).values  # (B, T, H)
    before = torch.cat((torch.zeros_like(states[:, :1]), states[:, :-1]), dim=1)
    sums = inputs @ layer.weight_ih_l0.T + layer.bias_ih_l0 + before @ layer.weight_hh_l0.T + layer.bias_hh_l0
    z = sums.chunk(3, dim=2)[1].sigmoid()  # (B, T, H)

is_marked = inputs[:, :, SYMBOLS] > 0
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", width_ratios=(2, 1))
image = left.imshow(z[0].T.numpy(), cmap="viridis", vmin=0, vmax=1, aspect="auto")
for step in is_marked[0].nonzero().squeeze(1).tolist():
    left.annotate("mark", (step, -0.5), (step, -2.0), ha="center", arrowprops={"arrowstyle": "->"})
left.set(xlabel="step", ylabel="unit", xticks=range(0, LENGTH, 5))
figure.colorbar(image, ax=left, label="update gate z (1 keeps the state)")
right.hist(
    [z[is_marked].flatten().numpy(), z[~is_marked].flatten().numpy()],
    bins=20,
    density=True,
    label=["marked", "not marked"],
)
right.set(xlabel="update gate z", ylabel="density")
right.legend()
print(f"mean of z at marked steps {z[is_marked].mean():.2f}, at the others {z[~is_marked].mean():.2f}")

# %%
# 没有人告诉网络标记是什么意思。它学会了在带标记的时间步降低 z，从而改写旧状态，并在其他时间步提高 z。
