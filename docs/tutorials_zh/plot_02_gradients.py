"""
2. 梯度为什么会消失和爆炸
=========================

循环网络的训练要经过它的各个时间步：第 t 步的损失对更早一步的状态的梯度是一个乘积，两步之间的每一步贡献一个因子。
这样的乘积按指数缩小或增大（`Bengio et al. 1994 <https://doi.org/10.1109/72.279181>`_、
`Pascanu et al. 2013 <https://arxiv.org/abs/1211.5063>`_）。本章用 :mod:`seq2seq.gradients` 测量这个梯度，命令
``seq2seq gradients`` 使用的就是这个模块。
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
# 因子已知的模型
# --------------
#
# 我们用最简单的单元 :math:`h_t = \tanh(W x_t + U h_{t-1})` 构成编码器（encoder），并令 :math:`U` 为随机正交矩阵乘以数
# a。正交矩阵与旋转一样，不改变长度。因此，每一步都把梯度乘以 a，再乘以 tanh 的斜率（至多为 1）。输入取得很小，使斜率接近 1。


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
# ``gradients_over_time`` 返回若干条曲线：对每个距离 k，给出 :math:`\partial h_t / \partial h_{t-k}`
# 的平均范数（norm）。我们取编码器的曲线。


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
# a 小于 1 时，梯度消失（vanishing gradient）：a = 0.7 时，30 步之后剩下不到万分之一。对于那么久以前的输入，
# 网络就什么也学不到。a 大于 1 时，梯度增大。状态越大，tanh 的斜率越小，增长随之减慢：a = 1.1 的曲线落到了它的点线之下。只有
# a = 1 且状态很小时，梯度的大小才保持不变。
#
# 饱和的隐藏单元
# --------------
#
# 状态接近 -1 或 1 时，tanh 是平坦的。输入较大时，同样的矩阵（a = 1）也会损失梯度。

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
# 较大的输入把隐藏单元（unit）推入平坦区域，尽管 :math:`U` 保持长度，梯度仍然消失。
#
# 这对学习意味着什么
# ------------------
#
# 任务：读完整个序列之后，给出它的第一个符号。序列越长，第一步与回答之间的随机符号就越多。对每种长度，
# 我们都用通常的初始权重训练同样的网络，并统计正确的答案。

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
# 短距离很快就能学会。长度为 40 时，经过同样多的更新，网络比随机猜测好不了多少：第一个符号对状态虽然还有一点影响，但与另外 39
# 个随机符号的梯度相比，它的梯度太小了。
#
# 梯度爆炸（exploding gradient）有一个简单的对策，即梯度裁剪（gradient
# clipping）。上面的代码用了它，工具包默认也用它（``train.clip_norm``）：如果整个梯度的范数超过上限，就把梯度缩小到上限，
# 方向不变。梯度消失则需要另一种单元，这是后面两章的主题。
