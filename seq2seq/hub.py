"""Downloading a model from the Hugging Face Hub: only named files, as real files of one folder."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

HUB_PREFIX = "hf:"
_NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>\S+))?")


def fetch(name: str, files: Sequence[str]) -> Path:
    """Download files of a model, or find them if they were downloaded before, and return their folder.

    They are in the folder ``seq2seq`` of the hub's cache (environment variable ``HF_HOME``), a folder for each model and
    revision. ``local_dir`` makes them real files; in the usual layout of the cache they are links that lead out of it.
    Without a network (or with ``HF_HUB_OFFLINE=1``), files that were downloaded before are used.

    Args:
        name: ``hf:user/name``, or ``hf:user/name@revision`` with a branch, a tag or a commit.
        files: the names of the files to download, as far as the model has them; nothing else is downloaded.

    Raises:
        ValueError: the name is none of a model, or the model cannot be downloaded.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{HUB_PREFIX} must be followed by user/name or user/name@revision, but the model is {name}")
    repository, revision = found["repository"], found["revision"] or "main"
    place = f"{repository.replace('/', '--')}@{urllib.parse.quote(revision, safe='')}"
    folder = Path(constants.HF_HOME, "seq2seq", place)
    disable_progress_bars()
    try:
        snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=list(files))
    except Exception as error:  # of many kinds: no network, no such model or revision, no permission
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name} can't be downloaded: {reason}; it must be the name of a model of the hub, hf:user/name@revision"
        ) from error
    return folder
