"""Cache of features on disk; the key is a hash of video content, network and protocol."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.pairs import EvaluationError
from runtime.files import whole_file
from runtime.folders import cache_folder

DIGEST = re.compile("[0-9a-f]{64}")
VERSION = 2  # increased whenever the values of a key change
Arrays = dict[str, np.ndarray]


def default_folder() -> Path:
    """Returns the default folder of the cache."""
    return cache_folder("features")


class FeatureStore:
    """Stores dictionaries of arrays by key, one file per key.

    Args:
        folder: Folder of the cache; created if missing. Several processes may share it.

    Attributes:
        hits: Number of keys that were found.
        misses: Number of keys that had to be computed.

    Raises:
        EvaluationError: If the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hits = 0
        self.misses = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EvaluationError(f"{folder}: cannot be created ({error.strerror}); set cache=FOLDER") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise EvaluationError(f"{folder}: cannot be written; set cache=FOLDER")

    def fetch(self, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Returns the arrays of a key, and computes and stores them first if they are missing.

        Args:
            key: Everything that the arrays depend on.
            make: Computes the arrays. Its exceptions are passed on, and nothing is stored.

        Raises:
            EvaluationError: If the file cannot be written.
        """
        path = self._path(self.digest(key))
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

    @staticmethod
    def digest(key: Mapping[str, Any]) -> str:
        """Returns the name under which the arrays of a key are stored."""
        text = json.dumps({"version": VERSION, **key}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether the arrays of a key are stored; reads the file's index only."""
        try:
            with np.load(self._path(self.digest(key)), allow_pickle=False):
                return True
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return False

    def stored(self, digest: str) -> Arrays | None:
        """Returns the arrays with this digest; None if they are missing or damaged, or if it is no digest."""
        return _read(self._path(digest)) if DIGEST.fullmatch(digest) else None

    def part(self, entry: str | Mapping[str, Any] | None) -> Arrays | None:
        """Returns the features that an entry of a results file names; None if they are missing or either is damaged.

        Args:
            entry: Digest of the features; or ``digest`` of those of a whole video, ``first`` frame and number of
                ``frames`` of the compared part, and ``columns``, the used range of features or None.
        """
        if not isinstance(entry, Mapping):
            return self.stored(str(entry))
        try:
            arrays = self.stored(str(entry["digest"]))
            if arrays is None:
                return None
            first, last = int(entry["first"]), int(entry["first"]) + int(entry["frames"])
            begin, end = entry["columns"] or (None, None)
            chosen = (arrays["frames"] >= first) & (arrays["frames"] < last)
            return {"features": arrays["features"][chosen, begin:end], "frames": arrays["frames"][chosen] - first}
        except (KeyError, TypeError, ValueError, IndexError):
            return None

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.npz"


def _read(path: Path) -> Arrays | None:
    """Reads the arrays of a file; None if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
