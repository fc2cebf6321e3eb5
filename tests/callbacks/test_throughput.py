"""Throughput against independent counts."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from callbacks.throughput import operations_of_frames, peak_memory, step_operations
from configs.models import EthdConfig
from datamodules.schema import Dimensions
from encoders.protocols import Identity
from lightning_modules.ethd.checkpoint import EthdInfo, build_ethd
from lightning_modules.ethd.latents import LatentScale
from lightning_modules.ethd.network import DrivingSignals
from tests.helpers.ethd import smallest_unet


@pytest.mark.slow
def test_step_operations_equal_a_real_step_without_recomputation():
    sizes = Dimensions(latent_channels=4, latent_size=8, audio_layers=2, audio_width=3, lip_width=5, expression_width=6)
    config = EthdConfig(unet=smallest_unet(), checkpointing=True)
    info = EthdInfo(config, sizes, {"codec": Identity("patch")}, 32, LatentScale((0.0,), (1.0,)), "", "")
    config.checkpointing = False
    network, frames = build_ethd(config, sizes, 32), 6
    boxes = torch.tensor([[[8.0, 16.0, 16.0, 24.0], [2.0, 2.0, 30.0, 30.0]]])
    signals = DrivingSignals(
        boxes=boxes, e_ref=torch.randn(1, 6), lip=torch.randn(1, frames, 5), e_dri=torch.randn(1, frames, 6)
    )
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # attention as its products
        noisy = torch.randn(1, frames, 4, 8, 8)
        network(noisy, torch.zeros(1), noisy[:, 0], signals).square().mean().backward()
    operations = operations_of_frames(info)
    for length in (3, frames, 90):
        assert operations(length) == pytest.approx(step_operations(info, length), rel=1e-3)
    # A real backward pass skips the gradients of the network's inputs, and recomputes the attention scores.
    assert 0.95 < counter.get_total_flops() / step_operations(info, frames) < 1.05


def test_peak_memory_on_a_cpu_is_that_of_the_process():
    device, size = torch.device("cpu"), 2**26
    block = torch.ones(size, dtype=torch.uint8)
    held = peak_memory(device)
    assert held >= size
    assert block[-1] == 1
    del block
    assert peak_memory(device) >= held  # a maximum, which never decreases
