"""Run directories of V-AID and ETHD with random weights for any preset, written as training writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from configs.command_line import compose
from configs.models import EthdConfig
from configs.preparation import PrepareConfig
from datamodules.schema import LatentStatistics
from lightning_modules.checkpoints import CHECKPOINT_INFO, EMA
from lightning_modules.ethd.checkpoint import EthdInfo, build_ethd, with_overlap
from lightning_modules.ethd.export import export
from lightning_modules.ethd.latents import latent_scale
from lightning_modules.vaid.module import VAIDModule
from lightning_modules.vaid.statistics import MotionStatistics
from preparation.encoders import Encoders
from runtime.files import sha256_of
from tests.helpers.ethd import smallest_unet, smallest_vaid_config

SMALL_VAID = smallest_vaid_config(window=16, overlap=4)
SMALL_UNET = replace(smallest_unet(), attention=[True, False], token_width=32, added_width=32)


def build_encoders(preset: str) -> tuple[Encoders, int]:
    """Returns the encoders of a preset on the CPU, and the side of its frames."""
    config = compose("prepare", PrepareConfig, [f"preset={preset}", "task=weights"])
    return Encoders.build(config.encoders, "cpu"), config.frame_size


def write_vaid(folder: Path, encoders: Encoders, side: int, seed: int = 0) -> Path:
    """Writes a run directory of V-AID; its statistics depend on the seed."""
    dimensions = encoders.dimensions(side)
    torch.manual_seed(seed)
    module = VAIDModule(SMALL_VAID, dimensions, encoders.identities())
    for block in module.vaid.di_cte.blocks:  # open the gates, as training does
        torch.nn.init.normal_(block.modulate[1].weight, std=0.3)
    lip, expression = dimensions.lip_width, dimensions.expression_width
    numbers = [(torch.rand(width) * 0.1 + 0.2).tolist() for width in (lip, lip, expression, expression)]
    module.vaid.set_statistics(MotionStatistics(*map(tuple, numbers)))
    return _write(folder, "vaid", {"state_dict": module.state_dict(), CHECKPOINT_INFO: _info_of(module)})


def write_ethd(folder: Path, vaid: Path, encoders: Encoders, side: int, *, ema: bool = True, **changes: object) -> Path:
    """Writes a run directory of ETHD; with ``ema``, the plain weights differ from the averaged ones."""
    sizes = {"unet": SMALL_UNET, "window": 8, "diffusion_steps": 50, "sampling_steps": 4}
    config = with_overlap(EthdConfig(**{**sizes, **changes}))
    dimensions = encoders.dimensions(side)
    channels = dimensions.latent_channels
    statistics = LatentStatistics((0.1,) * channels, (0.5,) * channels, 100)
    file = vaid / "checkpoints" / "last.ckpt"
    scale = latent_scale(encoders.codec.identity.name, encoders.codec.scale, statistics)
    info = EthdInfo(config, dimensions, encoders.identities(), side, scale, str(file), sha256_of(file))
    torch.manual_seed(1)
    network = build_ethd(config, dimensions, side)
    for parameter in network.parameters():  # initial zeros would hide the driving signals
        parameter.data += 0.02 * torch.randn_like(parameter)
    plain = {f"ethd.{name}": weight + (0.5 if ema else 0.0) for name, weight in network.state_dict().items()}
    checkpoint = {"state_dict": plain, CHECKPOINT_INFO: info.plain(), "global_step": 7}
    if ema:
        checkpoint[EMA] = {"weights": network.state_dict(), "updates": 7}
    return _write(folder, "ethd", checkpoint)


def write_runs(folder: Path, encoders: tuple[Encoders, int]) -> Path:
    """Writes ``vaid``, ``other_vaid`` and ``ethd``, which is exported."""
    write_vaid(folder / "vaid", *encoders)
    write_vaid(folder / "other_vaid", *encoders, seed=5)
    export(write_ethd(folder / "ethd", folder / "vaid", *encoders))
    return folder


def _info_of(module: VAIDModule) -> dict:
    checkpoint: dict = {}
    module.on_save_checkpoint(checkpoint)
    return checkpoint[CHECKPOINT_INFO]


def _write(folder: Path, stage: str, checkpoint: dict) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(checkpoint, folder / "checkpoints" / "last.ckpt")
    (folder / "config.yaml").write_text(f"stage: {stage}\n", encoding="utf-8")
    return folder
