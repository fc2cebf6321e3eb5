"""What ``weights.yaml`` says of every pretrained network: its files, their addresses and hashes, and its licence.

Hashes are sha256 where the publisher's is known, else the id git gives the file's content (``git hash-object FILE``);
a file that has neither is pinned by the revision in its address alone. ``weights.py`` finds and fetches what is listed.
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
        path: name relative to the weights folder, or to the network's own folder where it has one.
        urls: addresses, tried in order; those of hub files are made from the repository and revision.
        size: bytes.
        sha256: hash of the content, hex.
        git_blob: id of the content as a git blob, hex sha1.
    """

    path: str
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None

    @property
    def hash_text(self) -> str:
        """The published hash in words, and how to compute it."""
        if self.sha256:
            return f"sha256 {self.sha256}"
        if self.git_blob:
            return f"git blob id {self.git_blob} (git hash-object FILE)"
        return "no hash is published"


@dataclass(frozen=True)
class Weights:
    """One pretrained network.

    Attributes:
        name: how ``locate`` knows it.
        purpose: what the project uses it for.
        licence: of the weights, not of the code that trained them.
        files: what it consists of.
        presets: which presets need it; ``metrics`` is the set that evaluation needs.
        repository: Hugging Face repository of a hub model, at ``revision``.
        subfolder: folder inside that repository.
        folder: the network's own folder under a weights folder; ``locate`` then gives the folder, else the file.
        manual: what a person has to do where a program cannot fetch it.
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
        """The file's path inside its Hugging Face repository."""
        return f"{self.subfolder}/{file.path}" if self.subfolder else file.path


def _weights(entry: dict[str, Any]) -> Weights:
    files = tuple(WeightFile(**{**file, "urls": tuple(file.get("urls", ()))}) for file in entry.pop("files"))
    return Weights(files=files, presets=tuple(entry.pop("presets", ())), **entry)


SOURCES = tuple(map(_weights, yaml.safe_load(Path(__file__).with_name("weights.yaml").read_text(encoding="utf-8"))))
