"""
10. 覆盖机制
============

如果注意力不记得自己看过哪里，就可能两次查看同一个位置，而漏掉另一个位置。于是，模型会重复一些短语，或者漏掉一些。
“覆盖度”（coverage，`Tu et al. 2016 <https://aclanthology.org/P16-1008>`_、
`See et al. 2017 <https://aclanthology.org/P17-1099>`_）是到目前为止各步的注意力权重之和。它成为注意力的一个输入，
还可以用一个损失来惩罚查看已覆盖的位置。本章计算覆盖度，并在一个需要它的任务上测量它的作用。
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.loss import coverage_loss
from seq2seq.model import Seq2Seq
from seq2seq.search.beam import SearchOptions, beam_search
from seq2seq.text.tokenizer import BOS, EOS, PAD

# %%
# 手工计算覆盖损失
# ----------------
#
# 第 t 步之前的覆盖度为 :math:`c^t = \sum_{t' < t} a^{t'}`，这一步的损失为
# :math:`\sum_i \min(a_i^t, c_i^t)`，也就是落在已读位置上的权重。我们比较一个不断前移的注意力和一个停留不动的注意力。

moves = torch.eye(4).unsqueeze(0)  # each of four steps looks at another position: (1, T, S)
stays = torch.tensor([1.0, 0, 0, 0]).expand(1, 4, 4)
for name, weights in (("moves on", moves), ("stays", stays)):
    print(f"{name}: loss of each step", coverage_loss(weights, torch.ones(1, 4))[0].tolist())

# %%
# 容易迷失位置的任务
# ------------------
#
# 模型仍然重复字符串，但字符串只由两种字母组成。在长字符串中，大多数相邻字母对会出现多次，所以仅凭字母，
# 解码器无法知道自己在哪里。

FIRST, LETTERS = 4, 2  # the first letter has id 4, after padding, unknown, start and end
SIZE = FIRST + LETTERS
LONGEST = 12  # in training


def draw(rows, length):
    return torch.randint(FIRST, SIZE, (rows, length)).tolist()


def make_batch(strings):
    return collate(strings, strings, pad_id=PAD, bos_id=BOS, eos_id=EOS)


def train(coverage, seed, updates=200):
    torch.manual_seed(seed)
    config = ModelConfig(cell="gru", coverage=coverage, embedding_size=16, hidden_size=48, dropout=0.0)
    model = Seq2Seq(config, src_size=SIZE, tgt_size=SIZE, shared=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=7e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        loss = model(make_batch(draw(32, int(torch.randint(1, LONGEST + 1, ())))))
        optimizer.zero_grad()
        (loss.total / loss.tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


def accuracy(model, length, rows=100):
    """Return the share of strings that are repeated without an error."""
    strings = draw(rows, length)
    options = SearchOptions(BOS, EOS, beam_size=1)
    with model.evaluating():
        found = beam_search(model.step, model.encode(make_batch(strings)), [length + 5] * rows, options)
    return sum(hypotheses[0].ids == [*string, EOS] for hypotheses, string in zip(found, strings)) / rows


seeds = (1, 2)
models = {coverage: [train(coverage, seed) for seed in seeds] for coverage in ("none", "sum")}

# %%
# 使用 ``coverage="sum"`` 时，字母 j 在第 t 步的能量（energy）是 :math:`v \cdot \tanh(W s_t + U h_j + b + w\, c_j^t)`，
# 也就是第 8 章的公式再加一个学习得到的向量 :math:`w`，它在训练之前为 0。下面是各种长度上的准确率，每种模型用两个随机种子：

lengths = (2, 4, 6, 8, 10, 12)
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for (coverage, trained), color in zip(models.items(), ("tab:red", "tab:blue")):
    for seed, model in zip(seeds, trained):
        shares = [accuracy(model, length) for length in lengths]
        axes.plot(lengths, shares, color=color, marker="os"[seed - 1], label=f"coverage={coverage}, seed {seed}")
        print(f"coverage={coverage}, seed {seed}:", shares)
axes.set(xlabel="length of the string", ylabel="share of strings without an error", ylim=(0, 1.05))
axes.legend()

# %%
# 两种模型都能重复短字符串。长度为 10 时，有覆盖机制的模型能无误地重复大多数字符串，没有覆盖机制的模型不到一半。长度为 12
# 时，两种模型写对的都很少，但有覆盖机制的仍然多一些。两个随机种子的结果一致。
#
# 权重落在哪里
# ------------
#
# 下面是一个字符串的权重，以及它们对所有步求的和，即最后的覆盖度。每一步的权重之和为 1，所以所有条形的平均值总是
# 1；如果每个字母恰好被读了一次，那么每个条形都接近 1。

string = draw(1, LONGEST)
names = ["ab"[index - FIRST] for index in string[0]] + ["end"]
figure, panels = plt.subplots(2, 2, figsize=(9, 6), layout="constrained", height_ratios=(3, 1), sharex=True)
for column, (coverage, trained) in zip(panels.T, models.items()):
    with trained[0].evaluating():
        weights = trained[0].provenance(make_batch(string)).weights  # (T, S)
    column[0].imshow(weights.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    column[0].set(title=f"coverage={coverage}", ylabel="target", yticks=range(len(names)))
    column[0].set_yticklabels(names)
    column[1].bar(range(len(names)), weights.sum(dim=0).numpy())
    column[1].axhline(1, color="0.5", linestyle="--")
    column[1].set(xlabel="source", ylabel="coverage", xticks=range(len(names)))
    column[1].set_xticklabels(names)

for coverage, trained in models.items():
    for seed, model in zip(seeds, trained):
        with model.evaluating():
            weights = model.provenance(make_batch(draw(100, LONGEST))).weights
        print(f"coverage={coverage}, seed {seed}: largest weight of a step {weights.amax(dim=1).mean():.2f} on average")

# %%
# 两种模型都把每个字母读了大约一次：条形接近 1。但一步并不只读一个字母。一步中最大的权重远小于
# 1，所以几个相邻的字母分享权重。覆盖度告诉解码器，其中每个字母此前已经被读了多少，而这是两种字母本身无法表明的。
#
# ``loss.coverage_weight`` 把本章开头的覆盖损失加入训练损失。See 等人先不用覆盖机制训练，只在最后几千次更新时启用它；
# ``loss.coverage_start`` 就是启用之前的更新次数。
