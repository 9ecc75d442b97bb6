"""The package itself: its names are imported when they are used, and its help shows how to start."""

from __future__ import annotations

import importlib
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import seq2seq
from seq2seq import Config, Translator, train
from seq2seq.version import __version__

HEAVY = ("torch", "hydra", "datasets", "numpy", "sacrebleu", "matplotlib")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, seq2seq; dir(seq2seq); seq2seq.Config(); print(set({HEAVY}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(("name", "module"), seq2seq.EXPORTS.items())
def test_every_exported_name_is_that_of_its_module(name: str, module: str) -> None:
    assert getattr(seq2seq, name) is getattr(importlib.import_module(module), name)
    assert name in dir(seq2seq)
    assert name in seq2seq.__all__


def test_exported_names() -> None:
    assert set(seq2seq.__all__) == {*seq2seq.EXPORTS, "__version__"}
    assert seq2seq.__version__ == __version__
    assert (Config.__name__, Translator.__name__, train.__name__) == ("Config", "Translator", "train")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'seq2seq' has no attribute 'nosuch'$"):
        _ = seq2seq.nosuch
    with pytest.raises(ImportError, match="cannot import name 'nosuch'"):
        from seq2seq import nosuch  # noqa: F401


def test_type_checkers_see_the_same_names() -> None:
    source = Path(seq2seq.__file__).read_text(encoding="utf-8")
    block = source.partition("if TYPE_CHECKING:")[2].partition("EXPORTS = {")[0]
    assert all(f" {name}" in block for name in seq2seq.EXPORTS)


def test_help_shows_how_to_start() -> None:
    text = pydoc.render_doc(seq2seq, renderer=pydoc.plaintext)
    assert "from seq2seq import Config, DataConfig, FilesConfig, Translator, train" in text
    assert 'Translator.load("runs/mine").translate(["A man sleeps."])' in text
