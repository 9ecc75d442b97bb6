"""The error about an unknown key of the configuration, with the setting that was probably meant."""

from __future__ import annotations

import difflib

# Names of the same settings in other toolkits, for the error about an unknown key.
OTHER_NAMES = {
    "alpha": ("search.length_penalty",),
    "amp": ("train.precision",),
    "batch": ("train.batch_tokens",),
    "batch_size": ("train.batch_tokens",),
    "beam": ("search.beam_size",),
    "beam_width": ("search.beam_size",),
    "bidir": ("model.bidirectional",),
    "brnn": ("model.bidirectional",),
    "cell_type": ("model.cell",),
    "clip": ("train.clip_norm",),
    "clip_grad": ("train.clip_norm",),
    "early_stopping": ("train.patience",),
    "emb_size": ("model.embedding_size",),
    "embed_dim": ("model.embedding_size",),
    "epochs": ("train.max_epochs",),
    "eval_every": ("train.valid_every",),
    "fp16": ("train.precision",),
    "gpu": ("train.device",),
    "grad_accum": ("train.accumulate",),
    "grad_clip": ("train.clip_norm",),
    "hidden": ("model.hidden_size",),
    "hidden_dim": ("model.hidden_size",),
    "lambda_coverage": ("loss.coverage_weight",),
    "layers": ("model.encoder_layers", "model.decoder_layers"),
    "lr": ("train.learning_rate",),
    "lr_scheduler": ("train.schedule",),
    "max_grad_norm": ("train.clip_norm",),
    "max_steps": ("train.max_updates",),
    "num_beams": ("search.beam_size",),
    "num_epochs": ("train.max_epochs",),
    "num_layers": ("model.encoder_layers", "model.decoder_layers"),
    "optim": ("train.optimizer",),
    "output_dir": ("run_dir",),
    "random_seed": ("train.seed",),
    "rnn_size": ("model.hidden_size",),
    "rnn_type": ("model.cell",),
    "save_dir": ("run_dir",),
    "share_vocab": ("tokenizer.shared",),
    "smoothing": ("loss.label_smoothing",),
    "steps": ("train.max_updates",),
    "train_steps": ("train.max_updates",),
    "update_freq": ("train.accumulate",),
    "valid_steps": ("train.valid_every",),
    "warmup_steps": ("train.warmup",),
    "wd": ("train.weight_decay",),
    "word_vec_size": ("model.embedding_size",),
}


def unknown_key(key: str, known: list[str]) -> str:
    """Return the message about an unknown key, with the setting that was probably meant."""
    nearest = _nearest_keys(key, known)
    if not nearest:
        return f"there is no setting {key}"
    *first, last = nearest
    if not first:
        return f"there is no setting {key}; the nearest is {last}"
    return f"there is no setting {key}; the nearest are {', '.join(first)} and {last}"


def _nearest_keys(key: str, known: list[str]) -> list[str]:
    """Find the nearest keys: by a name of another toolkit, else by the last component (in the same group first), else by the
    whole key.
    """
    group, _, last = key.rpartition(".")
    other = OTHER_NAMES.get(last.lower(), ())
    if other and set(other) <= set(known):
        return list(other)
    in_group = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == group}
    if near := difflib.get_close_matches(last, in_group, n=1):
        return [in_group[near[0]]]
    lasts = {name.rpartition(".")[2] for name in known}
    if near := difflib.get_close_matches(last, lasts, n=1):
        groups = {name.rpartition(".")[0]: name for name in known if name.rpartition(".")[2] == near[0]}
        near_groups = difflib.get_close_matches(group, groups, n=1, cutoff=0.75)
        return [groups[name] for name in near_groups or groups]
    return difflib.get_close_matches(key, known, n=1, cutoff=0.0)
