"""Recurrent sequence-to-sequence models: train, translate, score.

On the command line::

    seq2seq train data.root=my_data data.train.src=train.en data.train.tgt=train.de \\
        data.valid.src=valid.en data.valid.tgt=valid.de name=mine
    echo "A man sleeps." | seq2seq translate runs/mine

In Python::

    from seq2seq import Config, DataConfig, FilesConfig, Translator, train

    data = DataConfig(
        root="my_data",
        train=FilesConfig(src="train.en", tgt="train.de"),
        valid=FilesConfig(src="valid.en", tgt="valid.de"),
    )
    train(Config(name="mine", data=data))  # trains into runs/mine
    Translator.load("runs/mine").translate(["A man sleeps."])

``seq2seq.config`` describes every setting. The names below are imported when they are first used, so ``import seq2seq``
itself loads neither torch nor Hydra.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from seq2seq.version import __version__

if TYPE_CHECKING:  # the same names as in EXPORTS, for editors and type checkers
    from seq2seq.config import (
        Config,
        DataConfig,
        FilesConfig,
        LossConfig,
        ModelConfig,
        SearchConfig,
        TokenizerConfig,
        TrainConfig,
    )
    from seq2seq.training.train import train
    from seq2seq.translation import Translation
    from seq2seq.translator import Translator

EXPORTS = {  # name: the module that defines it
    "Config": "seq2seq.config",
    "DataConfig": "seq2seq.config",
    "FilesConfig": "seq2seq.config",
    "LossConfig": "seq2seq.config",
    "ModelConfig": "seq2seq.config",
    "SearchConfig": "seq2seq.config",
    "TokenizerConfig": "seq2seq.config",
    "TrainConfig": "seq2seq.config",
    "Translation": "seq2seq.translation",
    "Translator": "seq2seq.translator",
    "train": "seq2seq.training.train",
}

__all__ = [  # noqa: RUF022 # the data classes in the order of Config's fields
    "Config",
    "DataConfig",
    "FilesConfig",
    "TokenizerConfig",
    "ModelConfig",
    "LossConfig",
    "TrainConfig",
    "SearchConfig",
    "Translation",
    "Translator",
    "train",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first used."""
    if name not in EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *EXPORTS})
