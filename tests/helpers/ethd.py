"""V-AID and ETHD networks small enough to train within seconds, on small shards of noise."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from configs.models import EthdConfig, ExpressionConfig, LipConfig, UNetConfig, VAIDConfig
from datamodules.datamodule import ShardDataModule
from encoders.protocols import Identity
from lightning_modules.ethd.checkpoint import EthdInfo
from lightning_modules.ethd.latents import latent_scale
from lightning_modules.ethd.module import EthdModule
from lightning_modules.vaid.network import VAID
from lightning_modules.vaid.statistics import motion_statistics
from tests.helpers.train_config import EXPRESSION, LIP, UNET

Network = TypeVar("Network", bound=nn.Module)
FIELDS = ["audio", "expression", "latent", "boxes", "portraits"]


def smallest_unet() -> UNetConfig:
    return UNetConfig(**UNET)


def smallest_vaid_config(**changes) -> VAIDConfig:
    return VAIDConfig(lip=LipConfig(**LIP), expression=ExpressionConfig(**EXPRESSION), sampling_steps=2, **changes)


def smallest_vaid(data: ShardDataModule) -> VAID:
    """Untrained V-AID with random weights and the data's statistics."""
    torch.manual_seed(0)
    vaid = VAID(smallest_vaid_config(window=8, overlap=2), data.dimensions)
    vaid.set_statistics(motion_statistics((clip.key, lip, expression) for clip, lip, expression in data.motions()))
    return awake(vaid)


def smallest_ethd(data: ShardDataModule, **changes) -> EthdModule:
    """Training module of ETHD with random weights."""
    vaid = smallest_vaid(data)
    info = info_of(data, EthdConfig(unet=smallest_unet(), window=8, **changes))
    torch.manual_seed(1)
    module = EthdModule(info, vaid, batch_size=2)
    awake(module.ethd)
    return module


def awake(network: Network) -> Network:
    """Adds noise to weights that start at zero, because zeros would hide inputs that have no effect."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return network


def info_of(data: ShardDataModule, config: EthdConfig, encoders: dict[str, Identity] | None = None) -> EthdInfo:
    index = data.index
    scale = latent_scale("patch", 1.0, data.latent_statistics)
    return EthdInfo(config, data.dimensions, encoders or index.encoders, index.frame_size, scale, "vaid.ckpt", "0" * 64)
