"""
10. Coverage
============

An attention that has no memory of where it looked can look at the same position twice, and miss another. Models then repeat
phrases or leave some out. *Coverage* (`Tu et al. 2016 <https://aclanthology.org/P16-1008>`_, `See et al. 2017
<https://aclanthology.org/P17-1099>`_) is the sum of the attention weights of the steps so far. It becomes an input of the
attention, and a loss can penalise looking at covered positions. This chapter computes it, and measures what it does on a task
that needs it.
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
# The coverage loss by hand
# -------------------------
#
# Coverage before step t is :math:`c^t = \sum_{t' < t} a^{t'}`, and the loss of the step :math:`\sum_i \min(a_i^t, c_i^t)`: the
# weight that goes to positions which were already read. We compare an attention that moves on with one that stays.

moves = torch.eye(4).unsqueeze(0)  # each of four steps looks at another position: (1, T, S)
stays = torch.tensor([1.0, 0, 0, 0]).expand(1, 4, 4)
for name, weights in (("moves on", moves), ("stays", stays)):
    print(f"{name}: loss of each step", coverage_loss(weights, torch.ones(1, 4))[0].tolist())

# %%
# A task in which it is easy to get lost
# --------------------------------------
#
# Again a model repeats strings, but the strings have only two letters. In a long string, most pairs of neighbouring
# letters occur several times, so the letters do not tell the decoder where it is.

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
# With ``coverage="sum"``, the energy of letter j at step t is :math:`v \cdot \tanh(W s_t + U h_j + b + w\, c_j^t)`: the
# formula of chapter 8 with one more learned vector, :math:`w`, which is 0 before training. The accuracy by length, for
# two seeds each:

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
# Both kinds of model repeat short strings. At length 10, the models with coverage repeat most strings without an error, the
# ones without it less than half. At length 12 few are right in either case, but still more with coverage. Both seeds agree.
#
# Where the weights go
# --------------------
#
# The weights of one string, and their sums over all steps: the coverage at the end. The weights of each step sum to 1,
# so the mean of all bars is 1 in any case; each single bar is near 1 if every letter was read once.

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
# Both models read every letter about once: the bars are near 1. But a step does not read one letter alone. The largest weight
# of a step is far below 1, so several neighbouring letters share it. Coverage tells the decoder how much of each of them was
# read before, which two letters alone cannot tell.
#
# ``loss.coverage_weight`` adds the coverage loss of the beginning of this chapter to the training loss. See et al. train
# without coverage first and switch it on for the last few thousand updates; ``loss.coverage_start`` is the number of updates
# before that.
