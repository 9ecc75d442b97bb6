"""The command line of train: flags anywhere, every error of Hydra in one line, recipes of a user, sweeps, completion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import hydra
import pytest
import yaml
from command_line import refused, run, write

from seq2seq.commands.jobs import JobResult, ranking
from seq2seq.commands.train import FLAGS, split_arguments
from seq2seq.training import train as training

ROOT = Path(__file__).parents[2]
TEXT = "".join(f"a b c d {number}\n" for number in range(5))
SMALL = [
    "tokenizer.type=word",
    "tokenizer.vocab_size=14",
    "train.max_updates=2",
    "train.threads=1",
    "train.device=cpu",
    "search.beam_size=1",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a corpus, a recipe ``mine`` and a model ``tiny`` of a user; the working directory."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    for name in ("text.src", "text.tgt"):
        write(tmp_path / name, TEXT)
    for group in ("experiment", "model"):
        (tmp_path / "my" / group).mkdir(parents=True)
    write(tmp_path / "my" / "model" / "tiny.yaml", "hidden_size: 8\nembedding_size: 8\n")
    write(
        tmp_path / "my" / "experiment" / "mine.yaml",
        "# @package _global_\ndefaults:\n  - override /model: tiny\n  - override /data: files\n"
        "name: mine\nmodel: {hidden_size: 12}\ndata:\n"
        "  train: {src: text.src, tgt: text.tgt}\n  valid: {src: text.src, tgt: text.tgt}\n",
    )
    return tmp_path


def printed(*arguments: str) -> Any:
    """The configuration that --cfg prints."""
    result = run("train", *arguments, "--cfg", "job")
    assert result.exit_code == 0, result.output
    return yaml.safe_load(result.stdout)


# ---- flags


@pytest.mark.parametrize(
    ("arguments", "flags", "settings"),
    [
        ("", {}, []),
        ("name=q -m train.seed=1,2", {"--multirun": ""}, ["name=q", "train.seed=1,2"]),
        ("train.max_updates=2 --info all", {"--info": "all"}, ["train.max_updates=2"]),
        ("--info train.max_updates=2", {"--info": "all"}, ["train.max_updates=2"]),
        ("-i defaults ~data.test", {"--info": "defaults"}, ["~data.test"]),
        ("a=1 -c job b=2 -p model c=3", {"--cfg": "job", "--package": "model"}, ["a=1", "b=2", "c=3"]),
        ("--cfg=all --resolve", {"--cfg": "all", "--resolve": ""}, []),
        ("-cd my experiment=mine", {"--config-dir": "my"}, ["experiment=mine"]),
        ("-sc install=bash", {"--shell-completion": ""}, ["install=bash"]),
        ("-h", {"--help": ""}, []),
    ],
)
def test_flags_and_settings_in_any_order(arguments: str, flags: dict[str, str], settings: list[str]) -> None:
    assert split_arguments(arguments.split()) == (flags, settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c"], "-c requires a value: one of job, hydra, all"),
        (["--package"], "--package requires a value"),
        (["--cfg", "jobs"], "--cfg must be one of job, hydra, all, but is jobs"),
        (["--info=x"], "--info must be one of all, config, defaults, defaults-tree, plugins, searchpath, but is x"),
        (["-m=2"], "-m takes no value, but is given 2"),
        (["train.seed=1", "5"], "an argument of train is KEY=VALUE, but 5 has no ="),
    ],
)
def test_wrong_values_of_flags(arguments: list[str], message: str) -> None:
    assert refused("train", *arguments) == message


def test_an_unknown_flag_names_the_known_ones() -> None:
    message = refused("train", "train.seed=1", "--multi", "name=x")
    assert message == (
        "train has no flag --multi; settings are given as KEY=VALUE (seq2seq train --help lists them), and the flags "
        "are --help (-h), --hydra-help, --version, --cfg (-c), --resolve, --package (-p), --run (-r), --multirun (-m), "
        "--shell-completion (-sc), --config-path (-cp), --config-name (-cn), --config-dir (-cd), --experimental-rerun, "
        "--info (-i)"
    )


def test_help_lists_every_setting_and_flag() -> None:
    text = run("train", "--help").stdout
    assert [flag for flag in FLAGS if flag.name not in text or flag.short not in text] == []
    assert "learning_rate: 0.002" in text
    assert "data: aeslc, bulletins" in text


def test_flags_reach_hydra() -> None:
    files = ["data.train.src=x", "data.train.tgt=y"]
    for arguments in ([*files, "--cfg", "job"], ["--cfg", "job", *files], [files[0], "-c", "job", files[1]]):
        result = run("train", *arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        found = yaml.safe_load(result.stdout)["data"]["train"]
        assert found == {"src": "x", "tgt": "y", "file": None, "tag": None, "weight": None}
        assert "phrasebook/" not in result.stdout, "named files replace the bundled ones"
    assert run("train", "-p", "loss", "--cfg=job").stdout.startswith("# @package loss\nlabel_smoothing: 0.1\n")
    assert "name: x\n" in run("train", "--cfg", "job", "--resolve", "name=x").stdout


def test_info_is_printed_once() -> None:
    command = [sys.executable, "-m", "seq2seq", "train", "train.max_updates=2", "--info", "defaults"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Defaults List" in done.stdout


# ---- errors


@pytest.mark.parametrize("full_error", [None, "1"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cfg", "job", "modle.cell=gru"], "there is no setting modle.cell; the nearest is model.cell"),
        (["train.lr=1"], "there is no setting train.lr; the nearest is train.learning_rate"),
        (
            ["~model.copy", "--cfg", "job"],
            "model.copy can't be removed, because every setting has a value; set model.copy to another value",
        ),
        (["model=nosuch"], "Could not find 'model/nosuch' Available options in 'model': default large plain transformer_tiny"),
        (["model=[1]"], "Hydra can't read model=[1]"),
        (["--cfg", "job", "-m"], "Only one of --run, --multirun, --cfg, --info and --shell_completion can be specified"),
        (["--resolve"], "The --resolve flag can only be used in conjunction with --cfg or --help"),
        (["-cd", "/nosuch"], "Additional config directory '/nosuch' not found"),
        (["-cn", "nosuch"], "Cannot find primary config 'nosuch'. Check that it's in your config search path."),
        (["--multirun", "model=default,nosuch"], "Could not find 'model/nosuch' Available options in 'model': default large plain transformer_tiny"),
        (["-m", "train.seed=1,2", "model.cell=elman"], "model.cell must be one of rnn_tanh, rnn_relu, gru, lstm, but is elman"),
        (["-m", "train.seed=1,2", "train.average=x"], re.compile("train.average=x .*could not be converted to Float")),
        (["hydra/sweeper=nosuch"], re.compile("^Could not find 'hydra/sweeper/nosuch'")),
        (["-m", "train.seed=range(1"], re.compile(r"range\(1")),
    ],
)  # fmt: skip
def test_errors_of_hydra_are_one_line(
    arguments: list[str],
    message: str | re.Pattern[str],
    full_error: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", full_error) if full_error else monkeypatch.delenv("HYDRA_FULL_ERROR", False)
    line = refused("train", *arguments)
    assert message.search(line) if isinstance(message, re.Pattern) else line == message
    assert os.environ.get("HYDRA_FULL_ERROR") == full_error, "the environment is restored"


def test_damaged_files_of_a_configuration_are_one_line(folder: Path) -> None:
    write(folder / "my" / "bad.yaml", ": : [\n")
    write(folder / "my" / "bytes.yaml", b"name: \xff\n")
    message = refused("train", "-cp", "my", "-cn", "bad")
    assert message.startswith("a file of the configuration is not YAML: while parsing ")
    assert message.endswith(f'in "{folder / "my" / "bad.yaml"}", line 1, column 1')
    assert refused("train", "-cp", "my", "-cn", "bytes").startswith(
        "a file of --config-path or --config-dir must be UTF-8, but is not: 'utf-8' codec can't decode byte 0xff"
    )


def test_a_mistake_of_the_program_keeps_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(config: Any) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(training, "train", fails)
    result = run("train", "experiment=mine", "-cd", "my")
    assert (result.exit_code, str(result.exception)) == (1, "a bug")


def test_too_little_memory_names_the_setting_of_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(config: Any) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(training, "train", fails)
    message = refused("train", "experiment=mine", "-cd", "my")
    assert message == "a batch does not fit into memory; lower train.batch_tokens"


# ---- names of files


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_a_comma_in_a_file_name_is_no_sweep(folder: Path, flags: list[str]) -> None:
    (folder / "corpus").mkdir()
    for name in ("a,b.src", "a,it's.tgt"):
        write(folder / "corpus" / name, TEXT)
    names = {"src": "a,b.src", "tgt": "a,it's.tgt"}
    settings = [f"data.{split}.{side}={name}" for split in ("train", "valid") for side, name in names.items()]
    result = run("train", *settings, "data.root=corpus", "name=q", *SMALL, *flags)
    assert result.exit_code == 0, result.output
    (config,) = (folder / "runs" / "q").rglob("config.yaml")
    saved = yaml.safe_load(config.read_text())["data"]["train"]
    assert (saved["src"], saved["tgt"]) == ("a,b.src", "a,it's.tgt")


def test_a_comma_without_such_a_file_names_the_two_ways(folder: Path) -> None:
    message = refused("train", "data.train.src=a,b.en", "data.train.tgt=text.tgt")
    assert message == (
        "data.train.src must name a file, but there is no file a,b.en; write several files as data.train.src=[a,b.en], or "
        "add --multirun to train once per value"
    )
    assert printed("data.train.src=[a,b.en]", "data.train.tgt=x")["data"]["train"]["src"] == ["a", "b.en"]


# ---- recipes of a user


def test_a_recipe_of_a_user_chooses_model_and_data(folder: Path) -> None:
    config = printed("experiment=mine", "-cd", "my")
    assert (config["name"], config["data"]["train"]["src"]) == ("mine", "text.src")
    assert (config["model"]["embedding_size"], config["model"]["hidden_size"]) == (8, 12)


def test_a_model_of_the_command_line_wins_over_a_recipe_of_a_user(folder: Path) -> None:
    config = printed("-cd", "my", "experiment=mine", "model=large")
    assert (config["model"]["hidden_size"], config["model"]["encoder_layers"]) == (512, 2)
    assert config["model"]["embedding_size"] == 256, "tiny is not chosen any more"


@pytest.mark.parametrize("setting", ["~data.test", "data.test=null"])
def test_no_test_files(setting: str) -> None:
    config = printed("experiment=bulletins", setting)
    assert set(config["data"]["test"].values()) == {None}
    assert config["data"]["valid"]["file"] == "bulletins/valid.jsonl"


def test_a_plus_chooses_from_a_group_too() -> None:
    assert printed("+experiment=bulletins", "+model=plain")["model"]["cell"] == "gru"


def test_a_configuration_of_a_user_replaces_the_bundled_one(folder: Path) -> None:
    write(folder / "my" / "other.yaml", "defaults: [schema, _self_]\nname: other\n")
    for flags in (["-cp", "my", "-cn", "other"], ["-cd", "my", "-cn", "other"]):
        assert printed(*flags)["name"] == "other"


# ---- sweeps


def test_every_job_of_a_sweep_has_its_own_run_directory(folder: Path) -> None:
    arguments = ["experiment=mine", "name=q", "-cd", "my", *SMALL, "-m", "train.seed=1,2", "model.cell=gru"]
    result = run("train", *arguments)
    assert result.exit_code == 0, result.output
    runs = sorted(path.parent.name for path in (folder / "runs" / "q").glob("*/config.yaml"))
    assert runs == ["train.seed=1", "train.seed=2"]
    assert yaml.safe_load((folder / "runs/q/train.seed=2/config.yaml").read_text())["train"]["seed"] == 2
    assert (folder / "runs" / "q" / "multirun.yaml").is_file(), "the sweep itself is recorded beside them"


def test_a_sweep_over_names_needs_no_further_folder(folder: Path) -> None:
    result = run("train", "experiment=mine", "-cd", "my", *SMALL, "-m", "name=a,b")
    assert result.exit_code == 0, result.output
    assert (folder / "runs" / "a" / "config.yaml").is_file()
    assert (folder / "runs" / "b" / "config.yaml").is_file()


def test_an_error_inside_a_sweep_is_one_line(folder: Path) -> None:
    message = refused("train", "experiment=mine", "-cd", "my", *SMALL, "train.seed=-1,1", "--multirun")
    assert message == "train.seed must be a whole number of at least 0 and below 9223372036854775808, but is -1"


def test_all_jobs_are_checked_before_the_first_one_starts(folder: Path) -> None:
    message = refused("train", "experiment=mine", "-cd", "my", *SMALL, "train.seed=1,-1", "--multirun")
    assert message == "train.seed must be a whole number of at least 0 and below 9223372036854775808, but is -1"
    arguments = ("train", "experiment=mine", "-cd", "my", *SMALL, "loss.coverage_warmup=0,5", "--multirun")
    assert refused(*arguments).startswith("loss.coverage_warmup=5 has no effect")
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (["run_dir=runs/fixed", "name=a,b"], ["fixed/name=a", "fixed/name=b"]),
        (["name=q", "train.seed=1,2", "train.threads=1"], ["q/train.seed=1", "q/train.seed=2"]),
        (["name=q", "+experiment=mine", "model.cell=gru,lstm"], ["q/model.cell=gru", "q/model.cell=lstm"]),
        (["train.seed=1,2"], ["mine/train.seed=1", "mine/train.seed=2"]),
        (["name=q", "train.seed=1", "train.seed=1,2"], ["q/train.seed=1", "q/train.seed=2"]),
    ],
)
def test_run_directories_of_sweeps(folder: Path, settings: list[str], names: list[str]) -> None:
    result = run("train", "experiment=mine", "-cd", "my", *SMALL, *settings, "-m")
    assert result.exit_code == 0, result.output
    found = sorted(str(path.parent.relative_to(folder / "runs")) for path in (folder / "runs").glob("**/config.yaml"))
    assert found == names


def test_two_jobs_with_one_run_directory_are_refused(folder: Path) -> None:
    message = refused("train", "experiment=mine", "name=q", "-cd", "my", *SMALL, "train.seed=1,1", "-m")
    assert message == "every job of a sweep must have its own run directory, but two have runs/q/train.seed=1"


def test_a_failing_job_does_not_end_the_others_and_a_table_ranks_them(folder: Path) -> None:
    swept = ["data.max_source_length=1,256,255", "train.metric=loss"]
    result = run("train", "experiment=mine", "name=q", "-cd", "my", *SMALL, "-m", *swept)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert any(line.startswith("error: no training pair remains of") for line in lines)
    table = [line.split() for line in lines[-4:]]
    assert table[0] == ["rank", "score", "run", "directory"]
    assert [row[0] for row in table[1:]] == ["1", "2", "-"]
    assert float(table[1][2]) <= float(table[2][2])
    assert table[3][1:] == ["failed", "runs/q/data.max_source_length=1"]
    assert {row[-1] for row in table[1:3]} == {f"runs/q/data.max_source_length={n}" for n in (255, 256)}


def test_the_best_score_is_first_in_the_ranking() -> None:
    results = [
        JobResult("a", "bleu", 3.0),
        JobResult("b", "bleu", None),
        JobResult("c", "bleu", 20.5),
        JobResult("d", "loss", 1.0),
        JobResult("e", "loss", 0.5),
    ]
    assert [line.split()[-1] for line in ranking(results)[1:]] == ["c", "a", "e", "d", "b"]
    assert ranking(results)[1].split() == ["1", "bleu", "20.500", "c"]
    assert ranking([]) == []


def test_a_job_returns_its_best_score_to_the_sweeper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    returned = []
    main = hydra.main

    def recording(**options: Any) -> Any:
        def decorate(job: Any) -> Any:
            def recorded(composed: Any) -> Any:
                returned.append(job(composed))
                return returned[-1]

            return main(**options)(recorded)

        return decorate

    monkeypatch.setattr(hydra, "main", recording)
    assert run("train", "experiment=mine", "name=q", "-cd", "my", *SMALL, "-m", "train.seed=1,2").exit_code == 0
    assert returned[:2] == [None, None], "of the check"
    scores = [
        json.loads(line)
        for seed in (1, 2)
        for line in (folder / f"runs/q/train.seed={seed}/metrics.jsonl").read_text().splitlines()
    ]
    assert returned[2:] == [record["valid_bleu"] for record in scores if "valid_bleu" in record]


# ---- shell completion


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m seq2seq"
    return subprocess.run(
        ["bash", "-c", command.replace("seq2seq", program)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        timeout=60,
    )


def test_hydra_prints_the_completion_script_of_train() -> None:
    done = shell("seq2seq train -sc install=bash")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("complete -o nospace -o default -F hydra_bash_completion seq2seq")


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("seq2seq train model.c", "model.cell= model.copy= model.copy_attention= model.coverage=\n"),
        (
            "seq2seq train train.seed=2 experiment=mu",
            "experiment=multi30k experiment=multi30k_small experiment=multi30k_transformer\n",
        ),
        ("seq2seq translate model.c", ""),
        ("seq2seq tra", ""),
    ],
)
def test_the_completion_script_completes_settings_of_train(line: str, completions: str) -> None:
    done = shell("seq2seq -sc query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", completions)


def test_typer_prints_the_completion_script_of_the_other_commands() -> None:
    done = shell("seq2seq --show-completion; exit $?")  # one more command, so that bash stays the parent
    assert (done.returncode, done.stderr) == (0, "")
    assert "_SEQ2SEQ_COMPLETE=complete_bash" in done.stdout


def test_typer_completes_the_commands() -> None:
    done = shell("seq2seq", _SEQ2SEQ_COMPLETE="complete_bash", COMP_WORDS="seq2seq tra", COMP_CWORD="1")
    assert done.stdout.split() == ["train", "translate"]
