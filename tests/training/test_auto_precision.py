"""train.precision=auto: the choice for every kind of device, which a run prints, saves and keeps when it continues."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from several import train_together
from small_runs import assert_same_run, config_of, everything

from seq2seq.config import Config
from seq2seq.device import PrecisionChoice
from seq2seq.training.auto_precision import choose_precision, with_precision
from seq2seq.training.inspection import inspect_run
from seq2seq.training.processes import Processes
from seq2seq.training.train import train

CPU, GPU = torch.device("cpu"), torch.device("cuda")
AUTO = {"train.precision": "auto"}
LINES = {
    "bf16 GPU": "train.precision=auto: bf16, because the GPU supports bf16, with the scores of fp32",
    "old GPU": "train.precision=auto: fp32, because the GPU does not support bf16, and fp16 can overflow",
    "AMX CPU": "train.precision=auto: bf16, because the CPU has AMX, with which bf16 is faster",
    "old CPU": "train.precision=auto: fp32, because the CPU has no AMX, without which bf16 is not faster",
}
KEPT = "train.precision=auto: {}, because the run started with it"


class Others(Processes):
    """A process of several, whose others make the given choices."""

    def __init__(self, *choices: PrecisionChoice) -> None:
        self.choices = choices

    def gather(self, value: Any) -> list[Any]:
        return [value, *self.choices]


def patch_amx(monkeypatch: pytest.MonkeyPatch, found: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: found, raising=False)


def patch_gpu(monkeypatch: pytest.MonkeyPatch, found: bool) -> None:
    """Let the GPU support bf16 or not; one that only emulates it does not."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: found or including_emulation)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines about the precision that were printed since the last call."""
    return [line for line in capsys.readouterr().err.splitlines() if "precision" in line]


def continued(config: Config, updates: int) -> Config:
    """Return the settings of a longer run."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, max_updates=updates))


# ---- the table


@pytest.mark.parametrize(("found", "name", "kind"), [(True, "bf16", "bf16 GPU"), (False, "fp32", "old GPU")])
def test_a_gpu_computes_in_bf16_if_it_can(monkeypatch: pytest.MonkeyPatch, found: bool, name: str, kind: str) -> None:
    patch_amx(monkeypatch, not found)
    patch_gpu(monkeypatch, found)
    choice = choose_precision(GPU)
    assert (choice.name, choice.line("train.precision")) == (name, LINES[kind])


@pytest.mark.parametrize(("found", "name", "kind"), [(True, "bf16", "AMX CPU"), (False, "fp32", "old CPU")])
def test_a_cpu_computes_in_bf16_with_amx(monkeypatch: pytest.MonkeyPatch, found: bool, name: str, kind: str) -> None:
    patch_amx(monkeypatch, found)
    patch_gpu(monkeypatch, not found)
    choice = choose_precision(CPU)
    assert (choice.name, choice.line("train.precision")) == (name, LINES[kind])


def test_without_the_question_for_amx_a_cpu_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert choose_precision(CPU).line("train.precision") == LINES["old CPU"]


# ---- resolving a configuration


def test_the_default_is_fp32_and_a_given_precision_is_kept_without_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_amx(monkeypatch, True)
    assert Config().train.precision == "fp32"
    for name in ("fp32", "bf16", "fp16"):
        config = Config()
        config.train.precision = name
        assert with_precision(config, CPU) == (config, [])


def test_several_processes_use_bf16_only_if_all_of_them_choose_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bf16, fp32 = PrecisionChoice("bf16", "it is fast"), PrecisionChoice("fp32", "the CPU is old")
    auto = config_of(tmp_path, **AUTO)
    for here, others, name, reason in (
        (True, (bf16, bf16), "bf16", LINES["AMX CPU"].partition("because ")[2]),
        (True, (bf16, fp32), "fp32", "in process 2 the CPU is old"),
        (False, (bf16,), "fp32", f"in process 0 {LINES['old CPU'].partition('because ')[2]}"),
        (False, (fp32,), "fp32", LINES["old CPU"].partition("because ")[2]),
    ):
        patch_amx(monkeypatch, here)
        config, lines = with_precision(auto, CPU, Others(*others))
        assert config.train.precision == name
        assert lines == [f"train.precision=auto: {name}, because {reason}"]
    assert auto.train.precision == "auto", "the given configuration is not changed"


# ---- a run


def test_a_run_prints_and_saves_its_choice_and_continues_with_it_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unbroken, broken = everything(folder, "unbroken", **{"train.precision": "bf16"}), everything(folder, "auto", **AUTO)
    train(unbroken)
    assert printed(capsys) == []
    patch_amx(monkeypatch, True)
    train(continued(broken, 5))
    assert printed(capsys) == [LINES["AMX CPU"]]
    assert yaml.safe_load((folder / "auto" / "config.yaml").read_text())["train"]["precision"] == "bf16"
    patch_amx(monkeypatch, False)
    train(broken)
    assert printed(capsys) == [KEPT.format("bf16")]
    assert_same_run(unbroken, broken)


def test_a_run_in_fp32_stays_in_fp32_on_a_faster_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config_of(folder))  # the default
    config_file = folder / "run" / "config.yaml"
    patch_amx(monkeypatch, True)
    train(config_of(folder, **AUTO, **{"train.max_updates": 5}))
    assert printed(capsys) == [KEPT.format("fp32")]
    older = yaml.safe_load(config_file.read_text())
    del older["train"]["precision"]  # a run of a version without this setting
    config_file.write_text(yaml.safe_dump(older))
    train(config_of(folder, **AUTO, **{"train.max_updates": 6}))
    assert printed(capsys) == [KEPT.format("fp32")]


def test_a_run_continues_with_the_name_of_its_choice_but_with_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_amx(monkeypatch, True)
    train(config_of(folder, **AUTO))
    train(config_of(folder, **{"train.precision": "bf16", "train.max_updates": 5}))
    with pytest.raises(ValueError, match=r": train\.precision \(was bf16, is fp32\); set them back"):
        train(config_of(folder, **{"train.precision": "fp32"}))


def test_damaged_settings_are_an_error_and_no_new_choice(folder: Path) -> None:
    config = config_of(folder, **AUTO)
    train(config)
    path = folder / "run" / "config.yaml"
    path.write_text("[")
    advice = r"restore it, or set name to start a new run, which can start from the best model of this one with "
    with pytest.raises(
        ValueError, match=rf"^{re.escape(str(path))} is damaged: it is not YAML; {advice}train\.init_from="
    ):
        train(config)
    for content in ("train: 3\n", "train:\n  precision: half\n"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"holds a run of another configuration: .*\(was (3|half), is "):
            train(config)


@pytest.mark.slow
def test_two_processes_choose_together_and_continue(folder: Path) -> None:
    choice = choose_precision(CPU)
    for updates, line in ((4, choice.line("train.precision")), (6, KEPT.format(choice.name))):
        first, second = train_together(folder, "two", AUTO | {"train.max_updates": updates})
        assert [each for each in first.err.splitlines() if "precision" in each] == [line]
        assert second.err == ""


def test_inspect_measures_in_the_precision_that_auto_chooses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch_amx(monkeypatch, True)
    found = inspect_run(config_of(folder, **AUTO))
    assert found.precision == [LINES["AMX CPU"]]
    assert found.lines().count(LINES["AMX CPU"]) == 1
    assert inspect_run(config_of(folder)).precision == []
