"""Batch norms of frozen networks folded into the convolutions before them: the same function, sooner."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> None:
    """Replaces, in place, every convolution and the batch norm registered right after it by one convolution.

    Only for networks in evaluation mode whose batch norms follow the convolution registered before them; values keep to
    float32 rounding.
    """
    for module in network.modules():
        for (first, convolution), (second, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(convolution, norm))
                setattr(module, second, nn.Identity())
