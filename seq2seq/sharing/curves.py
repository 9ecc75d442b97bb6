"""Learning curves of runs, as panels to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seq2seq.plot import Panel
from seq2seq.sharing.run_record import RunRecord

Curves = dict[str, tuple[Sequence[float], Sequence[float]]]
_PANELS: Mapping[str, tuple[tuple[str, str], ...]] = {  # title: the keys of metrics.jsonl and their labels
    "loss, in nats per target piece": (("loss", "training"), ("valid_loss", "validation")),
    "validation scores": (("valid_bleu", "BLEU"), ("valid_chrf", "chrF")),
    "learning rate": (("learning_rate", "learning rate"),),
    "speed, in target pieces per second": (("tokens_per_second", "speed"),),
}


def learning_curves(runs: Mapping[str, RunRecord]) -> list[Panel]:
    """Make the panels of one or several runs by their names; a panel without values is left out.

    Raises:
        ValueError: no run has a record.
    """
    panels = []
    for title, keys in _PANELS.items():
        curves: Curves = {}
        for name, run in runs.items():
            for key, label in keys:
                steps, values = _values([*run.updates, *run.validations], key)
                if values:
                    curves[f"{name}: {label}"] = (steps, values)
        if curves:
            panels.append(Panel(title, "update", "", curves))
    if not panels:
        raise ValueError(f"{', '.join(runs)} has no curves, because metrics.jsonl has no record; train for longer")
    return panels


def _values(records: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Return the updates at which a value was recorded, and the values; None stands for NaN and infinity."""
    found = [
        (record["update"], record[key]) for record in records if "update" in record and record.get(key) is not None
    ]
    return [step for step, _ in found], [value for _, value in found]
