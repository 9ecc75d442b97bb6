"""Train a model from a configuration: data, tokenizers, model, updates, the score of the test files.

``train`` reads from top to bottom; the updates themselves are ``trainer.Trainer``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from seq2seq import model_dir
from seq2seq.config import Config, check_model, check_search, check_tokenizer, checked
from seq2seq.data import corpus
from seq2seq.data.corpus import Pair
from seq2seq.data.dataset import sampled_set, training_set
from seq2seq.data.rows import Rows
from seq2seq.metrics import scores as evaluate
from seq2seq.model_dir import Tokenizers
from seq2seq.training.display import Display
from seq2seq.training.initial import find_tokenizers, initial_model
from seq2seq.training.precision import Precision
from seq2seq.training.run_dir import find_run
from seq2seq.training.schedule import check_coverage, check_schedule
from seq2seq.training.state import Metrics, has_state
from seq2seq.training.trainer import Trainer, signatures
from seq2seq.translator import Translator, find_device

if TYPE_CHECKING:
    from datasets import Dataset


def train(config: Config) -> None:
    """Train until a limit or until patience ends, keep the best model, score the test files if there are any.

    Raises:
        ValueError: settings or data that cannot work, a run directory that cannot be continued, a non-finite loss.
        Stopped: SIGINT or SIGTERM; the state is saved.
    """
    config = checked(config)
    check_tokenizer(config.tokenizer)
    check_model(config.model, shared=config.tokenizer.shared)
    check_search(config.search, has_attention=config.model.attention != "none")
    corpus.check_fields(config.data)
    check_schedule(config.train)
    check_coverage(config)
    device = find_device(config.train.device)
    precision = Precision(config.train.precision, device)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    display = Display()
    run = find_run(config)
    continues = has_state(run / "last")
    if continues:
        display.say(f"continuing {run}")
    valid = corpus.read_split(config.data, "valid")
    test = corpus.read_split(config.data, "test") if corpus.given(config.data.test) else []
    settings = model_dir.settings_of(config)
    tokenizers = find_tokenizers(config, run)
    copies = config.model.copy != "none"
    dataset, report = training_set(config.data, tokenizers.src, tokenizers.tgt, copies=copies)
    for line in report.lines():
        display.say(line)

    def sample(epoch: int) -> Dataset:
        merges, seed = config.tokenizer.dropout, config.train.seed
        return sampled_set(
            config.data, tokenizers.src, tokenizers.tgt, copies=copies, dropout=merges, seed=seed, epoch=epoch
        )

    rows = Rows(dataset, copies=copies, sample=sample if config.tokenizer.dropout else None)
    torch.manual_seed(config.train.seed)
    model = initial_model(settings, tokenizers, None if continues else config.train.init_from).to(device)
    limit = config.data.max_source_length
    if long := _count_long([pair.src for pair in valid], tokenizers, limit):
        split = " for the loss, and split for the scores" if config.search.too_long == "split" else ""
        display.say(f"{long:,} of the validation sources are cut to data.max_source_length={limit}{split}")
    trainer = Trainer(config, run, model, precision, tokenizers, rows, valid, display)
    model_dir.save_settings(run / "last", settings, tokenizers)
    display.say(f"{sum(p.numel() for p in model.parameters()):,} parameters on {device}")
    if not model.decoder.fuses:
        display.say(
            "the decoder is trained step by step; it would be sooner with model.decoder_layers=1 and an attention, "
            f"but here are model.decoder_layers={config.model.decoder_layers} and model.attention={config.model.attention}"
        )
    with closing(trainer.metrics):
        trainer.run_updates()
        _score_test(test, run, device, trainer.metrics, display)


def _count_long(sources: Sequence[str], tokenizers: Tokenizers, limit: int) -> int:
    """How many sources are longer than the model reads."""
    return sum(len(segments.ids) > limit for segments in tokenizers.src.segment(sources))


def _score_test(pairs: Sequence[Pair], run: Path, device: torch.device, metrics: Metrics, display: Display) -> None:
    """Translate the test files with the best model and print the score."""
    if not pairs:
        return
    translator = Translator.load(run, device=device.type)
    translator.warns = False
    sources = [pair.src for pair in pairs]
    if long := _count_long(sources, translator.tokenizers, translator.max_source_length):
        done = {"cut": "cut to", "split": "split into parts of at most"}[translator.search_config.too_long]
        display.say(f"{long:,} of the test sources are {done} data.max_source_length={translator.max_source_length}")
    hypotheses = translator.translate(sources)
    model_dir.write(run / "test.hyp", b"".join(map(corpus.as_line, hypotheses)))
    scores = evaluate.score(hypotheses, [[pair.tgt for pair in pairs]], metrics=("bleu", "chrf"))
    metrics.write({"test_" + score.name: score.score for score in scores} | signatures(scores))
    display.stop()
    for score in scores:
        display.say(f"test {score.name} = {score.score:.2f}  {score.signature}")
