"""Operations of a step: the stated ones are those of the network, and all stated costs follow from them."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from encoders.codecs.svd import CHUNK, chunk_starts
from lightning_modules.ethd.unet import UNetShape
from tools.profiling.ethd_step import operations, our_step, stock_step

ROOT = Path(__file__).parents[3]
SMALL = UNetShape(channels=(32, 32), heads=(1, 1), attention=(True, True), layers=1, token_width=8, added_width=8)
H100, A100 = 198e12, 62e12  # a fifth of the peak, operations per second


def stated() -> tuple[float, str]:
    """Operations of a step at 120 frames, and the row of the table."""
    text = (ROOT / "docs/costs.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| ETHD | 30,000 steps"))
    return float(re.search(r"x (\d+) TFLOP", row).group(1)) * 1e12, row


def test_products_convolutions_and_attention_are_counted():
    def build(shape, side, frames):
        picture, rows = torch.randn(1, 3, side, side), torch.randn(frames, 4)
        kernel, matrix = torch.randn(5, 3, 3, 3, requires_grad=True), torch.randn(4, 6, requires_grad=True)
        query = torch.randn(1, 1, frames, 16, requires_grad=True)

        def loss():
            found = functional.scaled_dot_product_attention(query, query, query)
            return functional.conv2d(picture, kernel, padding=1).sum() + found.sum() + (rows @ matrix).sum()

        return loss

    forward = 2 * 5 * 3 * 9 * 8 * 8 + 2 * 7 * 4 * 6  # backward as much: picture and rows have no gradient
    attention = 2 * 2 * 7 * 7 * 16
    assert operations(build, SMALL, 8, 7) == 2 * forward + 3 * attention


@pytest.mark.nightly
def test_recomputation_is_counted_for_both_networks():
    ours, theirs = (operations(build, SMALL, 8, 2) for build in (our_step, stock_step))
    assert 0.5 < ours / theirs < 3


@pytest.mark.nightly
def test_the_stated_operations_are_counted():
    assert operations(our_step, UNetShape(), 64, 120) == pytest.approx(stated()[0], rel=0.002)


def test_all_stated_costs_follow_from_the_operations():
    each, row = stated()
    hours = {rate: round(240_000 * each / rate / 3600) for rate in (H100, A100)}
    assert row.endswith(f"| {hours[H100]} h | {hours[A100]} h |")
    costs, header = (ROOT / "docs/costs.md").read_text(), (ROOT / "configs/experiment/ethd/paper.yaml").read_text()
    assert f"{each / H100:.1f} s on an H100, {each / A100:.1f} s on an A100" in costs
    decoded = CHUNK * len(chunk_starts(120))  # in TF32, at a fifth of its peak
    window = [(25 * 157e12 / rate) + decoded * 3e12 / tf32 for rate, tf32 in ((H100, 99e12), (A100, 31e12))]
    assert f"{decoded} frames x 3 TFLOP of decoding" in costs
    assert f"{window[0]:.0f} s per window | {window[1]:.0f} s per window |" in costs
    longer = 450_000 * each / H100 / 3600
    assert f"{longer:.0f} H100-hours for each clip" in " ".join(costs.split())
    thousands = f"{round(8 * longer, -2):,.0f}"
    assert f"batch: {thousands} for 3.6" in " ".join(costs.split())
    assert f"about {each / 1e12:.0f} TFLOP" in header
    assert f"take {hours[H100]} H100-hours" in header
    assert f"{thousands} H100-hours" in header
    assert f"{hours[H100]} for ETHD with its batch of 8 clips" in (ROOT / "README.md").read_text()
