"""The env command, and the files of the package that name its version."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from command_line import run

from seq2seq.sharing import environment
from seq2seq.sharing.environment import describe_environment, environment_lines
from seq2seq.training.auto_precision import choose_precision
from seq2seq.version import __version__

ROOT = Path(__file__).parents[2]


def test_the_command_prints_text_and_json() -> None:
    text, as_json = run("env"), run("env", "--json")
    assert (text.exit_code, as_json.exit_code) == (0, 0)
    found = json.loads(as_json.stdout)
    assert found["seq2seq"] == __version__
    assert found["torch"] == torch.__version__
    assert found["cpu"]["capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["threads"]["torch"] == torch.get_num_threads()
    assert text.stdout.splitlines() == environment_lines(found)
    assert f"seq2seq: {__version__}" in text.stdout.splitlines()


def test_no_path_is_named() -> None:
    text = run("env", "--json").stdout
    assert str(Path.home()) not in text
    assert os.getcwd() not in text


def test_processor_gpu_and_missing_packages_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package"))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    properties = SimpleNamespace(name="GPU 9000", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setattr(environment, "_memory", lambda: None)
    found = describe_environment()
    assert (found["cpu"]["amx"], found["cpu"]["avx512_bf16"]) == (True, None)
    assert found["gpu"] == ["GPU 9000, 80 GiB, CUDA 13.0"]
    lines = environment_lines(found)
    assert "no-such-package: not installed" in lines
    assert "memory: unknown" in lines
    assert "gpu: GPU 9000, 80 GiB, CUDA 13.0" in lines
    assert any(re.fullmatch(r"cpu: .+, amx; \d+ cores", line) for line in lines)
    assert "train.precision=auto: bf16, because the GPU supports bf16, with the scores of fp32" in lines
    assert any("OMP_WAIT_POLICY passive" in line for line in lines if line.startswith("threads:"))


@pytest.mark.parametrize("has_amx", [True, False])
def test_the_precision_that_auto_chooses_is_printed(monkeypatch: pytest.MonkeyPatch, has_amx: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    found = describe_environment()
    assert found["precision"] == choose_precision(torch.device("cpu"))._asdict()
    assert found["precision"]["name"] == ("bf16" if has_amx else "fp32")
    assert choose_precision(torch.device("cpu")).line("train.precision") in environment_lines(found)


def test_a_processor_without_features_for_bf16_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    (line,) = [line for line in environment_lines(describe_environment()) if line.startswith("cpu:")]
    assert "neither AMX nor AVX512-BF16; " in line


# ---- files that name the version


def test_the_changelog_ends_its_versions_with_the_current_one() -> None:
    titles = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert next(title for title in titles if title != "Unreleased") == __version__


def test_the_citation_names_the_version_and_the_licence() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (found["cff-version"], found["version"], found["license"]) == ("1.2.0", __version__, "MIT")
    assert {"title", "message", "authors"} <= found.keys()


def test_the_issue_template_asks_for_the_environment() -> None:
    template = (ROOT / ".github" / "ISSUE_TEMPLATE" / "error.md").read_text(encoding="utf-8")
    assert "`seq2seq env`" in template
    assert yaml.safe_load(template.split("---")[1]).keys() >= {"name", "about"}
