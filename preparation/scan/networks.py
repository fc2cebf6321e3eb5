"""Optional networks of a scan: used if their weights are there, and not missed otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from encoders.weights import find
from metrics.networks.arcface import ArcFace
from metrics.networks.syncnet import SyncNet
from runtime.files import sha256_of

OPTIONAL = {"arcface": "who is who", "syncnet": "agreement of lips and sound"}


@dataclass(frozen=True)
class ScanNetworks:
    """Networks of a scan, None for each whose weights are not there.

    Attributes:
        arcface: Gives the columns embedding, identity_cosine and person.
        syncnet: Gives the columns syncnet_confidence and syncnet_offset.
    """

    arcface: ArcFace | None = None
    syncnet: SyncNet | None = None

    @classmethod
    def load(cls, names: Sequence[str]) -> ScanNetworks:
        """Loads those of the named networks whose weights are there.

        Raises:
            WrongWeights: If a file has not the published hash.
        """
        paths = {name: find(name) for name in names}
        arcface, syncnet = paths.get("arcface"), paths.get("syncnet")
        return cls(ArcFace(arcface) if arcface else None, SyncNet(syncnet) if syncnet else None)


def present(names: Sequence[str]) -> dict[str, str]:
    """Name -> SHA-256 of the weights of those networks that are there.

    Raises:
        WrongWeights: If a file has not the published hash.
    """
    return {name: sha256_of(path) for name in names if (path := find(name)) is not None}
