"""From a drive to frames: DDIM in fused windows, then decoded piece by piece.

Latents stay on the host and one window is on the device, so that only latents and drive grow with the length. Shapes:
F frames, C x h x w latent, S side of the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from diffusion.ddim import seeded_noise
from diffusion.long_sampling import sample_long
from diffusion.parameterization import VelocityDenoiser
from diffusion.windows import window_starts
from encoders.protocols import LatentCodec
from generation.errors import GenerationError
from lightning_modules.ethd.checkpoint import EthdCard, noise_schedule
from lightning_modules.ethd.network import Drive, Ethd

RESTORED_AT_ONCE = 16  # frames


@dataclass(frozen=True)
class Progress:
    """How far a video is.

    Attributes:
        stage: ``sampling`` counts windows x steps, ``writing`` frames.
        done: of ``total``.
    """

    stage: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Sampling:
    """How a video is sampled.

    Attributes:
        seed: of the noise.
        steps: of DDIM.
        window: frames on the device at a time.
        overlap: frames two windows share.
    """

    seed: int
    steps: int
    window: int
    overlap: int


class Sampler:
    """A trained network with the codec of its latents.

    Args:
        ethd: the network; it is moved, and rounded to bfloat16 on a GPU: hand over a copy while it trains.
        card: what its training says of it.
        codec: of its latents.
        device: where the network runs.
    """

    def __init__(self, ethd: Ethd, card: EthdCard, codec: LatentCodec, device: torch.device) -> None:
        self.card, self.codec, self.device = card, codec, device
        # Training was bfloat16 where there is a GPU; a CPU is no faster with it.
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.schedule = noise_schedule(card.config)
        self._ethd = ethd.to(device, self.dtype)

    def settings(
        self, seed: int, steps: int | None, window: int | None, overlap: int | None
    ) -> tuple[Sampling, tuple[str, ...]]:
        """What a person asks for as what will be done, and notes; None stands for the training's own.

        Raises:
            GenerationError: for an overlap that is not shorter than the window, or more steps than the schedule has.
        """
        config = self.card.config
        steps = config.sampling_steps if steps is None else steps
        if steps > len(self.schedule):
            raise GenerationError(f"steps={steps}: this network was trained with {len(self.schedule)}; take fewer")
        frames = config.window if window is None else window
        shared = overlap
        if shared is None:
            trained = config.overlap if frames == config.window else None
            shared = round(frames / 5) if trained is None else trained
        if not 0 <= shared < frames:
            raise GenerationError(
                f"overlap={shared}: expected at least 0 and less than the window of {frames} frames (trained with "
                f"{config.window})"
            )
        longer = f"window={frames}: longer than the {config.window} frames the network was trained with"
        return Sampling(seed, steps, frames, shared), ((longer,) if frames > config.window else ())

    def reference(self, frame: np.ndarray) -> Tensor:
        """(S, S, 3) uint8 -> (1, C, h, w) the portrait's latent as the network sees it."""
        latent = self.codec.encode(torch.from_numpy(frame)[None].permute(0, 3, 1, 2).contiguous())
        # Shards hold latents in half precision, and so the network has seen them.
        return self.card.latents.reference(latent.half())

    @torch.no_grad()
    def sample(
        self, reference: Tensor, drive: Drive, frames: int, how: Sampling, on_progress: OnProgress | None = None
    ) -> Tensor:
        """A video's latents.

        Args:
            reference: (1, C, h, w), see ``reference``.
            drive: of all frames, on the host.
            frames: F.
            how: seed, steps and windows.
            on_progress: is told of every window's step.

        Returns:
            (1, F, C, h, w) float32 on the host, as the codec decodes them.

        Raises:
            GenerationError: when a window does not fit into the device's memory.
        """
        beside = reference.to(self.device, self.dtype)
        total, done = how.steps * len(window_starts(frames, how.window, how.overlap)), 0

        def predict(x: Tensor, t: Tensor, where: slice) -> Tensor:
            nonlocal done
            near = on_device(drive.window(where), self.device)
            denoise = VelocityDenoiser(
                lambda noisy, level: self._ethd(noisy.to(self.dtype), level, beside, near), self.schedule
            )
            x0 = denoise(x.to(self.device), t.to(self.device)).cpu()
            done += 1
            if on_progress is not None:
                on_progress(Progress("sampling", done, total))
            return x0

        size = self.card.dimensions
        noise = seeded_noise((1, frames, size.latent_channels, size.latent_size, size.latent_size), how.seed)
        try:
            latents = sample_long(predict, noise, self.schedule, how.steps, how.window, how.overlap)
        except torch.OutOfMemoryError as error:
            raise GenerationError(
                f"window={how.window}: does not fit into the memory of {self.device}; take a shorter one"
            ) from error
        for start in range(0, frames, RESTORED_AT_ONCE):
            part = latents[:, start : start + RESTORED_AT_ONCE]
            part.copy_(self.card.latents.restored(part))
        return latents

    def decode(self, latents: Tensor) -> Iterator[np.ndarray]:
        """(1, F, C, h, w) -> F frames, each (S, S, 3) uint8, as soon as they are final."""
        for piece in self.codec.decode_stream(latents[0]):
            yield from piece.permute(0, 2, 3, 1).numpy()


def on_device(drive: Drive, device: torch.device) -> Drive:
    """The same drive on another device."""
    moved = {
        name: None if (value := getattr(drive, name)) is None else value.to(device)
        for name in ("boxes", "e_ref", "lip", "e_dri", "e_cond", "audio")
    }
    return replace(drive, **moved)  # type: ignore[arg-type]
