"""The learning rate schedule against its closed form."""

import math

import pytest
import torch

from lightning_modules.schedule import LEAST, rate, scheduled


@pytest.mark.parametrize("warmup", [0, 1, 4])
@pytest.mark.parametrize("decay", ["none", "cosine"])
def test_warmup_and_decay_apply_to_the_groups_that_follow(warmup, decay):
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 0.5}, {"params": weights[1:], "lr": 3.0}])
    scheduler = scheduled(optimizer, 10, warmup, LEAST[decay], follow=[True, False])["lr_scheduler"]["scheduler"]
    for step in range(13):
        rising = (step + 1) / warmup if step < warmup else 1
        falling = 1.0 if decay == "none" else 0.01 + 0.99 * math.cos(math.pi * min(step, 10) / 20) ** 2
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5 * rising * falling, 3.0])
        optimizer.step()
        scheduler.step()


def test_first_and_last_values():
    assert rate(0, 100, 0, 0.01) == 1.0
    assert rate(0, 100, 8, 0.01) == 0.125
    assert rate(100, 100, 8, 0.01) == rate(500, 100, 8, 0.01) == 0.01
    assert [rate(step, 100, 0, 1.0) for step in (0, 50, 100)] == [1.0, 1.0, 1.0]
    assert rate(100, 100, 0, 0.0) == 0.0
