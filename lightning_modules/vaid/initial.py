"""A trained V-AID from which a new run starts: a run directory, a checkpoint, or an export of ETHD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from encoders.protocols import Identity
from lightning_modules.checkpoints import CHECKPOINT_INFO, checkpoint_file, read_checkpoint
from lightning_modules.ethd.export import is_export, load_export
from lightning_modules.vaid.checkpoint import ENCODER_KINDS, STAGE, weights_of


@dataclass(frozen=True)
class TrainedVAID:
    """A trained V-AID.

    Attributes:
        path: Its file.
        encoders: Identities of the encoders of its training data.
        weights: name in ``VAIDModule`` -> weight or statistic, with averaged weights where there are any.
    """

    path: Path
    encoders: Mapping[str, Identity]
    weights: Mapping[str, Tensor]


def trained_vaid(run: str | Path) -> TrainedVAID:
    """Reads a trained V-AID.

    Args:
        run: Run directory or checkpoint of V-AID, or an export of ETHD, which contains its V-AID.

    Raises:
        CheckpointError: If it does not exist, is damaged or of another stage.
        WrongWeights: If an export is damaged.
    """
    path = Path(run)
    if is_export(path):
        exported = load_export(path)
        kinds = {kind: exported.info.encoders[kind] for kind in ENCODER_KINDS}
        state = {f"vaid.{name}": weight for name, weight in exported.vaid.state_dict().items()}
        return TrainedVAID(exported.path, kinds, state)
    file = checkpoint_file(path)
    checkpoint = read_checkpoint(file, STAGE)
    found = {kind: Identity(**raw) for kind, raw in checkpoint[CHECKPOINT_INFO]["encoders"].items()}
    averaged = {f"vaid.{name}": weight for name, weight in weights_of(checkpoint).items()}
    return TrainedVAID(file, found, {**checkpoint["state_dict"], **averaged})
