"""
6. Dropout：普通 dropout 与循环 dropout
=======================================

Dropout（随机失活）在训练时随机把一些隐藏单元（unit）置为 0，
使网络不能依赖个别隐藏单元（`Srivastava et al. 2014 <https://jmlr.org/papers/v15/srivastava14a.html>`_）。在循环网络中，
掩码（mask）用在哪里、多久更换一次，都很重要。本章画出各种掩码，说明为什么每个时间步都更换掩码会毁掉记忆，
并在一个小数据集上测量 dropout 的效果。
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.layers import RecurrentEncoder, SequenceDropout, StackedCell, WordDropout

torch.manual_seed(1)

# %%
# 三种掩码
# --------
#
# 我们把三种 dropout 用于一个全为 1 的序列。普通 dropout 对每个元素分别抽样决定是否去掉；锁定 dropout（locked
# dropout，`Gal and Ghahramani 2016 <https://arxiv.org/abs/1512.05287>`_）对所有时间步只抽取一个掩码；词 dropout（word
# dropout）去掉整个时间步。保留下来的元素会被放大，使期望值仍为 1。

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
# 循环中的掩码
# ------------
#
# 如果把 dropout 用在时间步之间的状态上，会怎样？我们取一个无损保存状态的单元（权重为单位矩阵、没有输入的 ReLU
# 单元），跟踪它的状态 30 步：一种情况是每一步都更换掩码，另一种是
# ``recurrent_dropout``，它在一个序列的所有时间步使用同一个掩码。我们统计不为 0
# 的隐藏单元；保留下来的隐藏单元会被放大，但这不影响统计结果。

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
# 每一步都更换的掩码会抹去全部记忆：每一步都失去余下部分的四分之一。所有时间步共用一个掩码时，
# 只会一次性地去掉四分之一的隐藏单元，其余隐藏单元的记忆可以保留任意多步。因此，工具包的 ``recurrent_dropout``
# 只有这一种形式。另一种方法
# ``weight_drop`` （`Merity et al. 2018 <https://arxiv.org/abs/1708.02182>`_）去掉循环权重中的个别权重，
# 同样是所有时间步共用一个掩码。
#
# 在小数据集上的效果
# ------------------
#
# 300 个序列，每个有 12 个随机符号，属于两个类别之一：如果符号 0 出现的次数多于符号 1，类别就是
# 1。训练标签约有五分之一是错的。网络如果把这些标签背下来，在新序列上就会变差；新序列的标签全部正确。

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
# 没有 dropout 时，网络背下了训练标签，包括错误的标签；与此同时，它在新序列上的准确率下降。有 dropout
# 时，它背下的标签较少，在新序列上也一直更好。在这样小的数据集上，循环 dropout
# 还能带来多少好处，因随机种子而异：要比较相近的设置，每种设置都应训练几次。数据集越大，需要的 dropout
# 越少；合适的大小要用验证数据来确定。
