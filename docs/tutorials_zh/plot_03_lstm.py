"""
3. LSTM
=======

长短期记忆网络（long short-term memory，LSTM，
`Hochreiter and Schmidhuber 1997 <https://doi.org/10.1162/neco.1997.9.8.1735>`_）增加了第二个状态，即细胞状态（cell
state）c；它通过加法更新，而不是通过与矩阵相乘。门（gate）决定保留什么、加入什么、输出什么。本章手工实现其中一步，
测量遗忘门（forget gate）对梯度的影响，并重做上一章的记忆任务。
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.gradients import gradients_over_time
from seq2seq.layers import RecurrentEncoder, StackedCell
from seq2seq.model import Seq2Seq
from seq2seq.text.tokenizer import BOS, EOS, PAD

torch.manual_seed(1)

# %%
# 手工实现一步
# ------------
#
# 由输入和上一步的 h 计算三个介于 0 和 1 之间的门：i（输入门）、f（遗忘门）和 o（输出门）。设新内容为
# :math:`g = \tanh(\dots)`，则
#
# .. math:: c_t = f \odot c_{t-1} + i \odot g, \qquad h_t = o \odot \tanh(c_t).

width = 8
cell = StackedCell("lstm", input_size=3, hidden_size=width)
x, h, c = torch.randn(1, 3), torch.randn(1, width), torch.randn(1, width)

with torch.no_grad():
    sums = cell.inputs[0](x) + h @ cell.weight_hh[0].T + cell.bias_hh[0]
    i, f, g, o = sums.chunk(4, dim=1)
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    new_h = o.sigmoid() * new_c.tanh()
    output, state = cell.step(x, torch.cat((h, c), dim=1).unsqueeze(1))  # the packed state: h, then c

print("largest difference:", float((output - new_h).abs().max()), float((state[0, 0, width:] - new_c[0]).abs().max()))

# %%
# 遗忘门与梯度
# ------------
#
# 沿着细胞状态，梯度在每一步只乘以 f，不乘以任何其他因子。如果 f 接近 1，梯度就能保留下来。f
# 的初值由遗忘门的偏置（bias）决定：sigmoid 在 0 处为 0.5，在 2 处为 0.88，在 4 处为
# 0.98。我们设定这个偏置，并像上一章那样，测量状态（h 和 c）对 k 步之前的状态的导数的范数。


def open_forget_gate(layer, bias):
    """Set the bias of the forget gate, the second of the four blocks."""
    with torch.no_grad():
        for name in ("bias_ih_l0", "bias_hh_l0"):
            getattr(layer, name).view(4, -1)[1] = bias / 2


def make_model(bias):
    torch.manual_seed(1)
    config = ModelConfig(cell="lstm", attention="none", embedding_size=16, hidden_size=16, bidirectional=False)
    model = Seq2Seq(config, src_size=50, tgt_size=50, shared=True)
    open_forget_gate(model.encoder.layers[0], bias)
    return model


source = torch.randint(4, 50, (40,), generator=torch.Generator().manual_seed(1)).tolist()
batch = collate([source], [source[:2]], pad_id=PAD, bos_id=BOS, eos_id=EOS)


def measure(model):
    curves = gradients_over_time(model, [batch], max_distance=40)
    return next(curve.mean for curve in curves if curve.part == "encoder")


curves = {f"forget bias {bias}": measure(make_model(bias)) for bias in (0, 2, 4)}

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for name, curve in curves.items():
    axes.semilogy(curve, marker=".", label=name)
axes.set(xlabel="distance k in steps", ylabel="norm of the gradient", ylim=(1e-9, 2))
axes.legend()
for name, curve in curves.items():
    print(f"{name}: after 10 steps {curve[10]:.2g}, after 30 steps {curve[30]:.2g}")

# %%
# 遗忘门半开（偏置为 0）时，梯度消失得比上一章 a = 0.7 的普通单元还要快。偏置为 2 时，30 步之后还剩百分之几；偏置为 4
# 时，还剩一半以上。因此，`Gers et al. 2000 <https://doi.org/10.1162/089976600300015015>`_ 和
# `Jozefowicz et al. 2015 <https://proceedings.mlr.press/v37/jozefowicz15.html>`_ 建议初始偏置取正值。工具包从 [-0.1, 0.1]
# 中随机抽取门控单元的权重和偏置，所以门在开始时是半开的：在翻译任务 Multi30k 上，经过 500 次更新，这样得到的损失低于使用
# Glorot 权重和正交权重的损失，无论后者的遗忘门是否打开（见 ``seq2seq/layers/cells.py`` 中的 ``init_recurrent``）。
#
# 记忆任务
# --------
#
# 网络仍然要在读完 20 个符号之后给出第一个符号。我们训练三个 LSTM，它们只在遗忘门最初打开的程度上不同。

SYMBOLS, LENGTH = 8, 20


def train(bias, updates=200):
    """Return the share of correct answers of every update."""
    torch.manual_seed(1)
    encoder = RecurrentEncoder("lstm", input_size=SYMBOLS, hidden_size=32, bidirectional=False)
    open_forget_gate(encoder.layers[0], bias)
    output = nn.Linear(32, SYMBOLS)
    parameters = [*encoder.parameters(), *output.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    shares = []
    for _ in range(updates):
        symbols = torch.randint(SYMBOLS, (64, LENGTH))
        logits = output(encoder(nn.functional.one_hot(symbols, SYMBOLS).float()).summary)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, symbols[:, 0]).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        shares.append(float((logits.argmax(dim=1) == symbols[:, 0]).float().mean()))
    return shares


learning = {bias: train(bias) for bias in (0, 2, 4)}

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for bias, shares in learning.items():
    smooth = [sum(shares[max(0, u - 9) : u + 1]) / len(shares[max(0, u - 9) : u + 1]) for u in range(len(shares))]
    axes.plot(smooth, label=f"forget bias {bias}")
axes.axhline(1 / SYMBOLS, color="0.5", linestyle="--", label="guessing")
axes.set(xlabel="update", ylabel="share of correct answers", ylim=(0, 1.05))
axes.legend(loc="upper left")
for bias, shares in learning.items():
    print(f"forget bias {bias}: {sum(shares[-20:]) / 20:.2f} of the answers in the last 20 updates are correct")

# %%
# 遗忘门半开时，网络在 200 次更新之后仍在随机猜测；遗忘门打开时，它能够学会。两幅图说明同一件事：梯度到达不了的东西，
# 网络就学不会。
#
# 上一章的普通单元也学会了这个长度，因为它的矩阵在开始时是正交矩阵，能保持长度。但是，这样的矩阵会保留一切，
# 而门可以保留一样东西、忘掉另一样。下一章的任务正需要这一点。
