"""A V-AID and an ETHD that train in no time, on small shards of noise."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from configs.training import EthdConfig, ExpressionConfig, LipConfig, UNetConfig, VAIDConfig
from datamodules.datamodule import ShardDataModule
from encoders.protocols import Identity
from lightning_modules.ethd.checkpoint import EthdCard
from lightning_modules.ethd.latents import latent_scale
from lightning_modules.ethd.module import EthdModule
from lightning_modules.vaid.network import VAID
from lightning_modules.vaid.statistics import motion_statistics

Network = TypeVar("Network", bound=nn.Module)
FIELDS = ["audio", "expression", "latent", "boxes", "portraits"]
# The same as overrides of train.py, with one epoch of four steps.
SMALLEST_ETHD = (
    "model.unet={channels:[32,32],heads:[1,1],attention:[true,true],layers:1,token_width:8,added_width:8}",
    "model.ema=0.5",
    "model.lr=1e-3",
    "model.lr_decay=none",
    "model.lr_warmup=0",
    "model.expression_steps=2",
    "data.name=folder",
    "data.window=8",
    "data.batch_size=2",
    "data.steps_per_epoch=4",
    "trainer.devices='1'",
    "trainer.strategy=auto",
    "trainer.validate_every=3",
    "trainer.validation_clips=2",
    "trainer.log_every=1",
    "trainer.progress_bar=false",
)


def smallest_unet() -> UNetConfig:
    return UNetConfig(channels=[32, 32], heads=[1, 1], attention=[True, True], layers=1, token_width=8, added_width=8)


def smallest_vaid(data: ShardDataModule) -> VAID:
    """Untrained and every weight random, with the data's statistics."""
    torch.manual_seed(0)
    config = VAIDConfig(
        lip=LipConfig(width=16, depth=1, latents=2, head_width=8),
        expression=ExpressionConfig(width=16, depth=1, head_width=8, identity_widths=[8], identity_size=16),
        sampling_steps=2,
        window=8,
        overlap=2,
    )
    vaid = VAID(config, data.dimensions)
    vaid.set_statistics(motion_statistics((clip.key, lip, expression) for clip, lip, expression in data.motions()))
    return awake(vaid)


def smallest_ethd(data: ShardDataModule, **changes) -> EthdModule:
    """A module whose every weight is random."""
    vaid = smallest_vaid(data)
    card = card_of(data, EthdConfig(unet=smallest_unet(), window=8, **changes))
    torch.manual_seed(1)
    module = EthdModule(card, vaid, batch_size=2)
    awake(module.ethd)
    return module


def awake(network: Network) -> Network:
    """The same with noise in weights that start at zero: they would hide what does not reach them."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return network


def card_of(data: ShardDataModule, config: EthdConfig, encoders: dict[str, Identity] | None = None) -> EthdCard:
    index = data.index
    scale = latent_scale("patch", 1.0, data.latent_statistics)
    return EthdCard(config, data.dimensions, encoders or index.encoders, index.frame_size, scale, "vaid.ckpt", "0" * 64)
