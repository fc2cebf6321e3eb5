"""A small U-Net with its inputs, and diffusers' U-Net of the same shape."""

from __future__ import annotations

import torch
from diffusers import UNetSpatioTemporalConditionModel

from lightning_modules.ethd.conditioning import Conditions, expression_regions
from lightning_modules.ethd.unet import UNetShape

SMALL = UNetShape(channels=(32, 64), heads=(2, 4), attention=(True, False), layers=1, token_width=32, added_width=32)


def stock(shape):
    """diffusers' U-Net of the same shape with random parameters, because zeros would hide what they multiply."""
    kinds = ["CrossAttn" if attention else "" for attention in shape.attention]
    torch.manual_seed(0)
    model = UNetSpatioTemporalConditionModel(
        in_channels=shape.in_channels,
        out_channels=shape.out_channels,
        down_block_types=tuple(f"{kind}DownBlockSpatioTemporal" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlockSpatioTemporal" for kind in reversed(kinds)),
        block_out_channels=shape.channels,
        addition_time_embed_dim=shape.added_width,
        projection_class_embeddings_input_dim=3 * shape.added_width,
        layers_per_block=shape.layers,
        cross_attention_dim=shape.token_width,
        num_attention_heads=shape.heads,
    ).eval()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def inputs(shape, clips=1, frames=4, side=8, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*size):
        return torch.randn(size, generator=generator)

    boxes = torch.tensor([[[24.0, 36, 40, 44], [10, 10, 52, 54]]]).repeat(clips, 1, 1)
    levels = [side >> level for level in range(len(shape.channels))]
    width = shape.token_width
    conditions = Conditions(
        lip=random(clips * frames, 8, width),
        driving=random(clips * frames, 4, width),
        reference=random(clips * frames, 4, width),
        timeline=random(clips, frames, width),
        regions=expression_regions(boxes, (64, 64), levels),
    )
    noisy = random(clips, frames, shape.out_channels, side, side)
    reference = random(clips, shape.in_channels - shape.out_channels, side, side)
    return noisy, reference, random(clips), conditions


def awake(model):
    """Adds noise to all weights, so that no projection is zero."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model
