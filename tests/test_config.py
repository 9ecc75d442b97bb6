"""from_container and checked: values become checked dataclasses, and every error names its key."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
from small_runs import config_of, write_corpus

from seq2seq.config import (
    CELL_NAMES,
    Config,
    DataConfig,
    FilesConfig,
    ModelConfig,
    SearchConfig,
    TokenizerConfig,
    TrainConfig,
    checked,
    from_container,
    keys,
)
from seq2seq.config_checks import check_model, check_search, check_tokenizer
from seq2seq.config_keys import OTHER_NAMES, unknown_key
from seq2seq.training.train import train

SECTIONS = {"train": TrainConfig, "model": ModelConfig, "search": SearchConfig, "tokenizer": TokenizerConfig}


def limited(name: str) -> list[tuple[str, Any]]:
    """Every key whose metadata set the limit ``name``, with that limit."""
    return [
        (f"{section}.{item.name}", item.metadata[name])
        for section, kind in SECTIONS.items()
        for item in dataclasses.fields(kind)
        if item.metadata and item.metadata[name] not in (None, ())
    ]


def put(key: str, value: Any) -> Config:
    section, _, name = key.partition(".")
    config: Config = from_container(Config, {section: {name: value}})
    return config


def test_nothing_given_is_the_schema_and_its_defaults_are_possible() -> None:
    assert from_container(Config, {}) == Config()
    assert from_container(Config, dataclasses.asdict(Config())) == Config()


def test_values_arrive_and_the_rest_keeps_its_default() -> None:
    config = from_container(Config, {"name": "x", "model": {"cell": "gru"}, "data": {"train": {"src": ["a", "b"]}}})
    assert (config.name, config.model.cell, config.data.train.src) == ("x", "gru", ["a", "b"])
    assert config.model == ModelConfig(cell="gru")
    assert config.train == TrainConfig()


def test_a_section_of_none_is_its_defaults() -> None:
    assert from_container(Config, {"model": None}) == Config()


def test_none_only_where_the_schema_allows_it() -> None:
    assert put("model.attention_size", None).model.attention_size is None
    assert put("train.weight_decay", None).train.weight_decay is None
    with pytest.raises(ValueError, match=r"model\.hidden_size must be a whole number of at least 1, but is None"):
        put("model.hidden_size", None)
    with pytest.raises(ValueError, match=r"model\.cell must be one of .*, but is None"):
        put("model.cell", None)
    with pytest.raises(ValueError, match=r"^name must be text, but is None"):
        from_container(Config, {"name": None})


@pytest.mark.parametrize(
    ("values", "wrong", "nearest"),
    [
        ({"modle": {}}, "modle", "model"),
        ({"model": {"hiden_size": 1}}, "model.hiden_size", "model.hidden_size"),
        ({"data": {"train": {"scr": "a"}}}, "data.train.scr", "data.train.src"),
        ({"train": {"max_update": 1}}, "train.max_update", "train.max_updates"),
    ],
)
def test_an_unknown_key_names_the_nearest(values: dict[str, Any], wrong: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"^there is no setting {re.escape(wrong)}; the nearest is {nearest}$"):
        from_container(Config, values)


def test_a_key_without_its_section_finds_the_whole_key() -> None:
    assert unknown_key("beam_sise", keys()) == "there is no setting beam_sise; the nearest is search.beam_size"
    assert unknown_key("x", []) == "there is no setting x"


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.lr", "train.learning_rate"),
        ("lr", "train.learning_rate"),
        ("model.layers", "model.encoder_layers and model.decoder_layers"),
        ("train.batch_size", "train.batch_tokens"),
        ("train.epochs", "train.max_epochs"),
        ("seed", "train.seed and search.seed"),
        ("train.beam", "search.beam_size"),
        ("train.dropout", "tokenizer.dropout and model.dropout"),
        ("data.src", "data.train.src, data.valid.src and data.test.src"),
        ("tokenizer.dropuot", "tokenizer.dropout"),
        ("search.batch_token", "search.batch_tokens"),
        ("modle.dropout", "model.dropout"),
        ("train.hidden_size", "model.hidden_size"),
        ("label_smoothing", "loss.label_smoothing"),
    ],
)
def test_the_setting_that_was_probably_meant(key: str, nearest: str) -> None:
    verb = "are" if " and " in nearest else "is"
    assert unknown_key(key, keys()) == f"there is no setting {key}; the nearest {verb} {nearest}"


def test_names_of_other_toolkits_mean_settings_that_exist() -> None:
    assert {key for meant in OTHER_NAMES.values() for key in meant} <= set(keys())
    assert not {key.rpartition(".")[2] for key in keys()} & set(OTHER_NAMES), "a setting needs no other name"


def test_keys_are_the_leaves_and_the_sections() -> None:
    found = keys()
    assert {"name", "data", "data.train", "data.train.src", "model.cell", "train.resume"} <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(("key", "choices"), limited("choices"))
def test_closed_sets_take_each_name_and_fail_with_the_list(key: str, choices: tuple[str, ...]) -> None:
    section, _, name = key.partition(".")
    for choice in choices:
        assert getattr(getattr(put(key, choice), section), name) == choice
    with pytest.raises(
        ValueError, match=rf"^{re.escape(key)} must be one of {re.escape(', '.join(choices))}, but is nothing$"
    ):
        put(key, "nothing")


@pytest.mark.parametrize(("key", "least"), limited("least"))
def test_lower_bounds(key: str, least: float) -> None:
    section, _, name = key.partition(".")
    assert getattr(getattr(put(key, least), section), name) == least
    with pytest.raises(
        ValueError, match=rf"^{re.escape(key)} must be a .*number of at least {least}.*, but is {least - 1}$"
    ):
        put(key, least - 1)


@pytest.mark.parametrize(("key", "below"), limited("below"))
def test_upper_bounds_are_open(key: str, below: float) -> None:
    put(key, below - 1 if isinstance(below, int) else math.nextafter(below, 0))
    with pytest.raises(
        ValueError, match=rf"^{re.escape(key)} must be a (whole )?number .* and below {below}, but is {below}$"
    ):
        put(key, below)


@pytest.mark.parametrize(("key", "most"), limited("most"))
def test_the_largest_number_has_a_reason(key: str, most: tuple[int, str]) -> None:
    largest, reason = most
    section, _, name = key.partition(".")
    assert getattr(getattr(put(key, largest), section), name) == largest
    for value in (largest + 1, 10**9):
        with pytest.raises(
            ValueError, match=f"^{re.escape(f'{key} must be at most {largest}, because {reason}, but is {value}')}$"
        ):
            put(key, value)


@pytest.mark.parametrize(
    "key", ["train.max_updates", "train.batch_tokens", "train.learning_rate", "search.coverage_penalty"]
)
def test_a_whole_number_fits_into_64_bits(key: str) -> None:
    put(key, 2**63 - 1)
    for value in (2**63, 10**30):
        with pytest.raises(
            ValueError,
            match=rf"^{re.escape(key)} must be below {2**63}, because it is stored in 64 bits, but is {value}$",
        ):
            put(key, value)


def test_sizes_have_a_largest_number() -> None:
    sizes = (
        "hidden_size",
        "embedding_size",
        "encoder_hidden_size",
        "attention_size",
        "encoder_layers",
        "decoder_layers",
    )
    assert {f"model.{name}" for name in sizes} | {"search.beam_size", "tokenizer.vocab_size"} <= dict(
        limited("most")
    ).keys()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.max_updates", "5", "a whole number of at least 1, but is 5"),
        ("train.max_updates", 5.0, "a whole number of at least 1, but is 5.0"),
        ("train.max_updates", True, "a whole number of at least 1, but is True"),
        ("train.learning_rate", "fast", "a number of at least 0, but is fast"),
        ("train.learning_rate", math.nan, "a number of at least 0, but is nan"),
        ("train.learning_rate", math.inf, "a number of at least 0, but is inf"),
        ("model.hidden_size", [1], r"a whole number of at least 1, but is \[1\]"),
        ("model.bidirectional", "false", "true or false, but is false"),
        ("tokenizer.shared", 1, "true or false, but is 1"),
        ("data.root", 3, "text, but is 3"),
    ],
)
def test_a_value_of_another_type(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(key)} must be {message}$"):
        put(key, value)


def test_whole_numbers_do_where_numbers_are_asked() -> None:
    assert put("train.learning_rate", 1).train.learning_rate == 1


@pytest.mark.parametrize("value", [3, "gru", [1], False])
def test_a_section_must_hold_settings(value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^model must hold settings, but is {re.escape(str(value))}$"):
        from_container(Config, {"model": value})
    with pytest.raises(ValueError, match=r"^a configuration must hold settings"):
        from_container(Config, value)


def test_the_prefix_stands_before_the_keys_of_a_part() -> None:
    with pytest.raises(ValueError, match=rf"^model\.cell must be one of {', '.join(CELL_NAMES)}, but is none$"):
        from_container(ModelConfig, {"cell": "none"}, "model.")


# ---- configurations built in Python


def test_checked_puts_the_name_into_the_run_directory_and_changes_nothing_else() -> None:
    config = Config(name="x")
    assert checked(config) == dataclasses.replace(config, run_dir="runs/x")
    assert config.run_dir == "runs/${name}", "the argument is unchanged"
    assert checked(Config(name="x", run_dir="/a/${name}/b")).run_dir == "/a/x/b"
    assert checked(checked(config)) == checked(config)


def test_checked_takes_paths_and_sections_of_none() -> None:
    config = Config(run_dir=Path("a"), data=DataConfig(train=FilesConfig(src=Path("b")), test=None))  # type: ignore[arg-type]
    result = checked(config)
    assert (result.run_dir, result.data.train.src, result.data.test) == ("a", "b", FilesConfig())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(model=ModelConfig(dropout=1.5)), "model.dropout must be a number of at least 0 and below 1, but is 1.5"),
        (Config(train=TrainConfig(seed=-1)), f"train.seed must be a whole number of at least 0 and below {2**63}, but is -1"),
        (Config(search=SearchConfig(beam_size=0)), "search.beam_size must be a whole number of at least 1, but is 0"),
        (Config(name=3), "name must be text, but is 3"),  # type: ignore[arg-type]
        (Config(model="large"), "model must hold settings, but is large"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_dataclasses_are_checked_like_hydras_values(config: Config, message: str) -> None:
    for check in (checked, train):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            check(config)


def test_parts_of_a_configuration_are_checked_where_they_are_used() -> None:
    with pytest.raises(ValueError, match=r"^model\.dropout must be a number of at least 0 and below 1, but is 1\.5$"):
        check_model(ModelConfig(dropout=1.5), shared=True)
    with pytest.raises(ValueError, match=r"^search\.beam_size must be a whole number of at least 1, but is 0$"):
        check_search(SearchConfig(beam_size=0), has_attention=True)
    with pytest.raises(ValueError, match=r"^tokenizer\.vocab_size must be a whole number of at least 5, but is 1$"):
        check_tokenizer(TokenizerConfig(vocab_size=1))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"samples": 3, "beam_size": 4}, "search.beam_size=4 has no effect with search.samples=3, which draws translations "
         "at random; remove one of them"),
        ({"temperature": 0.5}, "search.temperature=0.5 has no effect with search.samples=0, the beam search; remove it, or "
         "set search.samples to the number of translations to draw"),
        ({"top_k": 5}, "search.top_k=5 has no effect with search.samples=0, the beam search; remove it, or set "
         "search.samples to the number of translations to draw"),
        ({"top_p": 0.5}, "search.top_p=0.5 has no effect with search.samples=0, the beam search; remove it, or set "
         "search.samples to the number of translations to draw"),
        ({"seed": 2}, "search.seed=2 has no effect with search.samples=0, the beam search; remove it, or set "
         "search.samples to the number of translations to draw"),
        ({"may_repeat": "a b"}, "search.may_repeat=a b has no effect without search.no_repeat_ngram and "
         "search.repetition_penalty; remove it, or set one of them"),
        ({"mbr": "chrf", "beam_size": 1}, "search.mbr=chrf compares hypotheses and requires more than one, but "
         "search.beam_size is 1; set it to 2 or more"),
        ({"mbr": "bleu", "samples": 1}, "search.mbr=bleu compares hypotheses and requires more than one, but "
         "search.samples is 1; set it to 2 or more"),
        ({"samples": 1, "top_p": 1.5}, "search.top_p must be at most 1, because it is a probability, but is 1.5"),
        ({"samples": 1, "temperature": 0}, "search.temperature must be a number of at least 0.01, but is 0"),
        ({"repetition_penalty": 0.9}, "search.repetition_penalty must be a number of at least 1, but is 0.9"),
        ({"mbr": "ter"}, "search.mbr must be one of none, chrf, bleu, but is ter"),
    ],
)  # fmt: skip
def test_search_settings_that_contradict_each_other(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_search(SearchConfig(**search), has_attention=True)


def test_a_run_is_trained_into_the_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path, pairs=20)
    config = config_of(tmp_path, train__max_updates=1)
    config.name, config.run_dir = "x", Config().run_dir
    train(config)
    assert (tmp_path / "runs" / "x" / "model" / "config.json").is_file()
    assert not (tmp_path / "runs" / "${name}").exists()
