"""
8. 注意力，以及克服固定上下文的其他办法
=======================================

上一章的模型把整个源序列（source）压缩成一个向量。有了“注意力”（attention，
`Bahdanau et al. 2015 <https://arxiv.org/abs/1409.0473>`_），解码器在每一步都重新查看源序列：
它把自己的状态与编码器的每个状态相比较，把结果转换成和为 1 的权重，再读取加权和。本章观察这些权重，
并把注意力与模型的其他改动相比较：单向或双向、更大的宽度、以句子为单位的编码器，以及 Transformer。
"""

import time

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.layers import make_attention
from seq2seq.model import Seq2Seq
from seq2seq.search.beam import SearchOptions, beam_search
from seq2seq.text.tokenizer import BOS, EOS, PAD

# %%
# 一次查询
# --------
#
# 注意力把一个宽度为 6 的查询（query）与五个宽度为 8 的值（value）相比较。查询 :math:`s` 是解码器的状态，值 :math:`h_j`
# 是编码器的状态。加性注意力 ``additive`` 按下式计算能量（energy）：:math:`e_j = v \cdot \tanh(W s + U h_j + b)`，其中
# :math:`v, W, U, b` 是学习得到的。权重 :math:`a_j` 是能量的 softmax，上下文（context）是
# :math:`\sum_j a_j h_j`。第二个序列只有两个真实的值：填充的位置没有权重。

torch.manual_seed(1)
attention = make_attention("additive", query_size=6, memory_size=8)
query, values = torch.randn(2, 1, 6), torch.randn(2, 5, 8)
mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
attended = attention(query, values, mask)
print("weights:", [[round(weight, 2) for weight in row[0]] for row in attended.weights.tolist()])
print("context:", tuple(attended.context.shape))

# %%
# 同一任务，加上注意力
# --------------------
#
# 模型仍然重复字符串，这里最长为 8 个字母。参数 ``segments`` 把字符串切分成每四个字母一个的“句子”；
# 只有层次编码器（hierarchical encoder，`Nallapati et al. 2016 <https://aclanthology.org/K16-1028>`_）读取它。

FIRST, LETTERS = 4, 10  # the first letter has id 4, after padding, unknown, start and end
SIZE = FIRST + LETTERS
LONGEST = 8  # in training


def draw(rows, length):
    return torch.randint(FIRST, SIZE, (rows, length)).tolist()


def make_batch(strings):
    segments = [[place // 4 for place in range(len(string))] for string in strings]
    return collate(strings, strings, pad_id=PAD, bos_id=BOS, eos_id=EOS, segments=segments)


def train(learning_rate=1e-2, updates=350, **options):
    """Return the model, and the seconds of the training."""
    torch.manual_seed(1)
    model = Seq2Seq(ModelConfig(dropout=0.0, **options), src_size=SIZE, tgt_size=SIZE, shared=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    begin = time.perf_counter()
    for _ in range(updates):
        loss = model(make_batch(draw(32, int(torch.randint(1, LONGEST + 1, ())))))
        optimizer.zero_grad()
        (loss.total / loss.tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model, time.perf_counter() - begin


def accuracy(model, length, rows=100):
    """Return the share of letters that are repeated at their position."""
    strings = draw(rows, length)
    options = SearchOptions(BOS, EOS, beam_size=1)
    with model.evaluating():
        found = beam_search(model.step, model.encode(make_batch(strings)), [length + 1] * rows, options)
    correct = sum(a == b for hypotheses, string in zip(found, strings) for a, b in zip(hypotheses[0].ids, string))
    return correct / (rows * length)


small = {"cell": "gru", "embedding_size": 32, "hidden_size": 48}
transformer = {"encoder": "transformer", "decoder": "transformer", "embedding_size": 48, "hidden_size": 48}
models = {
    "fixed context": train(**small, attention="none"),
    "attention, one direction": train(**small, bidirectional=False),
    "attention, both directions": train(**small),
    "attention, twice as wide": train(**small | {"hidden_size": 96}),
    "attention, hierarchical": train(**small, encoder="hierarchical"),
    "Transformer": train(4e-3, 250, **transformer),
}

# %%
# 各种长度上的准确率，包括超出训练长度的情况：

lengths = (2, 4, 6, 8, 10, 12)
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for (name, (model, seconds)), marker in zip(models.items(), "osD^vx"):
    shares = [accuracy(model, length) for length in lengths]
    weights = sum(parameter.numel() for parameter in model.parameters())
    axes.plot(lengths, shares, marker=marker, label=name)
    print(f"{name:30} {weights:6} weights {seconds:5.1f} s", [round(share, 2) for share in shares])
axes.axvline(LONGEST, color="0.5", linestyle=":", label="longest string in training")
axes.set(xlabel="length of the string", ylabel="share of correct letters", ylim=(0, 1.05))
axes.legend(fontsize=8)

# %%
# 在训练过的最大长度上，每个有注意力的模型正确重复的字母都多于使用固定上下文的模型。其他改动在这里影响较小：
#
# - 双向读取在这个任务上没有好处：要重复一个字母，不需要它后面的任何内容，而且每个方向只有一半的宽度。在第 5
#   章的任务中，未来才有用。
# - 更大的宽度有好处，但权重的个数约为三倍。
# - 层次编码器分别读取每组四个字母，然后读取由各组构成的序列；注意力对字母和组都分配权重。这里的分组没有意义，
#   所以它也没有好处。它是为文档设计的，文档中的句子是有意义的单位。
# - Transformer 完全没有循环结构。它直接把所有位置相互比较。这里它训练了 250 次更新而不是 350
#   次，学习率也不同，所以这两种训练不能用来比较速度。
#
# 超出训练长度之后，所有模型的准确率都会下降。
#
# 解码器看哪里
# ------------
#
# 对于已知的目标序列（target），``provenance`` 返回每一步的权重。我们比较单向编码器与双向编码器的注意力。

string = draw(1, LONGEST)
letters = [chr(ord("a") + index - FIRST) for index in string[0]] + ["end"]
figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axes, name in zip(panels, ("attention, one direction", "attention, both directions")):
    model = models[name][0]
    with model.evaluating():
        weights = model.provenance(make_batch(string)).weights  # (T, S)
    image = axes.imshow(weights.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="source", ylabel="target", title=name, xticks=range(9), yticks=range(9))
    axes.set_xticklabels(letters)
    axes.set_yticklabels(letters)
    print(f"{name}: the largest weight of a step is {weights.amax(dim=1).mean():.2f} on average")
figure.colorbar(image, ax=panels, label="weight")

# %%
# 在两个模型中，最大的权重都沿着对角线：解码器看的是它接下来要写的字母附近。为此，权重不必很集中。
# 编码器的一个状态还包含相邻字母的信息，双向读取时则包含两侧的相邻字母，所以查看几个状态就可能足以确定一个字母。
#
# 在训练过的长度上，注意力消除了固定上下文的限制，并显示一个字母来自哪里。下一章利用这一点来复制。
