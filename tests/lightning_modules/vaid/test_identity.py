"""The identity encoder: independent of the batch and of the portrait's size, and able to distinguish faces."""

import torch

from lightning_modules.vaid.identity import IdentityEncoder
from tests.helpers.steps import descend


def test_portraits_are_independent_and_of_any_size():
    torch.manual_seed(0)
    encoder = IdentityEncoder((8, 16, 32), 64, 10)
    portraits = torch.randint(0, 256, (3, 256, 256, 3), dtype=torch.uint8)
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    together = encoder(portraits)
    torch.testing.assert_close(together[1:2], encoder(portraits[1:2]))
    assert encoder(portraits[:, :128, :128]).shape == (3, 10)
    assert not before, "running statistics would change in a frozen V-AID"


def test_two_faces_can_be_distinguished():
    torch.manual_seed(0)
    encoder = IdentityEncoder((8, 16), 32, 1)
    portraits = torch.zeros(8, 64, 64, 3, dtype=torch.uint8)
    portraits[::2, :32] = portraits[1::2, 32:] = 255
    target = torch.tensor([1.0, -1.0]).repeat(4)[:, None]
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-2)
    for _ in range(40):
        loss = (encoder(portraits) - target).square().mean()
        descend(optimizer, loss)
    assert loss < 0.01
