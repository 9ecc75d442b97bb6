"""Uploading the model of a run to the Hugging Face Hub, with its card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, HfApi

from seq2seq import model_dir
from seq2seq.files import read_file, write_atomically
from seq2seq.sharing.model_card import CARD, PLACEHOLDER, check_card, write_card
from seq2seq.sharing.run_record import read_run
from seq2seq.translator import Translator

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Pushed(NamedTuple):
    """A finished upload."""

    files: list[str]
    commit: str


def push_run(path: str | Path, name: str, *, private: bool = False) -> Pushed:
    """Upload the model files of a run and its card, and nothing else.

    The first call writes the card into the run and refuses to upload: a person must fill it in. The next one uploads.

    Args:
        name: of the model on the hub, user/name.
        private: whether a model that is new on the hub is private.

    Raises:
        ValueError: the name is none, the run has no complete model, the card is not filled in, or the hub refuses.
    """
    if not _HUB_NAME.fullmatch(name):
        raise ValueError(f"a model of the hub must be named user/name, but is {name}")
    run = read_run(path)
    translator = Translator.load(run.path, device="cpu")  # refuses a damaged model
    folder = model_dir.find(run.path)
    card = run.path / CARD
    if not card.exists():
        write_atomically(card, write_card(name, run, translator).encode())
        raise ValueError(
            f"{card} is written now: replace every {PLACEHOLDER} in it, among them the licence, then push again"
        )
    contents = {CARD: check_card(card, folder)}
    settings, _ = model_dir.load_settings(folder)
    files = [model_dir.CONFIG, model_dir.WEIGHTS, *model_dir.tokenizer_names(settings.tokenizer)]
    if (folder / model_dir.SHORTLIST).exists():
        files.append(model_dir.SHORTLIST)
    for file in files:
        contents[file] = read_file(folder / file)
    try:
        hub = HfApi(library_name="seq2seq")
        hub.create_repo(name, private=private, exist_ok=True)
        operations = [CommitOperationAdd(file, content) for file, content in contents.items()]
        commit = hub.create_commit(name, operations, commit_message=f"Upload {name} with seq2seq")
    except Exception as error:  # of many kinds: no network, no login, no permission
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} can't be pushed: {reason}; log in with hf auth login, and check the name") from error
    return Pushed(list(contents), commit.oid)
