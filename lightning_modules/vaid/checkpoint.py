"""Loading the networks of a V-AID checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.models import ClubConfig, ExpressionConfig, LipConfig, VAIDConfig
from datamodules.schema import Dimensions
from encoders.protocols import Identity
from lightning_modules.checkpoints import CHECKPOINT_INFO, EMA, check_encoders, read_checkpoint
from lightning_modules.vaid.network import VAID

STAGE = "vaid"
ENCODER_KINDS = ("audio", "motion")  # V-AID does not depend on codec and landmarks


def load_vaid(path: str | Path, encoders: Mapping[str, Identity] | None = None) -> VAID:
    """Loads a trained V-AID on the CPU, frozen and in eval mode, with Di-CTE's averaged weights if there are any.

    Args:
        path: Checkpoint of stage vaid.
        encoders: kind -> required encoder identity; None accepts any.

    Raises:
        CheckpointError: If the file is missing, damaged, of another stage, or of other encoders.
    """
    checkpoint = read_checkpoint(path, STAGE)
    info = checkpoint[CHECKPOINT_INFO]
    if encoders is not None:
        check_encoders({kind: Identity(**raw) for kind, raw in info["encoders"].items()}, encoders, path)
    vaid = VAID(vaid_config(info["config"]), Dimensions(**info["dimensions"]))
    vaid.load_state_dict(weights_of(checkpoint))
    return vaid.eval().requires_grad_(False)


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Weights and statistics of the networks in a checkpoint; those of Di-CTE are averages if there are any."""
    prefix, state = "vaid.", checkpoint["state_dict"]
    trained = {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}
    return trained | checkpoint.get(EMA, {"weights": {}})["weights"]


def vaid_config(raw: Mapping[str, Any]) -> VAIDConfig:
    """Builds the configuration from its plain form in a checkpoint."""
    parts = {
        "lip": LipConfig(**raw["lip"]),
        "expression": ExpressionConfig(**raw["expression"]),
        "club": ClubConfig(**raw["club"]),
    }
    return VAIDConfig(**{**raw, **parts})
