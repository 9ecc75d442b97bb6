"""
9. Copying
==========

A model can only write what its vocabulary has. Names and numbers are often missing there, but they are in the source, and the
decoder knows where: its attention points at them. A *pointer* (`See et al. 2017 <https://aclanthology.org/P17-1099>`_) turns
the weights of the attention into probabilities of the source symbols. This chapter trains models with and without copying to
translate strings with unknown letters.
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
# The extended vocabulary
# -----------------------
#
# The vocabulary has 10 letters. The "translation" of a letter is the next one in the alphabet. Each string may also have
# letters that are not in the vocabulary; they stay as they are. The encoder reads all of them as the unknown symbol, but
# within one string they have ids of their own, after the last id of the vocabulary. The model without copying is trained to
# write the unknown symbol.

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
# Three models
# ------------
#
# With ``copy="pointer"``, a gate p_gen decides at each step between generating and copying:
# :math:`P(w) = p_{gen} P_{vocab}(w) + (1 - p_{gen}) \sum_{j: x_j = w} a_j`. With ``copy="copynet"`` (`Gu et al. 2016
# <https://aclanthology.org/P16-1154>`_), the source positions and the vocabulary share one softmax.


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
# Both models that copy write nearly all unknown letters of the trained lengths, the model without copying none: it has no
# output for them. Known letters are translated by all three. Beyond the trained lengths the attention no longer finds the
# right position, which copying needs.
#
# When does the model copy?
# -------------------------
#
# ``provenance`` returns p_gen of each target symbol, and the share of its probability that comes from copying.

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
# The pointer learned the difference: p_gen is near 1 for known letters and the end, which are generated, and near 0 for unknown
# letters, which are copied. Nobody told it which letters are unknown; it follows from the loss, because generating
# gives an unknown letter the probability 0.
