"""Memory of a GPU that generation needs: counted on fake tensors, before anything is computed.

    weights + max(frames of a window x passes x bytes of a frame, frames decoded together x bytes of a frame)

Activations of a window are proportional to its frames and to the passes of a step (one, or up to three with guidance).
Sampling and decoding take turns, so the larger one counts. As for a training step, 2 GiB and 5 % are added for the CUDA
context, cuDNN's workspaces and fragmentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from configs.models import EthdConfig
from datamodules.schema import Dimensions
from lightning_modules.ethd.checkpoint import EthdInfo, build_ethd
from lightning_modules.ethd.network import DrivingSignals, Ethd
from lightning_modules.ethd.sampler import SamplingSettings
from runtime.peak_memory import GIB, PeakMemory, default_type, on_gpu

# codec -> bytes of activations for each pixel of a frame, float32; frames decoded together unless settings say fewer
DECODING = {"svd": (4096, 16), "taef2": (768, 2)}
COUNTED = 4  # frames of the window that is counted
# Bytes of a frame's activations are fewer than this many tensors of the first level; SVD's network has 25.
ROUGH = 60


@dataclass(frozen=True)
class GenerationMemory:
    """Bytes that generation takes on a GPU, without the allowances.

    Attributes:
        weights: All networks.
        frame: Activations of sampling, for each frame of a window and each pass.
        decoded: Activations of decoding, for each frame decoded together.
        together: Most frames that the codec decodes together.
    """

    weights: float
    frame: float
    decoded: float = 0.0
    together: int = 1

    def sampling(self, window: int, passes: int = 1) -> float:
        """Bytes of GPU memory, with the allowances, to sample windows with ``passes`` passes of the network a step."""
        return on_gpu(self.weights + window * passes * self.frame)

    def decoding(self, frames: int | None = None) -> float:
        """Bytes of GPU memory, with the allowances, to decode frames together; None for the codec's own number."""
        return on_gpu(self.weights + min(frames or self.together, self.together) * self.decoded)

    def window(self, card: float, passes: int = 1) -> int:
        """Longest window that ``card`` bytes of GPU memory take; 0 if none."""
        return int(max(0.0, _counted(card) - self.weights) / (passes * self.frame))

    def frames(self, card: float) -> int:
        """Most frames that can be decoded together with ``card`` bytes of GPU memory; 0 if none."""
        if not self.decoded:
            return self.together
        return min(self.together, int(max(0.0, _counted(card) - self.weights) / self.decoded))

    def misfit(self, how: SamplingSettings, frames: int, passes: int, card: float, name: str) -> str | None:
        """One line on what does not fit into a GPU and what to set, or None.

        Args:
            how: Settings of the sampling.
            frames: Frames of the video.
            passes: Passes of the network in a step.
            card: Bytes of GPU memory.
            name: Name of the GPU.
        """
        window = min(how.window, frames)
        if (need := self.sampling(window, passes)) > card:
            fits = self.window(card, passes)
            remedy = f"set window={fits}" if fits >= 2 else "use a larger GPU, or device=cpu"
            return f"window={window}: sampling {_against(need, card, name)}; {remedy}"
        together = min(how.decode_frames or self.together, frames)
        if (need := self.decoding(together)) > card:
            fits = self.frames(card)
            remedy = f"set decode_frames={fits}, or decode_device=cpu" if fits else "set decode_device=cpu"
            return f"decode_frames={min(together, self.together)}: decoding {_against(need, card, name)}; {remedy}"
        return None


def _counted(card: float) -> float:
    """The count that fits into a GPU: the inverse of ``on_gpu``."""
    return (card - 2 * GIB) / 1.05


def _against(need: float, card: float, name: str) -> str:
    return f"needs about {need / GIB:.1f} GiB, {name} has {card / GIB:.1f} GiB"


def memory_of(
    info: EthdInfo, ethd: Ethd, others: Iterable[object], *, decodes: bool = True, rough: bool = False
) -> GenerationMemory:
    """Counts the memory of a network and of the other networks on its device.

    Args:
        info: Checkpoint information of ETHD.
        ethd: The network.
        others: Further modules on the device, and encoders that hold some.
        decodes: Whether the codec decodes on this device.
        rough: Whether an upper bound is enough, which takes no time.
    """
    weights = sum(tensor.nbytes for module in _modules([ethd, *others]) for tensor in module.state_dict().values())
    dtype = next(ethd.parameters()).dtype
    if rough:
        frame = float(ROUGH * info.config.unet.channels[0] * info.dimensions.latent_size**2 * dtype.itemsize)
    else:
        frame = frame_bytes(info.config, info.dimensions, info.frame_side, dtype)[1]
    pixel, together = DECODING.get(info.encoders["codec"].name, (0, 1)) if decodes else (0, 1)
    return GenerationMemory(weights, frame, float(pixel * info.frame_side**2), together)


def frame_bytes(
    config: EthdConfig, sizes: Dimensions, frame_side: int, dtype: torch.dtype, frames: int = COUNTED
) -> tuple[int, float]:
    """Counts ETHD's weights, and the activations of a window of ``frames`` frames for each of them; bytes.

    Takes some seconds of a core, as long for small networks as for large ones.
    """
    channels, side = sizes.latent_channels, sizes.latent_size
    with FakeTensorMode(), torch.no_grad(), default_type(dtype), PeakMemory() as memory:
        ethd = build_ethd(config, sizes, frame_side)
        weights = sum(parameter.nbytes for parameter in ethd.parameters())
        signals = DrivingSignals(
            boxes=torch.rand(1, 2, 4),
            e_ref=torch.randn(1, sizes.expression_width),
            lip=torch.randn(1, frames, sizes.lip_width),
            e_dri=torch.randn(1, frames, sizes.expression_width),
            e_cond=torch.randn(1, sizes.expression_width),
            audio=torch.randn(1, frames, sizes.audio_layers, sizes.audio_width),
        )
        noisy = torch.randn(1, frames, channels, side, side)
        ethd(noisy, torch.zeros(1), torch.randn(1, channels, side, side), signals)
    return weights, (memory.peak - weights) / frames


def _modules(found: Iterable[object]) -> Iterator[nn.Module]:
    """Modules, and those that other objects hold."""
    for each in found:
        if isinstance(each, nn.Module):
            yield each
        else:
            yield from (value for value in vars(each).values() if isinstance(value, nn.Module))
