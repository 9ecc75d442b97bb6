"""A small model that copies, and a server that runs as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from untrained import spread

from seq2seq import model_dir
from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.model_dir import Settings, Tokenizers
from seq2seq.text.factory import train_tokenizer

TEXT = [
    "a man sees the old dog .",
    "the dog sees a small man , too .",
    "two men sleep ; one dog runs away !",
    "狗 看见 人 。",
    "رجل يرى الكلب القديم .",
]


def save_model(folder: Path, **changes: Any) -> Path:
    """Save an untrained model with large weights, whose translations differ; with a pointer, it copies some words."""
    tokenizer = TokenizerConfig(type="word", vocab_size=40)
    tokenizers = Tokenizers(*[train_tokenizer(TEXT, tokenizer)] * 2)
    search = SearchConfig(beam_size=3, max_length_ratio=1.0, max_length_extra=2)
    model_settings = ModelConfig(**{"cell": "gru", "embedding_size": 8, "hidden_size": 8} | changes)
    settings = Settings(model_settings, tokenizer, search, 12)
    torch.manual_seed(13)
    model_dir.save_settings(folder, settings, tokenizers)
    model = model_dir.build_model(settings, tokenizers)
    spread(model, 3.0)
    model_dir.save_weights(folder, model)
    return folder


class RunningServer:
    """The serve command in another process."""

    def __init__(self, model: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "seq2seq", "serve", str(model), "--port", "0", "--threads", "1", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.log = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if found := re.search(r"serving .* on (http://\S+)$", line):
                self.url = found[1]
                return
        raise AssertionError(self.log)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        out, rest = self.process.communicate(timeout=60)
        self.log += rest
        assert out == ""
        return self.process.returncode

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.communicate()
