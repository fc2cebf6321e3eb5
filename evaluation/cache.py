"""What was computed of a video, kept under a hash of all it depends on: the content, the network and the protocol."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.pairs import EvaluationError
from runtime.files import whole_file

VERSION = 1  # raised whenever the same key would give other numbers
Arrays = dict[str, np.ndarray]


def default_folder() -> Path:
    """Where features are kept unless the user says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emotivetalk" / "features"


class FeatureStore:
    """Named arrays by key, one file each.

    Args:
        folder: made if it does not exist; may be shared by several processes.

    Attributes:
        hits: how many were found.
        misses: how many had to be computed.

    Raises:
        EvaluationError: if the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hits = 0
        self.misses = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EvaluationError(f"{folder}: cannot be made ({error.strerror}); set cache=FOLDER") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise EvaluationError(f"{folder}: cannot be written; set cache=FOLDER")

    def fetch(self, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """The arrays of ``key``, made and kept first where they are not there; what ``make`` raises is not kept."""
        text = json.dumps({"version": VERSION, **key}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        path = self.folder / digest[:2] / f"{digest}.npz"
        if (found := _read(path)) is not None:
            self.hits += 1
            return found
        self.misses += 1
        arrays = make()
        path.parent.mkdir(exist_ok=True)
        try:
            with whole_file(path) as partial, partial.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
        except OSError as error:
            raise EvaluationError(f"{path}: cannot be written ({error.strerror}); set cache=FOLDER") from error
        return arrays


def _read(path: Path) -> Arrays | None:
    """The arrays of a file, or None where there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
