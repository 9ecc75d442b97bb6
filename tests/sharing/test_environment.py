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
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setattr(environment, "_memory", lambda: None)
    found = describe_environment()
    assert (found["cpu"]["amx"], found["cpu"]["avx512_bf16"]) == (True, None)
    assert found["gpu"] == ["GPU 9000, 80 GiB, CUDA 13.0"]
    lines = environment_lines(found)
    assert "no-such-package: not installed" in lines
    assert "memory: unknown" in lines
    assert "gpu: GPU 9000, 80 GiB, CUDA 13.0" in lines
    assert any("amx; train.precision=bf16 pays" in line for line in lines)
    assert any("OMP_WAIT_POLICY passive" in line for line in lines if line.startswith("threads:"))


def test_a_processor_without_bf16_gets_the_other_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    (line,) = [line for line in environment_lines(describe_environment()) if line.startswith("cpu:")]
    assert "neither AMX nor AVX512-BF16; train.precision=fp32 is faster than bf16" in line


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
