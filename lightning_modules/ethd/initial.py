"""A trained ETHD from which a new run starts: a run directory, a checkpoint or an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from encoders.protocols import Identity
from lightning_modules.checkpoints import CHECKPOINT_INFO, check_encoders, checkpoint_file, read_checkpoint
from lightning_modules.ethd.checkpoint import STAGE, EthdInfo, weights_of
from lightning_modules.ethd.export import is_export, load_export
from lightning_modules.ethd.held_vaid import VAIDFile, vaid_of_networks, vaid_of_run


@dataclass(frozen=True)
class TrainedEthd:
    """A trained ETHD.

    Attributes:
        path: Its file.
        info: Its configuration, encoders and scaling of the latents.
        weights: name -> averaged weight if it has averaged ones, else the trained weight; float32.
        vaid: V-AID it was trained with; None if another one is given.
    """

    path: Path
    info: EthdInfo
    weights: Mapping[str, Tensor]
    vaid: VAIDFile | None

    def check_encoders(self, data: Mapping[str, Identity], where: str) -> None:
        """Checks that data to train further on was made with the same encoders.

        The landmarks may be of another detector, as those of people after those of synthetic speakers: their boxes and
        ratios mean the same, and the training adapts to what is left.

        Raises:
            CheckpointError: If another encoder differs.
        """
        check_encoders({kind: one for kind, one in self.info.encoders.items() if kind != "landmarks"}, data, where)


def trained_ethd(run: str | Path, needs_vaid: bool = True) -> TrainedEthd:
    """Reads a trained ETHD.

    Args:
        run: Run directory, checkpoint or export.
        needs_vaid: Whether to find its V-AID.

    Raises:
        CheckpointError: If it does not exist, is damaged or of another stage, or its V-AID is not found.
        WrongWeights: If an export is damaged.
    """
    path = Path(run)
    if is_export(path):
        exported = load_export(path)
        vaid = vaid_of_networks(exported.vaid, exported.info.encoders, exported.info.dimensions, exported.path)
        return TrainedEthd(exported.path, exported.info, exported.ethd.state_dict(), vaid if needs_vaid else None)
    file = checkpoint_file(path)
    checkpoint = read_checkpoint(file, STAGE)
    info = EthdInfo.read(checkpoint[CHECKPOINT_INFO])
    return TrainedEthd(file, info, weights_of(checkpoint), vaid_of_run(file) if needs_vaid else None)
