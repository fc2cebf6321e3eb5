"""Registry of the pretrained networks, read from ``weights.yaml``: files, URLs, hashes and licences.

A hash is the published sha256 if there is one, else the git blob id of the file (``git hash-object FILE``). For a hub
file with neither, the hub is asked for the hash at the listed revision. ``weights.py`` finds and downloads the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class WeightFile:
    """One file of a network.

    Attributes:
        path: Path relative to the weights folder, or to the network's own folder if it has one.
        urls: URLs, tried in order; the URL of a hub file is made from repository and revision.
        size: Size, bytes.
        sha256: Hash of the content, hexadecimal.
        git_blob: Git blob id of the content (SHA-1), hexadecimal.
    """

    path: str
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None

    @property
    def has_hash(self) -> bool:
        """Whether a hash is published in the list."""
        return bool(self.sha256 or self.git_blob)

    @property
    def hash_text(self) -> str:
        """Published hash as text, with the command that computes a git blob id."""
        if self.sha256:
            return f"sha256 {self.sha256}"
        if self.git_blob:
            return f"git blob id {self.git_blob} (git hash-object FILE)"
        return "no hash is published"


@dataclass(frozen=True)
class Weights:
    """One pretrained network.

    Attributes:
        name: Name for ``locate``.
        purpose: Use in this project.
        licence: Licence of the weights (not of the code that trained them).
        files: Files of the network.
        presets: Presets that need it; ``metrics`` is the set that evaluation needs.
        repository: Hugging Face repository of a hub model.
        revision: Revision of that repository.
        subfolder: Folder inside that repository.
        folder: Own folder under the weights folder. ``locate`` returns this folder, or the file where it is empty.
        manual: Instructions for weights that cannot be downloaded automatically.
    """

    name: str
    purpose: str
    licence: str
    files: tuple[WeightFile, ...]
    presets: tuple[str, ...] = ()
    repository: str | None = None
    revision: str | None = None
    subfolder: str = ""
    folder: str = ""
    manual: str | None = None

    def hub_path(self, file: WeightFile) -> str:
        """Returns the path of a file in the Hugging Face repository."""
        return f"{self.subfolder}/{file.path}" if self.subfolder else file.path


def _weights(entry: dict[str, Any]) -> Weights:
    files = tuple(WeightFile(**{**file, "urls": tuple(file.get("urls", ()))}) for file in entry.pop("files"))
    return Weights(files=files, presets=tuple(entry.pop("presets", ())), **entry)


SOURCES = tuple(map(_weights, yaml.safe_load(Path(__file__).with_name("weights.yaml").read_text(encoding="utf-8"))))


def published_hashes() -> frozenset[str]:
    """SHA-256 of all listed files that have one."""
    return frozenset(file.sha256 for weights in SOURCES for file in weights.files if file.sha256)
