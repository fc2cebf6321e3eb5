"""Scaling of latents and its inverse."""

import pytest
import torch

from datamodules.schema import LatentStatistics
from lightning_modules.ethd.latents import latent_scale

STATISTICS = LatentStatistics((1.0, -2.0, 0.5), (0.5, 3.0, 0.0), 100)


def test_latents_and_reference_of_other_codecs_are_standardised_per_channel():
    scale, unit = latent_scale("taef2", 1.0, STATISTICS), torch.randn(2, 5, 3, 8, 8)
    latents = unit * torch.tensor([0.5, 3.0, 1.0])[:, None, None] + torch.tensor([1.0, -2.0, 0.5])[:, None, None]
    torch.testing.assert_close(scale.scaled(latents), unit)  # a constant channel is only centred
    torch.testing.assert_close(scale.restored(unit), latents)
    torch.testing.assert_close(scale.reference(latents[:, 0]), unit[:, 0])


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_whitening_leaves_channels_a_part_of_their_differences(whitening):
    scale = latent_scale("dct", 1.0, STATISTICS, whitening)
    assert scale.mean == STATISTICS.mean
    one, two, constant = scale.std
    assert two / one == pytest.approx(6**whitening)
    assert (0.5**2 / one**2 + 3.0**2 / two**2) / 2 == pytest.approx(1)  # the mean variance
    assert constant == 1
    if whitening == 1:
        assert (one, two) == (0.5, 3.0)


def test_svd_latents_use_its_constant_and_an_unscaled_reference():
    scale, latents = latent_scale("svd", 0.18215, STATISTICS), torch.randn(2, 5, 3, 8, 8)
    torch.testing.assert_close(scale.scaled(latents), latents * 0.18215)
    torch.testing.assert_close(scale.restored(scale.scaled(latents)), latents)
    assert torch.equal(scale.reference(latents[:, 0].half()), latents[:, 0].half().float())
