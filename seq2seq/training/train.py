"""Train a model from a configuration: data, tokenizers, model, updates, scores of the test files.

``train`` reads from top to bottom; ``Trainer`` runs the loop over updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from seq2seq import model_dir
from seq2seq.config import ENCODER_NAMES, Config, ModelConfig, checked
from seq2seq.config_checks import check_model, check_search, check_tokenizer
from seq2seq.data import corpus
from seq2seq.data.beginnings import segment_beginnings
from seq2seq.data.corpus import Pair
from seq2seq.data.dataset import column, sampled_set, training_set
from seq2seq.data.lines import as_line
from seq2seq.data.report import Report
from seq2seq.data.rows import Rows
from seq2seq.device import find_device
from seq2seq.files import write_atomically
from seq2seq.layers.fast.cells import FAST_CELLS
from seq2seq.layers.fast.decoder import FAST_ATTENTIONS
from seq2seq.model import Seq2Seq, reads_sentences
from seq2seq.model_dir import Tokenizers
from seq2seq.text.tokenizer import Sampling
from seq2seq.threads import set_threads
from seq2seq.training.auto_precision import with_precision
from seq2seq.training.display import Display
from seq2seq.training.initial import apply_start_settings, find_tokenizers, initial_model
from seq2seq.training.older_runs import with_saved_defaults
from seq2seq.training.precision import Precision
from seq2seq.training.processes import Processes, join
from seq2seq.training.reporting import Reporter
from seq2seq.training.run_dir import TEST_TRANSLATIONS, find_run, write_data_report
from seq2seq.training.schedule import check_coverage, check_schedule
from seq2seq.training.state import has_state
from seq2seq.training.tracking import check_tracker
from seq2seq.training.trainer import Trainer
from seq2seq.training.validation import mean_loss, score_translations
from seq2seq.translator import Translator

if TYPE_CHECKING:
    from datasets import Dataset


def train(config: Config) -> float:
    """Train until a limit is reached or train.patience is used up, save the best model, and score the test files if given.

    Returns:
        The best validation score, in ``train.metric``. ``loss`` is in nats per target piece, the others are per cent;
        ``metrics.scores.METRICS`` states whether higher is better (``loss``: lower). With coverage, only the validations after
        the start of coverage count. A run that has ended already returns its best score again.

    If several processes call it, started by torchrun, they train one model together; the first one prints, and reads and
    writes the run directory.

    Raises:
        ValueError: unusable settings or data, a run directory that cannot be continued, or a non-finite loss.
        Stopped: SIGINT or SIGTERM; the state is saved.
        ProcessFailed: another process has failed or cannot be reached.
    """
    config = checked(config)
    device = find_device(config.train.device)
    with join(device) as processes:
        return _train_together(config, device, processes)


def _train_together(config: Config, device: torch.device, processes: Processes) -> float:
    """Train in the processes of the run; see ``train``."""
    _check_devices(processes.gather(device.type))
    sections = ("model", "tokenizer", "loss", "train", "search")
    processes.check_same({f"the settings of {name}": getattr(config, name) for name in sections})
    config = processes.from_first(lambda: with_saved_defaults(config))
    check_together(config)
    config, choices = with_precision(config, device, processes)
    precision = Precision(config.train.precision, device)
    set_threads(config.train.threads, name="train.threads")
    display = Display(quiet=not processes.is_first)
    run = processes.from_first(lambda: find_run(config))
    continues = processes.from_first(lambda: has_state(run / "last"))
    if continues:
        display.print(f"continuing {run}")
    for line in choices:
        display.print(line)

    valid = corpus.read_split(config.data, "valid")
    test = corpus.read_split(config.data, "test") if corpus.has_split(config.data, "test") else []
    tokenizers = processes.from_first(lambda: find_tokenizers(config, run))
    rows, report = processes.in_turn(lambda: read_rows(config, tokenizers))
    for line in [*report.lines(), *corpus_lines(config, rows)]:
        display.print(line)
    _report_cut_sources(valid, tokenizers, config, display)

    settings = model_dir.settings_of(config, rows.length_limit)
    torch.manual_seed(config.train.seed)
    model = initial_model(settings, tokenizers, None if continues else config.train.init_from)
    for line in apply_start_settings(model, config.train, tokenizers, continues=continues):
        display.print(line)
    model = model.to(device)
    trainer = Trainer(
        config,
        run=run,
        model=model,
        precision=precision,
        tokenizers=tokenizers,
        rows=rows,
        valid=valid,
        display=display,
        processes=processes,
    )
    with closing(trainer.metrics_log), closing(trainer.tracker):
        if processes.is_first:
            model_dir.save_settings(run / "last", settings, tokenizers)
            write_data_report(run, report)
        _report_model(model, config, display)
        best = trainer.run_updates()
        if test:
            metric, reporter = config.train.metric, trainer.reporter
            processes.from_first(lambda: _score_test(test, run=run, device=device, metric=metric, reporter=reporter))
    return best


def _check_devices(types: Sequence[str]) -> None:
    """Check that all processes compute on GPUs or all on CPUs, since these cannot communicate.

    Args:
        types: cuda or cpu, by rank.
    """
    for rank, name in enumerate(types):
        if name != types[0]:
            raise ValueError(
                f"all processes must compute on the same type of device, but process {rank} uses {name} and process 0 "
                f"{types[0]}; set train.device=cpu, or start processes only on machines with a GPU"
            )


def check_together(config: Config) -> None:
    """Check settings that depend on each other, before any data is read."""
    check_tokenizer(config.tokenizer)
    check_model(config.model, shared=config.tokenizer.shared)
    check_search(config.search, has_attention=config.model.attention != "none")
    if config.search.shortlist:
        raise ValueError(
            f"search.shortlist={config.search.shortlist} requires a shortlist, which is learned after training; set it to "
            "0, and give --shortlist to seq2seq translate"
        )
    corpus.check_fields(config.data)
    corpus.training_weights(config.data)
    check_schedule(config.train)
    check_coverage(config)
    check_tracker(config.train.track)


def read_rows(config: Config, tokenizers: Tokenizers) -> tuple[Rows, Report]:
    """Read and tokenize the training pairs; return them with the report on them."""
    copies, segments = config.model.copy != "none", reads_sentences(config.model)
    threads = torch.get_num_threads()
    power = config.tokenizer.nbest_power
    sampling = Sampling(config.tokenizer.dropout, config.tokenizer.nbest, 0.1 if power is None else power)
    dataset, report = training_set(config.data, *tokenizers, copies=copies, segments=segments, processes=threads)

    def sample(epoch: int) -> Dataset:
        """Tokenize the training pairs with the subword sampling of an epoch."""
        return sampled_set(
            config.data,
            *tokenizers,
            copies=copies,
            segments=segments,
            sampling=sampling,
            seed=config.train.seed,
            epoch=epoch,
            processes=threads,
        )

    rows = Rows(
        dataset,
        copies=copies,
        segments=segments,
        sample=sample if sampling.dropout or sampling.nbest else None,
        length_limit=report.length_limit,
        weights=corpus.training_weights(config.data),
    )
    return rows, report


def corpus_lines(config: Config, rows: Rows) -> list[str]:
    """Describe the training corpora, if they have tags or weights."""
    tags, weights = corpus.corpus_tags(config.data), corpus.training_weights(config.data)
    if not any(tags) and all(weight == 1 for weight in weights):
        return []
    counts = np.bincount(column(rows.dataset, "corpus"), minlength=len(weights)).tolist()
    return [
        f"corpus {number}: {count:,} pairs, weight {weight:g}, {f'tag {tag}' if tag else 'no tag'}"
        for number, (count, weight, tag) in enumerate(zip(counts, weights, tags, strict=True), start=1)
    ]


def _count_too_long(pairs: Sequence[Pair], tokenizers: Tokenizers, limit: int) -> int:
    """Count the sources that have more pieces than the model reads."""
    beginnings = segment_beginnings(tokenizers.src, [pair.src for pair in pairs], limit)
    return sum(beginning.length > limit for beginning in beginnings)


def _report_cut_sources(valid: Sequence[Pair], tokenizers: Tokenizers, config: Config, display: Display) -> None:
    """Print how many validation sources are too long, and how they are validated."""
    limit = config.data.max_source_length
    if too_long := _count_too_long(valid, tokenizers, limit):
        split = " for the loss, and split for the scores" if config.search.too_long == "split" else ""
        display.print(f"{too_long:,} of the validation sources are cut to data.max_source_length={limit}{split}")


def _report_model(model: Seq2Seq, config: Config, display: Display) -> None:
    """Print the size of the model, and how to train the decoder faster if it runs step by step."""
    display.print(f"{sum(p.numel() for p in model.parameters()):,} parameters on {model.device}")
    if model.decoder.unrolls_by_steps:
        display.print(step_by_step_message(config.model))


def step_by_step_message(config: ModelConfig) -> str:
    """Say which settings prevent the fast unroll of the decoder, and which values allow it."""
    allowed = {
        "encoder": [name for name in ENCODER_NAMES if name != "hierarchical"],
        "attention": sorted(FAST_ATTENTIONS),
        "cell": list(FAST_CELLS),
        "layer_norm": ["false"],
    }
    values = {name: str(getattr(config, name)).lower() for name in allowed}
    reasons = [name for name, value in values.items() if value not in allowed[name]]
    now = " and ".join(f"model.{name}={values[name]}" for name in reasons)
    then = " and ".join(f"model.{name}={' or '.join(allowed[name])}" for name in reasons)
    return f"the decoder is trained step by step, since {now}; training is faster with {then}"


def _score_test(pairs: Sequence[Pair], *, run: Path, device: torch.device, metric: str, reporter: Reporter) -> None:
    """Translate the test files with the best model; save the translations, log and print the scores.

    Args:
        metric: train.metric, which is scored in addition to BLEU and chrF.
    """
    display = reporter.display
    translator = Translator.load(run, device=device.type)
    translator.notices.shown = False
    limit = translator.model.max_source_length
    if too_long := _count_too_long(pairs, translator.tokenizers, limit):
        treatment = {"cut": "cut to", "split": "split into parts of at most"}[translator.search_config.too_long]
        display.print(f"{too_long:,} of the test sources are {treatment} data.max_source_length={limit}")
    sources, references = [pair.src for pair in pairs], [pair.tgt for pair in pairs]
    hypotheses = translator.translate(sources)
    for line in translator.notices.cut_lines(advice="raise it with search.max_length_ratio"):
        display.print(f"test: {line}")
    write_atomically(run / TEST_TRANSLATIONS, b"".join(map(as_line, hypotheses)))
    tags = translator.tokenizers.src.tags
    results = score_translations(hypotheses, sources, references, metric=metric, tags=tags)
    reporter.test(results, mean_loss(translator, sources, references) if metric == "loss" else None)
