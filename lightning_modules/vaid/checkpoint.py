"""The networks in a checkpoint of V-AID, loaded without what trains them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.training import ClubConfig, ExpressionConfig, LipConfig, VAIDConfig
from datamodules.schema import Dimensions
from encoders.protocols import Identity
from lightning_modules.checkpoints import CHECKPOINT_INFO, check_encoders, read_checkpoint
from lightning_modules.vaid.network import VAID

STAGE = "vaid"


def load_vaid(path: str | Path, encoders: Mapping[str, Identity] | None = None) -> VAID:
    """The trained networks, frozen and in eval mode, on the CPU.

    Args:
        path: a checkpoint of stage vaid.
        encoders: of the data it will be used with, to be held against its own; None takes any.

    Raises:
        CheckpointError: when the file is missing, damaged, of another stage, or its statistics are of other encoders.
    """
    checkpoint = read_checkpoint(path, STAGE)
    info = checkpoint[CHECKPOINT_INFO]
    if encoders is not None:
        check_encoders({kind: Identity(**raw) for kind, raw in info["encoders"].items()}, encoders, path)
    vaid = VAID(vaid_config(info["config"]), Dimensions(**info["dimensions"]))
    prefix = "vaid."
    state = checkpoint["state_dict"]
    vaid.load_state_dict({name.removeprefix(prefix): w for name, w in state.items() if name.startswith(prefix)})
    return vaid.eval().requires_grad_(False)


def vaid_config(raw: Mapping[str, Any]) -> VAIDConfig:
    """The configuration from its plain form in a checkpoint."""
    parts = {
        "lip": LipConfig(**raw["lip"]),
        "expression": ExpressionConfig(**raw["expression"]),
        "club": ClubConfig(**raw["club"]),
    }
    return VAIDConfig(**{**raw, **parts})
