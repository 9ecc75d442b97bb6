"""
5. 双向与深度
=============

从左向右读取的层只知道过去。
双向（bidirectional）层（`Schuster and Paliwal 1997 <https://doi.org/10.1109/78.650093>`_）从两个方向读取，
并把每个时间步的两个状态拼接起来。层还可以堆叠（stack）。本章测量这两种做法各有什么好处，又有什么代价。
"""

import time

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.layers import RecurrentEncoder

SYMBOLS, LENGTH = 8, 14

# %%
# 过去与未来
# ----------
#
# 任务：在每个时间步，给出之前或之后相隔 d 步的符号。一个网络要回答从 -3 到 3 的所有 d，每个 d 有一个线性输出层。

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
# 从左向右读取时，未来只能靠猜。双向读取时，过去与未来同样清楚，而总宽度不变：在工具包中，编码器（encoder）的 ``hidden_size``
# 是两个方向合起来的宽度。编码器知道整个源序列（source），所以默认双向读取。解码器（decoder）做不到：它的未来还没有写出来。
#
# 深度，以及梯度的捷径
# --------------------
#
# 在堆叠的层中，每一层读取它下面一层的输出值。于是，梯度还要穿过所有的层，第 2
# 章的问题再次出现，这次是沿着层，而不是沿着时间步。残差连接（residual
# connection）把一层的输入加到它的输出上（在工具包中，从第二层开始），使梯度有一条直接的通路。
# 我们用关于过去的任务（d = -2）训练几个堆叠的 GRU，并观察损失。


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
# 没有残差连接的六层比一层或两层学得慢。有了残差连接，六层学得至少与浅的网络一样快。深度要花时间：各层依次计算，
# 所以六层的一次更新所需的时间是一层的好几倍。在这个简单的任务上，一两层就够了；工具包的编码器和解码器默认各有一层，
# 较深的网络可以使用 ``model.residual``。
