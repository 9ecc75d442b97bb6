"""
7. 编码器与解码器，以及固定上下文会丢失什么
===========================================

序列到序列模型（sequence-to-sequence model，`Sutskever et al. 2014 <https://arxiv.org/abs/1409.3215>`_、
`Cho et al. 2014 <https://aclanthology.org/D14-1179>`_）由两个循环网络组成。编码器（encoder）读取源序列（source），
交出一个向量，即上下文（context）。解码器（decoder）逐个符号地写出目标序列（target）。本章训练这样一个模型来重复字符串，
并测量准确率与字符串长度和上下文宽度的关系。
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.model import Seq2Seq
from seq2seq.search.beam import SearchOptions, beam_search
from seq2seq.text.tokenizer import BOS, EOS, PAD

# %%
# 字符串与批次
# ------------
#
# 字符串是一列编号（id）。函数 ``collate`` 把一个批次（batch）中的字符串填充（padding）到相同的长度，并加上起始符和结束符。
# 训练时，解码器读取 ``tgt_in``，需要预测 ``tgt_out``，后者每一步的符号就是下一步的输入。这叫作“教师强制”（teacher
# forcing）：下一步的输入总是正确的符号，即使解码器自己会写出另一个符号。

FIRST, LETTERS = 4, 20  # the first letter has id 4, after padding, unknown, start and end
SIZE = FIRST + LETTERS
LONGEST = 10  # in training


def draw(rows, length):
    return torch.randint(FIRST, SIZE, (rows, length)).tolist()


def make_batch(strings):
    return collate(strings, strings, pad_id=PAD, bos_id=BOS, eos_id=EOS)


batch = make_batch(draw(1, 4))
print("src:    ", batch.src.tolist())
print("tgt_in: ", batch.tgt_in.tolist())
print("tgt_out:", batch.tgt_out.tolist())

# %%
# 模型与训练
# ----------
#
# ``attention="none"`` 使解码器在每一步都以编码器的汇总向量（summary）作为上下文。只有一层 GRU
# 时，解码器的初始状态也由这个向量算出。一个批次的损失是其各个目标符号的损失之和。


def train(width, updates=300):
    torch.manual_seed(1)
    config = ModelConfig(cell="gru", attention="none", embedding_size=32, hidden_size=width, dropout=0.0)
    model = Seq2Seq(config, src_size=SIZE, tgt_size=SIZE, shared=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        length = int(torch.randint(1, LONGEST + 1, ()))
        loss = model(make_batch(draw(64, length)))
        optimizer.zero_grad()
        (loss.total / loss.tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


# %%
# 写出目标序列
# ------------
#
# 训练之后，没有正确的目标序列可读：解码器读取的是它自己写出的符号。束搜索（beam
# search）只保留一个假设（hypothesis）时，每一步都取概率最大的符号。


def write(model, strings):
    """Return what the model writes for strings of equal length."""
    limits = [len(string) + 1 for string in strings]  # with the end symbol
    options = SearchOptions(BOS, EOS, beam_size=1)
    with model.evaluating():
        found = beam_search(model.step, model.encode(make_batch(strings)), limits, options)
    return [hypotheses[0].ids for hypotheses in found]


def accuracy(model, length, rows=150):
    """Return the share of letters that are repeated at their position."""
    strings = draw(rows, length)
    correct = sum(a == b for ids, string in zip(write(model, strings), strings) for a, b in zip(ids, string))
    return correct / (rows * length)


lengths = (2, 4, 6, 8, 10, 12, 14)
models = {width: train(width) for width in (24, 96)}
shares = {width: [accuracy(model, length) for length in lengths] for width, model in models.items()}

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for (width, by_length), marker in zip(shares.items(), "os"):
    axes.plot(lengths, by_length, marker=marker, label=f"context of width {width}")
    print(f"width {width}:", [round(share, 2) for share in by_length])
axes.axvline(LONGEST, color="0.5", linestyle=":", label="longest string in training")
axes.axhline(1 / LETTERS, color="0.5", linestyle="--", label="guessing")
axes.set(xlabel="length of the string", ylabel="share of correct letters", ylim=(0, 1.05))
axes.legend()

# %%
# 宽的上下文能无误地重复两个字母的字符串。但是，准确率随长度下降，尽管训练中有最长为 10
# 个字母的字符串。在每种长度上，较宽的上下文都保留得更多。无论字符串多长，上下文的大小都一样；
# 模型没有学会装进去的内容就丢失了。
#
# 丢失的是哪些字母？
# ------------------
#
# 我们逐个位置地观察有 10 个字母的字符串。

strings = draw(300, LONGEST)
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for (width, model), marker in zip(models.items(), "os"):
    written = torch.tensor([ids[:LONGEST] + [PAD] * (LONGEST - len(ids)) for ids in write(model, strings)])
    by_place = (written == torch.tensor(strings)).float().mean(dim=0)
    axes.plot(range(1, LONGEST + 1), by_place.numpy(), marker=marker, label=f"context of width {width}")
    print(f"width {width}: first letter {by_place[0]:.2f}, last letter {by_place[-1]:.2f}")
axes.set(xlabel="position in the string", ylabel="share of correct letters", ylim=(0, 1.05))
axes.legend()

# %%
# 开头的字母保留得最好。每个错误也是下一步的输入，所以一个字母写错，会使后面的字母更难写对。下一章消除这个瓶颈：
# 解码器在每一步都重新查看源序列。
