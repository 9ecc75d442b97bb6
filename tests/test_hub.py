"""Models of the hub, with a fake of its download: what is fetched, where it lies, and what a stranger's model can do."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
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


def written(name: str, content: bytes) -> Callable[[Path, Path], None]:
    return lambda folder, outside: (folder / name).write_bytes(content) and None


def with_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Path], None]:
    """Change the header of the weights: the JSON of names, types, shapes and places."""

    def apply(folder: Path, outside: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        size = 8 + int.from_bytes(content[:8], "little")
        header = json.dumps(change(json.loads(content[8:size]))).encode()
        (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + content[size:])

    return apply


def first_tensor(**values: Any) -> Callable[[Path, Path], None]:
    def change(header: dict[str, Any]) -> dict[str, Any]:
        header.pop("__metadata__")  # without a checksum
        return {name: tensor | (values if number == 0 else {}) for number, (name, tensor) in enumerate(header.items())}

    return with_header(change)


def torch_file(folder: Path, outside: Path) -> None:
    torch.save({"weights": Bomb(outside / "executed")}, folder / WEIGHTS)


def other_tokenizer(folder: Path, outside: Path) -> None:
    """Name another vocabulary, with its checksum."""
    content = (folder / "tokenizer.json").read_bytes().replace(b"man", b"woman")
    (folder / "tokenizer.json").write_bytes(content)
    configured("", "sha256", {"tokenizer.json": hashlib.sha256(b"").hexdigest()})(folder, outside)


def special(name: str, make: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    def change(folder: Path, outside: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


FILES = (CONFIG, WEIGHTS, "tokenizer.json")
DEEP = b"[" * 100_000 + b"]" * 100_000
TAMPERED: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    **{f"a link for {name}": (linked(name), "a link that leads out") for name in FILES},
    **{f"a climbing {name}": (climbing(name), "a link that leads out") for name in FILES},
    **{f"a pickle for {name}": (pickled(name), "is damaged") for name in FILES},
    **{f"a deep {name}": (written(name, DEEP), "damaged") for name in FILES},
    **{f"a pipe for {name}": (special(name, os.mkfifo), "must be a regular file") for name in FILES},
    **{f"a device for {name}": (special(name, lambda p: p.symlink_to("/dev/zero")), "regular file") for name in FILES},
    "weights in the format of torch.save": (torch_file, "is damaged"),
    "weights with an endless header": (written(WEIGHTS, b"\xff" * 16), "is damaged"),
    "weights whose header is a list": (with_header(list), "is damaged"),
    "weights outside of the file": (first_tensor(data_offsets=[0, 2**62]), "is damaged"),
    "weights at negative places": (first_tensor(data_offsets=[-8, 0]), "is damaged"),
    "weights of an unknown type": (first_tensor(dtype="object"), "is damaged"),
    "weights of an absurd shape": (first_tensor(shape=[2**40, 2**40]), "is damaged"),
    "weights with a path for a name": (with_header(lambda h: h | {"../../x": h.popitem()[1]}), "SHA-256|damaged"),
    "a class to make": (configured("model", "_target_", "os.system"), "there is no setting model._target_"),
    "an unknown cell": (configured("model", "cell", "__import__('os')"), "model.cell must be one of"),
    "an unknown encoder": (configured("model", "encoder", "os.system"), "model.encoder must be one of"),
    "an interpolation": (configured("model", "cell", "${oc.env:HOME}"), "model.cell must be one of"),
    "an expression for a number": (configured("model", "hidden_size", "2**3"), "model.hidden_size"),
    "a number below 0": (configured("model", "hidden_size", -8), "model.hidden_size"),
    "no number": (configured("model", "dropout", float("nan")), "model.dropout"),
    "a truth value for a number": (configured("model", "hidden_size", True), "model.hidden_size"),
    "a huge model": (configured("model", "hidden_size", 2**40), "model.hidden_size"),
    "a huge source": (configured("data", "max_source_length", 10**30), "data.max_source_length"),
    "an endless search": (configured("search", "beam_size", 10**9), "search.beam_size"),
    "a length limit without end": (configured("", "length_limit", {"ratio": 1e308, "extra": 1}), "length_limit"),
    "a tokenizer elsewhere": (configured("tokenizer", "type", "../outside"), "tokenizer.type must be one of"),
    "a tokenizer of another model": (other_tokenizer, "is damaged or of another model"),
    "checksums that are a list": (configured("", "sha256", ["x"]), "must hold the checksums"),
    "another format": (configured("", "format", 10**6), "newer than"),
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
    assert re.search(message, refused("translate", folder, text=b"a man\n"))
    assert re.search(message, refused("serve", folder, "--port", "0"))
    if "a pipe" not in kind and "a device" not in kind:  # a hub has files and links only
        hub.repositories["user/name"] = folder
        of_hub = refused("translate", "hf:user/name", text=b"a man\n")
        assert re.search(message, of_hub) or "climbing" in kind  # such a link leads nowhere in the folder of the hub
    assert not (outside / "executed").exists()


def test_enough_kinds_of_tampering_are_tried() -> None:
    assert len(TAMPERED) >= 40


def test_a_model_reads_no_file_that_its_settings_or_its_directory_name(original: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "model", tmp_path / "outside"
    outside.mkdir()
    shutil.copytree(original, folder)
    (outside / "secret").write_text("secret")
    for name in ("config.py", "sitecustomize.py", "tokenizer.py", "__init__.py", "pytorch_model.bin"):
        (folder / name).write_bytes(pickle.dumps(Bomb(outside / "executed")))
    configured("tokenizer", "model", str(outside / "secret"))(folder, outside)
    opened: list[str] = []
    watching = True
    sys.addaudithook(lambda event, values: opened.append(str(values[0])) if watching and event == "open" else None)
    translator = Translator.load(folder, device="cpu")
    watching = False
    mine = [path for path in opened if path.startswith(str(tmp_path))]
    assert {Path(path).name for path in mine} <= {CONFIG, WEIGHTS, "tokenizer.json"}
    assert translator.translate(LINES) == Translator.load(original, device="cpu").translate(LINES)
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
