"""Counts the memory of generation with preset paper, and lists what fits GPUs of 12 to 48 GB; needs no GPU.

    python -m tools.profiling.generation_memory              512 and 1024 px, the tables of docs/costs.md
    python -m tools.profiling.generation_memory pixels=768   another size

Sampling runs on fake tensors, as ``tools.profiling.step_memory`` counts training; decoding takes a number of bytes for
each pixel. The networks of preset paper are all on the GPU: ETHD in bfloat16, V-AID, wav2vec 2.0, PD-FGC's motion
encoder and SVD's autoencoder in float32. Several passes are those of guidance. 2 GiB and 5 % are added for what is not
counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from configs.command_line import compose
from configs.models import VAIDConfig
from configs.options import read_options, run_script
from configs.training import TrainConfig
from datamodules.schema import Dimensions
from encoders.motion.fan import FanEncoder
from generation.memory import DECODING, GenerationMemory, frame_bytes
from lightning_modules.vaid.network import VAID
from runtime.peak_memory import GIB
from tools.profiling.step_memory import sides, usable

CARDS = (12, 16, 24, 48)  # GB, as advertised
PASSES = (1, 2, 3)
TOGETHER = (16, 8, 4, 2, 1)
WINDOW = 120


def memory_at(pixels: int) -> GenerationMemory:
    """Counts the memory of preset paper at a side of ``pixels``."""
    config = compose("train", TrainConfig, ["experiment=ethd/paper", "data=folder", "data.root=none", "vaid=none"])
    sizes = Dimensions(4, pixels // 8, 12, 768, 512, 30)
    weights, frame = frame_bytes(config.model, sizes, pixels, torch.bfloat16)
    pixel, together = DECODING["svd"]
    return GenerationMemory(weights + other_weights(sizes), frame, pixel * pixels**2, together)


def other_weights(sizes: Dimensions) -> int:
    """Bytes of the networks other than ETHD."""
    with torch.device("meta"):
        networks: list[nn.Module] = [
            VAID(VAIDConfig(), sizes),
            Wav2Vec2Model(Wav2Vec2Config()),
            FanEncoder(),
            cast(
                nn.Module,  # for which diffusers is not typed
                AutoencoderKLTemporalDecoder(
                    block_out_channels=(128, 256, 512, 512),
                    down_block_types=("DownEncoderBlock2D",) * 4,
                    layers_per_block=2,
                ),
            ),
        ]
        return sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())


def tables(sizes: Sequence[int]) -> Iterator[str]:
    """Rows of both tables in Markdown."""
    counted = {pixels: memory_at(pixels) for pixels in sizes}
    cards = " | ".join(f"{card} GB" for card in CARDS)
    yield f"| px | passes | {WINDOW} frames, GiB | longest window: {cards} |"
    yield "|---" * (3 + len(CARDS)) + "|"
    for pixels, memory in counted.items():
        for passes in PASSES:
            fits = " | ".join(str(memory.window(usable(card), passes)) for card in CARDS)
            yield f"| {pixels} | {passes} | {memory.sampling(WINDOW, passes) / GIB:.1f} | {fits} |"
    yield ""
    need = " | ".join(f"{together}{' frames, GiB' * (together == 16)}" for together in TOGETHER)
    yield f"| px | {need} | most frames: {cards} |"
    yield "|---" * (1 + len(TOGETHER) + len(CARDS)) + "|"
    for pixels, memory in counted.items():
        need = " | ".join(f"{memory.decoding(together) / GIB:.1f}" for together in TOGETHER)
        fits = " | ".join(str(memory.frames(usable(card)) or "host") for card in CARDS)
        yield f"| {pixels} | {need} | {fits} |"


def main(arguments: list[str]) -> None:
    """Prints the tables."""
    options = read_options(__doc__, arguments, {"pixels": sides})
    for row in tables(options.get("pixels", [512, 1024])):
        print(row, flush=True)


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
