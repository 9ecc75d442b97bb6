"""Models of the hub, with a fake of its download: what is fetched, where it lies, and what a stranger's model can do."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from command_line import refused, run
from served import save_model

from seq2seq.model_dir import CONFIG, WEIGHTS
from seq2seq.translator import Translator

LINES = ["a man sees Xanthippe , too .", "two men sleep"]


class FakeHub:
    """A hub of local folders: repository -> folder; records its calls."""

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}
        self.calls: list[tuple[str, str]] = []

    def download(self, repo_id: str, *, revision: str, local_dir: Path, allow_patterns: list[str]) -> str:
        self.calls.append((repo_id, revision))
        if repo_id not in self.repositories:
            raise OSError(f"404:\n{repo_id} is not there")
        source = self.repositories[repo_id]
        for path in source.rglob("*"):
            name = str(path.relative_to(source))
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, local_dir / name, follow_symlinks=False)
        return str(local_dir)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "home"))
    return fake


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("hub") / "original", copy="pointer")


def test_a_model_of_the_hub_translates_like_its_directory(hub: FakeHub, original: Path, tmp_path: Path) -> None:
    published = tmp_path / "published"
    shutil.copytree(original, published)
    for name in ("README.md", "run.py", "pytorch_model.bin", "sub/config.json"):
        (published / name).parent.mkdir(exist_ok=True)
        (published / name).write_text("not fetched")
    hub.repositories["user/name"] = published
    expected = Translator.load(original, device="cpu").translate(LINES)
    assert Translator.load("hf:user/name@v1/a", device="cpu").translate(LINES) == expected
    assert Translator.load("hf:user/name", device="cpu").translate(LINES) == expected
    assert hub.calls == [("user/name", "v1/a"), ("user/name", "main")]
    home = tmp_path / "home" / "seq2seq"
    assert sorted(path.name for path in home.iterdir()) == ["user--name@main", "user--name@v1%2Fa"]
    fetched = [path for path in (home / "user--name@main").rglob("*") if path.is_file()]
    assert sorted(path.name for path in fetched) == sorted(path.name for path in original.iterdir())
    assert not any(path.is_symlink() for path in fetched)


def test_commands_take_a_model_of_the_hub(hub: FakeHub, original: Path) -> None:
    hub.repositories["user/name"] = original
    done = run("translate", "hf:user/name", text="two men sleep\n")
    assert done.stdout == Translator.load(original, device="cpu").translate(["two men sleep"])[0] + "\n"


def test_a_model_that_cannot_be_fetched_is_one_line(hub: FakeHub) -> None:
    assert refused("translate", "hf:user/gone@v2") == (
        "hf:user/gone@v2 can't be downloaded: 404: user/gone is not there; it must be the name of a model of the hub, "
        "hf:user/name@revision"
    )
    for name in ("hf:", "hf:name", "hf:a/b/c", "hf:user/name@", "hf:../../etc", "hf:user/na me"):
        assert refused("translate", name) == (
            f"hf: must be followed by user/name or user/name@revision, but the model is {name}"
        )
    assert hub.calls == [("user/gone", "v2")]


def test_a_fetched_folder_without_a_model_is_one_line(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    hub.repositories["user/name"] = tmp_path / "empty"
    folder = tmp_path / "home" / "seq2seq" / "user--name@main"
    assert refused("translate", "hf:user/name") == f"there is no model directory {folder}"


# ---- a stranger's model


class Bomb:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def linked(name: str) -> Callable[[Path, Path], None]:
    """Replace a file by a link to a good one outside of the directory."""

    def change(folder: Path, outside: Path) -> None:
        shutil.copy(folder / name, outside / name)
        (folder / name).unlink()
        (folder / name).symlink_to(outside / name)

    return change


def climbing(name: str) -> Callable[[Path, Path], None]:
    """Replace a file by a relative link that climbs out of the directory."""

    def change(folder: Path, outside: Path) -> None:
        shutil.copy(folder / name, folder.parent / name)
        (folder / name).unlink()
        (folder / name).symlink_to(f"../{name}")

    return change


def pickled(name: str) -> Callable[[Path, Path], None]:
    def change(folder: Path, outside: Path) -> None:
        (folder / name).write_bytes(pickle.dumps(Bomb(outside / "executed")))

    return change


def configured(section: str, key: str, value: Any) -> Callable[[Path, Path], None]:
    def change(folder: Path, outside: Path) -> None:
        content = json.loads((folder / CONFIG).read_text())
        (content[section] if section else content)[key] = value
        (folder / CONFIG).write_text(json.dumps(content))

    return change


TAMPERED: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    **{f"a link for {name}": (linked(name), "a link that leads out") for name in (CONFIG, WEIGHTS, "tokenizer.json")},
    **{f"a climbing {name}": (climbing(name), "a link that leads out") for name in (CONFIG, WEIGHTS, "tokenizer.json")},
    "a pickle for the weights": (pickled(WEIGHTS), "is damaged"),
    "a pickle for the settings": (pickled(CONFIG), "is damaged"),
    "a pickle for the tokenizer": (pickled("tokenizer.json"), "is damaged"),
    "a class to make": (configured("model", "_target_", "os.system"), "there is no setting model._target_"),
    "an unknown cell": (configured("model", "cell", "__import__('os')"), "model.cell must be one of"),
    "a tokenizer elsewhere": (configured("tokenizer", "type", "../outside"), "tokenizer.type must be one of"),
    "checksums that are a list": (configured("", "sha256", ["x"]), "must hold the checksums"),
    "another format": (configured("", "format", 10**6), "newer than"),
    "a huge model": (configured("model", "hidden_size", 2**40), "model.hidden_size"),
    "tags that are no texts": (configured("", "tags", [{"a": 1}]), "tags must be a list of texts"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_tampered_model_executes_nothing_and_is_one_line(
    kind: str, hub: FakeHub, original: Path, tmp_path: Path
) -> None:
    change, message = TAMPERED[kind]
    folder, outside = tmp_path / "stranger" / "model", tmp_path / "outside"
    outside.mkdir()
    shutil.copytree(original, folder)
    change(folder, outside)
    hub.repositories["user/name"] = folder
    assert message in refused("translate", folder, text=b"a man\n")
    of_hub = refused("translate", "hf:user/name", text=b"a man\n")
    assert message in of_hub or "climbing" in kind  # such a link leads nowhere in the folder of the hub
    assert not (outside / "executed").exists()


def test_the_message_about_a_link_is_complete(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "model")
    linked(WEIGHTS)(tmp_path / "model", tmp_path)
    with pytest.raises(
        ValueError, match=r"must be a file of the model directory, but is a link that leads out of it; copy"
    ):
        Translator.load(tmp_path / "model", device="cpu")


def test_links_to_the_directory_and_inside_it_are_followed(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "model")
    (tmp_path / "model" / WEIGHTS).rename(tmp_path / "model" / "weights")
    (tmp_path / "model" / WEIGHTS).symlink_to("weights")
    (tmp_path / "named").symlink_to(tmp_path / "model")
    expected = Translator.load(original, device="cpu").translate(LINES)
    assert Translator.load(tmp_path / "named", device="cpu").translate(LINES) == expected


# ---- Translator.save


def test_a_saved_translator_is_the_same_with_its_search_settings(original: Path, tmp_path: Path) -> None:
    translator = Translator.load(original, device="cpu").with_search(beam_size=1, length_penalty=0.25)
    translator.save(tmp_path / "new" / "model")
    again = Translator.load(tmp_path / "new" / "model", device="cpu")
    assert again.search_config == translator.search_config
    assert again.search_config != Translator.load(original, device="cpu").search_config
    assert again.search(LINES) == translator.search(LINES)
    Translator.load(original, device="cpu").save(tmp_path / "same")
    for path in original.iterdir():
        assert (tmp_path / "same" / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_cannot_be_saved_is_refused(original: Path, tmp_path: Path) -> None:
    loaded = Translator.load(original, device="cpu")
    made = Translator(loaded.model, loaded.tokenizers, loaded.search_config)
    with pytest.raises(
        ValueError,
        match=r"^save requires a translator that Translator\.load made from one model, because it saves the settings of its "
        "model$",
    ):
        made.save(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file can't be written: .*; save to another folder$"):
        loaded.save(tmp_path / "file")
