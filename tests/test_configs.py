"""Composed configurations: every recipe composes, named files choose their group, errors are one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from seq2seq.commands.compose import compose
from seq2seq.commands.overrides import GROUPS, for_hydra
from seq2seq.config import Config, from_container, keys

CONF = Path(__file__).parents[1] / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
ORDERS = ("experiment_last", "model_last")
DATA = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))


def config_of(*overrides: str) -> Config:
    return compose(overrides)


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def stated(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, by whole keys, without Hydra's part."""
    values = yaml.safe_load(path.read_text())
    inside = path.parent != CONF and "@package _global_" not in path.read_text()
    prefix = f"{path.parent.name}." if inside else ""
    for key in ("defaults", "hydra"):
        values.pop(key, None)
    return dict(leaves(values, prefix))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_and_all_it_states_arrives(name: str) -> None:
    config = config_of(f"experiment={name}")
    for key, value in stated(CONF / "experiment" / f"{name}.yaml").items():
        assert at(config, key) == value, key
    assert config.name == name
    assert config.run_dir == f"runs/{name}"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_command_line_wins_over_an_experiment(name: str) -> None:
    config = config_of(f"experiment={name}", "train.max_updates=7", "name=other", "data.root=/x")
    assert (config.train.max_updates, config.name, config.run_dir, config.data.root) == (7, "other", "runs/other", "/x")
    assert config.data.train.src or config.data.train.file, "the experiment's own files stay"


@pytest.mark.parametrize("name", DATA)
def test_a_data_group_composes_and_gives_the_run_its_name(name: str) -> None:
    config = config_of(f"data={name}")
    assert config.name == name
    for key, value in stated(CONF / "data" / f"{name}.yaml").items():
        if "${" not in str(value):
            assert at(config, key) == value, key


def test_the_bundled_task_is_the_default_and_its_files_are_there() -> None:
    config = config_of()
    assert config.name == "phrasebook"
    for split in (config.data.train, config.data.valid, config.data.test):
        assert (Path(config.data.root) / split.src).is_file()
        assert (Path(config.data.root) / split.tgt).is_file()


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.stem)
def test_yaml_states_only_keys_of_the_schema(path: Path) -> None:
    assert set(stated(path)) <= set(keys())


def test_groups_other_than_recipes_do_not_repeat_the_defaults() -> None:
    # an experiment is a record of a measured run and states all it depends on; the others state differences
    for path in (path for path in CONF.rglob("*.yaml") if path.parent.name != "experiment"):
        repeated = [key for key, value in stated(path).items() if at(Config(), key) == value]
        assert not repeated, f"{path} repeats seq2seq/config.py: {repeated}"


def test_named_files_choose_the_empty_data_group() -> None:
    config = config_of("name=mine", "data.train.src=a", "data.train.tgt=b", "data.valid.file=c.jsonl")
    assert (config.data.train.src, config.data.train.tgt, config.data.valid.file) == ("a", "b", "c.jsonl")
    assert (config.data.root, config.data.valid.src, config.data.test.src) == (".", None, None)
    assert config.name == "mine"


def test_a_list_of_files() -> None:
    assert config_of("data.train.src=[a,b]", "data.train.tgt=[c,d]").data.train.src == ["a", "b"]


@pytest.mark.parametrize("name", ["数据.en", "été.en", "my dir/t(1).en", "it's (one).en", "end(\\"])
def test_a_file_name_needs_no_quotes(name: str) -> None:
    assert config_of(f"data.train.src={name}", "data.train.tgt=b").data.train.src == name


def test_names_in_a_list_need_quotes() -> None:
    assert config_of("data.train.src=['été.en',b]", "data.train.tgt=[c,d]").data.train.src == ["été.en", "b"]
    with pytest.raises(ValueError, match=r"can't read data\.train\.src=\[été\.en,b\]; write a list as KEY=\['a','b'\]"):
        config_of("data.train.src=[été.en,b]", "data.train.tgt=[c,d]")


@pytest.mark.parametrize(
    ("overrides", "chosen"),
    [
        (["data.train.src=a"], True),
        (["data.valid.file=a"], True),
        (["data.test.src=a"], False),
        (["data.root=a"], False),
        (["+data.train.src=a"], True),
        (["data.train.src=a", "data=multi30k"], False),
        (["data.root=a", "experiment=multi30k"], False),
        (["data.root=a", "+experiment=multi30k"], False),
        (["data.src_field=a"], False),
        (["data.valid_lines=3"], False),
        (["train.seed=3"], False),
        ([], False),
    ],
)
def test_when_the_data_group_files_is_chosen(overrides: list[str], chosen: bool) -> None:
    assert ("data=files" in for_hydra(overrides)) == chosen


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        (["train.seed=3"], ["train.seed=3"]),
        (["+experiment=multi30k"], ["experiment=multi30k"]),
        (["experiment=django", "model=large"], ["order=model_last", "experiment=django", "model=large"]),
        (["experiment=null", "model=large"], ["experiment=null", "model=large"]),
        (["experiment=a,b", "model=plain,large"], ["order=model_last", "experiment=a,b", "model=plain,large"]),
        (["~data.test"], ["data.test.src=null", "data.test.tgt=null", "data.test.file=null"]),
        (["data.test=null"], ["data.test.src=null", "data.test.tgt=null", "data.test.file=null"]),
        (["~experiment"], ["~experiment"]),
        (["hydra/launcher=basic", "hydra.job.name=x"], ["hydra/launcher=basic", "hydra.job.name=x"]),
    ],
)
def test_settings_as_hydra_reads_them(settings: list[str], written: list[str]) -> None:
    assert for_hydra(settings) == written


def test_another_primary_configuration_has_its_own_order() -> None:
    settings = ["experiment=django", "model=large"]
    assert for_hydra(settings, own_config=True) == settings


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("name=2026_11_21", "2026_11_21"),
        ("name=1e5", "1e5"),
        ("name=true", "true"),
        ("name=007", "007"),
        ("name=runs_2", "runs_2"),
        ("data.root=2024_01_05", "2024_01_05"),
        ("++data.root=1_0", "1_0"),
        ("data.src_field=1_0", "1_0"),
        ("data.train.src=1_0", "1_0"),
        ("data.train.src=[1_0]", [10]),  # a list is Hydra's own
        ("train.init_from=1e2", "1e2"),
        ("train.max_updates=1_000", 1000),
        ("train.learning_rate=1e-2", 0.01),
        ("train.init_from=null", None),
    ],
)
def test_a_text_is_not_a_number(override: str, value: Any) -> None:
    place: Any = config_of("data=files", override)
    for name in override.lstrip("+").split("=")[0].split("."):
        place = getattr(place, name)
    assert place == value


def test_a_model_of_the_command_line_wins_over_a_recipe() -> None:
    recipe, large, plain = (
        config_of("experiment=multi30k", *model) for model in ([], ["model=large"], ["model=plain"])
    )
    assert (recipe.model.hidden_size, recipe.model.encoder_layers) == (256, 1)
    assert (large.model.hidden_size, large.model.encoder_layers, large.model.residual) == (512, 2, True)
    assert (plain.model.cell, plain.model.attention) == ("gru", "none")
    assert large.model.dropout == plain.model.dropout == recipe.model.dropout, (
        "what the model does not state is the recipe's"
    )
    assert config_of("experiment=multi30k", "model=large", "model.hidden_size=64").model.hidden_size == 64


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.optimzer=sgd", r"there is no setting train\.optimzer; the nearest is train\.optimizer"),
        ("+train.sed=1", r"there is no setting train\.sed; the nearest is train\.seed"),
        ("modell=default", r"there is no setting modell; the nearest is model"),
        ("beam_sise=3", r"there is no setting beam_sise; the nearest is search\.beam_size"),
        ("train.seed", r"an argument of train is KEY=VALUE, but train\.seed has no ="),
        ("data=phrasebok", r"Could not find 'data/phrasebok'.* files multi30k phrasebook"),
        ("experiment=multi", r"Could not find 'experiment/multi'.* multi30k multi30k_small multi30k_transformer"),
        ("train.max_updates=abc", r"train\.max_updates=abc .*'abc'.* could not be converted to Integer"),
        ("train.learning_rate=", r"train\.learning_rate= .*could not be converted to Float"),
        ("model.bidirectional=perhaps", r"model\.bidirectional=perhaps .*perhaps.* bool"),
        ("train.seed=1,2", r"Ambiguous value for argument 'train\.seed=1,2'"),
        ("train.seed=[1", r"\[1"),
        (
            "~train.seed",
            r"^train\.seed can't be removed, because every setting has a value; set train\.seed to another",
        ),
        ("train=3", r"train=3 "),
        ("model=[1]", r"^Hydra can't read model=\[1\]$"),
        ("train.optimizer=adm", r"train\.optimizer must be one of adam, adamw, sgd, but is adm"),
        ("model.cell=gruu", r"model\.cell must be one of .*, but is gruu"),
        ("model.dropout=1", r"model\.dropout must be a number of at least 0 and below 1, but is 1"),
        ("train.patience=-1", r"train\.patience must be a whole number of at least 0, but is -1"),
        ("name=${nosuch}", r"nosuch"),
        ("run_dir=???", r"run_dir"),
    ],
)
def test_an_error_is_one_sentence(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        config_of(override)
    assert len(" ".join(str(caught.value).split())) < 300
    assert "full_key" not in str(caught.value)


def test_composing_twice_gives_each_its_own_name() -> None:
    assert config_of("data=files").name == "files"
    assert config_of("data=multi30k").name == "multi30k"


def test_a_composed_configuration_is_plain_and_complete() -> None:
    config = config_of("model.encoder_hidden_size=null", "model.attention_size=12", "train.weight_decay=0.5")
    assert (config.model.encoder_hidden_size, config.model.attention_size) == (None, 12)
    assert config.train.weight_decay == 0.5
    assert from_container(Config, {}) == Config(), "composing changes no default"


def test_the_orders_hold_the_same_files_and_the_groups_of_the_command_line_exist() -> None:
    first, second = (yaml.safe_load((CONF / "order" / f"{name}.yaml").read_text())["defaults"] for name in ORDERS)
    assert first == second[::-1]
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {*GROUPS, "order"}
