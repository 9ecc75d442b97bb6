"""
9. 复制机制
===========

模型只能写出词表（vocabulary）里有的符号。名字和数字常常不在词表里，却出现在源序列（source）中，而解码器知道它们在哪里：
它的注意力正指向它们。“指针”（pointer，
`See et al. 2017 <https://aclanthology.org/P17-1099>`_）把注意力权重转换为源符号的概率。
本章训练有复制机制和没有复制机制的模型，来翻译含有未知字母的字符串。
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from seq2seq.config import ModelConfig
from seq2seq.data.batching import collate
from seq2seq.model import Seq2Seq
from seq2seq.search.beam import SearchOptions, beam_search
from seq2seq.text.tokenizer import BOS, EOS, PAD, UNK

# %%
# 扩展词表
# --------
#
# 词表有 10 个字母。一个字母的“译文”是字母表中的下一个字母。每个字符串还可能含有词表之外的字母，它们保持不变。
# 编码器把这些字母都读作未知符，但在一个字符串之内，它们各有自己的编号（id），排在词表的最后一个编号之后。
# 没有复制机制的模型被训练成写出未知符。

FIRST, LETTERS = 4, 10  # the first letter has id 4, after padding, unknown, start and end
SIZE = FIRST + LETTERS
LONGEST = 8  # in training


def draw(rows, length, unknown=0.2):
    """Draw strings; about a share of ``unknown`` of their letters is not in the vocabulary."""
    strings = torch.randint(FIRST, SIZE, (rows, length))
    numbers = SIZE + torch.arange(length).expand(rows, -1)  # the unknown letters of a string differ
    return torch.where(torch.rand(rows, length) < unknown, numbers, strings).tolist()


def translate(strings):
    """Return the targets: the next letter for each known letter, and unknown letters as they are."""
    return [[x if x >= SIZE else FIRST + (x - FIRST + 1) % LETTERS for x in string] for string in strings]


def hide(strings):
    """Replace unknown letters by the unknown symbol."""
    return [[x if x < SIZE else UNK for x in string] for string in strings]


def make_batch(strings, copies):
    targets = translate(strings)
    return collate(
        hide(strings), targets if copies else hide(targets), pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=strings
    )


batch = make_batch([[4, SIZE, 7, 8, SIZE + 1, 5]], copies=True)
print("src:     ", batch.src.tolist())
print("copy_ids:", batch.copy_ids.tolist())
print("tgt_out: ", batch.tgt_out.tolist())

# %%
# 三个模型
# --------
#
# 使用 ``copy="pointer"`` 时，门 p_gen 在每一步决定是生成（generate）还是复制（copy）：
# :math:`P(w) = p_{gen} P_{vocab}(w) + (1 - p_{gen}) \sum_{j: x_j = w} a_j`。使用
# ``copy="copynet"`` （`Gu et al. 2016 <https://aclanthology.org/P16-1154>`_）时，源序列的各个位置与词表共用一个 softmax。


def train(copy, updates=300):
    torch.manual_seed(1)
    config = ModelConfig(cell="gru", copy=copy, embedding_size=32, hidden_size=48, dropout=0.0)
    model = Seq2Seq(config, src_size=SIZE, tgt_size=SIZE, shared=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        loss = model(make_batch(draw(32, int(torch.randint(1, LONGEST + 1, ()))), model.copies))
        optimizer.zero_grad()
        (loss.total / loss.tokens).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


def accuracy(model, length, rows=150):
    """Return the shares of the known and of the unknown letters that are right."""
    strings = draw(rows, length)
    options = SearchOptions(BOS, EOS, beam_size=1, never_id=model.never_id)
    with model.evaluating():
        state = model.encode(make_batch(strings, model.copies))
        found = beam_search(model.step, state, [length + 1] * rows, options)
    targets = translate(strings)
    pairs = [pair for hypotheses, target in zip(found, targets) for pair in zip(hypotheses[0].ids, target)]
    known = sum(letter < SIZE for target in targets for letter in target)
    right = [letter for written, letter in pairs if written == letter]
    right_known = sum(letter < SIZE for letter in right)
    return right_known / known, (len(right) - right_known) / (rows * length - known)


models = {copy: train(copy) for copy in ("none", "pointer", "copynet")}

lengths = (2, 4, 6, 8, 10)
figure, panels = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
for (copy, model), marker in zip(models.items(), "osD"):
    known, unknown = zip(*(accuracy(model, length) for length in lengths))
    for axes, shares in zip(panels, (known, unknown)):
        axes.plot(lengths, shares, marker=marker, label=f"copy={copy}")
    print(f"{copy:8} known {[round(share, 2) for share in known]} unknown {[round(share, 2) for share in unknown]}")
for axes, title in zip(panels, ("letters of the vocabulary", "unknown letters")):
    axes.axvline(LONGEST, color="0.5", linestyle=":", label="longest string in training")
    axes.set(title=title, xlabel="length of the string", ylabel="share of correct letters", ylim=(-0.05, 1.05))
panels[1].legend(loc="center left")

# %%
# 在训练过的长度上，两个有复制机制的模型几乎写对了所有未知字母，没有复制机制的模型一个也没有写对：它没有对应的输出。
# 三个模型都能翻译已知字母。超出训练长度之后，注意力不再能找到正确的位置，而复制需要它。
#
# 模型什么时候复制？
# ------------------
#
# ``provenance`` 返回每个目标符号的 p_gen，以及其概率中来自复制的份额。

model = models["pointer"]
strings = draw(200, LONGEST)
batch = make_batch(strings, copies=True)
with model.evaluating():
    origin = model.provenance(batch)
targets = batch.tgt_out.flatten()[batch.target_positions]
groups = {
    "known letter": (targets < SIZE) & (targets != EOS),
    "unknown letter": targets >= SIZE,
    "end of the string": targets == EOS,
}
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
bins = [k / 20 for k in range(21)]
p_gen = {name: origin.p_gen[chosen] for name, chosen in groups.items()}
axes.hist(
    [p.numpy() for p in p_gen.values()],
    bins=bins,
    label=list(p_gen),
    weights=[[1 / len(p)] * len(p) for p in p_gen.values()],
)
axes.set(xlabel="p_gen, the probability of generating", ylabel="share of the symbols of the group")
axes.legend()
for name, p in p_gen.items():
    print(f"{name}: mean p_gen {p.mean():.3f}")

# %%
# 指针学会了区分：已知字母和结束符由生成得到，p_gen 接近 1；未知字母由复制得到，p_gen 接近
# 0。没有人告诉它哪些字母是未知的；这是由损失得出的，因为生成给未知字母的概率为 0。
