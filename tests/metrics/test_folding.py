"""Folding leaves a network's function as it was, and no batch norm behind."""

import torch
from torch import nn
from torchvision.models import resnet18

from metrics.networks.folding import fold_batch_norms
from metrics.networks.inception import InceptionFeatures, fid_inception


def shaken(network):
    """Every statistic of every batch norm away from its default."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, std=0.2)
    return network.eval()


def test_values_stay():
    network = shaken(resnet18(weights=None))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = network(images)
        fold_batch_norms(network)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        torch.testing.assert_close(network(images), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_inception_has_none_left():
    network = InceptionFeatures(fid_inception().eval().state_dict(), 64)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.network.modules())
