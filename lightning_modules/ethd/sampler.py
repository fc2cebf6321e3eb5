"""The one way from a reference, speech and an emotion to frames: generate.py, callbacks and quality tools all take it.

    driving signals -> DDIM in fused windows -> the codec's latents -> frames, piece by piece

Latents stay on the host and one window is on the device, so that only latents and signals grow with the length. Shapes:
F frames, C x h x w latent, S side of the frames, d_e expression width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from configs.generation import DrivingMode
from datamodules.clip_windows import ClipBatch
from diffusion.ddim import seeded_noise
from diffusion.long_sampling import sample_long
from diffusion.parameterization import VelocityDenoiser
from diffusion.windows import window_starts
from encoders.protocols import LatentCodec
from lightning_modules.ethd.checkpoint import EthdInfo, build_ethd, noise_schedule
from lightning_modules.ethd.driving_signals import build_driving_signals
from lightning_modules.ethd.network import DrivingSignals, Ethd
from lightning_modules.vaid.network import VAID
from runtime.devices import inference_dtype
from runtime.errors import UserError

RESTORED_AT_ONCE = 16  # frames


class SamplingError(UserError):
    """Settings a network cannot sample with; the message names the key, its value, and what to do."""


@dataclass(frozen=True)
class VideoProgress:
    """How far a video is.

    Attributes:
        stage: ``sampling`` counts windows x steps, ``writing`` frames.
        done: Number of finished units.
        total: Number of all units.
    """

    stage: str
    done: int
    total: int


OnProgress = Callable[[VideoProgress], None]


@dataclass(frozen=True)
class SamplingSettings:
    """How a video is sampled.

    Attributes:
        seed: Seed of the sampling noise.
        steps: Number of DDIM steps.
        window: Frames on the device at a time.
        overlap: Frames that two windows share.
    """

    seed: int
    steps: int
    window: int
    overlap: int


class Sampler:
    """A trained network with the codec of its latents.

    Args:
        ethd: The network; it stays as it is. Weights that have the device and the precision already are shared with
            it, others are copied, so a network in training may be handed over.
        info: What its training says of it.
        codec: Codec of its latents.
        device: Where the network runs, in the precision of ``inference_dtype``.
    """

    def __init__(self, ethd: Ethd, info: EthdInfo, codec: LatentCodec, device: torch.device) -> None:
        self.info, self.codec, self.device = info, codec, device
        self.dtype = inference_dtype(device)
        self.schedule = noise_schedule(info.config)
        with torch.device("meta"):  # every weight comes from the given network
            self.ethd = build_ethd(info.config, info.dimensions, info.frame_side)
        weights = {name: weight.to(device, self.dtype) for name, weight in ethd.state_dict().items()}
        self.ethd.load_state_dict(weights, assign=True)
        self.ethd.eval().requires_grad_(False)

    def settings(
        self, seed: int = 0, steps: int | None = None, window: int | None = None, overlap: int | None = None
    ) -> tuple[SamplingSettings, tuple[str, ...]]:
        """What a person asks for as what will be done, and notes; None stands for the training's own.

        Raises:
            SamplingError: for an overlap that is not shorter than the window, or more steps than the schedule has.
        """
        config = self.info.config
        steps = config.sampling_steps if steps is None else steps
        if steps > len(self.schedule):
            raise SamplingError(f"steps={steps}: this network was trained with {len(self.schedule)}; take fewer")
        frames = config.window if window is None else window
        shared = overlap
        if shared is None:
            trained = config.overlap if frames == config.window else None
            shared = round(frames / 5) if trained is None else trained
        if not 0 <= shared < frames:
            raise SamplingError(
                f"overlap={shared}: expected at least 0 and less than the window of {frames} frames (trained with "
                f"{config.window})"
            )
        longer = f"window={frames}: longer than the {config.window} frames the network was trained with"
        return SamplingSettings(seed, steps, frames, shared), ((longer,) if frames > config.window else ())

    def reference(self, frame: np.ndarray) -> Tensor:
        """(S, S, 3) uint8 -> (1, C, h, w) the portrait's latent as the network sees it."""
        latent = self.codec.encode(torch.from_numpy(frame)[None].permute(0, 3, 1, 2).contiguous())
        # Shards hold latents in half precision, and so the network has seen them.
        return self.info.latents.reference(latent.half())

    @torch.no_grad()
    def sample(
        self,
        reference: Tensor,
        signals: DrivingSignals,
        frames: int,
        how: SamplingSettings,
        on_progress: OnProgress | None = None,
    ) -> Tensor:
        """A video's latents.

        Args:
            reference: (1, C, h, w), see ``reference``.
            signals: of all frames, on the host.
            frames: F.
            how: seed, steps and windows.
            on_progress: is told of every window's step.

        Returns:
            (1, F, C, h, w) float32 on the host, as the codec decodes them.

        Raises:
            SamplingError: when a window does not fit into the device's memory, or values leave the range of float16.
        """
        reference_latent = reference.to(self.device, self.dtype)
        total, done = how.steps * len(window_starts(frames, how.window, how.overlap)), 0

        def predict(x: Tensor, t: Tensor, where: slice) -> Tensor:
            nonlocal done
            near = on_device(signals.window(where), self.device)
            denoise = VelocityDenoiser(
                lambda noisy, level: self.ethd(noisy.to(self.dtype), level, reference_latent, near), self.schedule
            )
            x0 = denoise(x.to(self.device), t.to(self.device)).cpu()
            if self.dtype is torch.float16 and not x0.isfinite().all():
                raise SamplingError(
                    f"{self.device}: has no bfloat16, and values here are too large for float16; use device=cpu"
                )
            done += 1
            if on_progress is not None:
                on_progress(VideoProgress("sampling", done, total))
            return x0

        size = self.info.dimensions
        noise = seeded_noise((1, frames, size.latent_channels, size.latent_size, size.latent_size), how.seed)
        try:
            latents = sample_long(predict, noise, self.schedule, how.steps, how.window, how.overlap)
        except torch.OutOfMemoryError as error:
            raise SamplingError(
                f"window={how.window}: does not fit into the memory of {self.device}; take a shorter one"
            ) from error
        for start in range(0, frames, RESTORED_AT_ONCE):
            part = latents[:, start : start + RESTORED_AT_ONCE]
            part.copy_(self.info.latents.restored(part))
        return latents

    def decode(self, latents: Tensor) -> Iterator[np.ndarray]:
        """(1, F, C, h, w) -> F frames, each (S, S, 3) uint8, as soon as they are final."""
        for piece in self.codec.decode_stream(latents[0]):
            yield from piece.permute(0, 2, 3, 1).numpy()

    def render(
        self,
        vaid: VAID,
        batch: ClipBatch,
        *,
        e_cond: Tensor | None = None,
        e_v: Tensor | None = None,
        mode: DrivingMode = "both",
        seed: int = 0,
        steps: int | None = None,
    ) -> np.ndarray:
        """(F, S, S, 3) uint8: what generate.py makes of a clip's reference frame and its sound.

        Args:
            vaid: The V-AID that the network was trained with.
            batch: One whole clip on the host, with audio, expression, latent, boxes and portraits.
            e_cond: (1, d_e) See ``build_driving_signals``; None for the reference frame's expression.
            e_v: (1, F, d_e) See ``build_driving_signals``.
            mode: See ``build_driving_signals``.
            seed: Seed of the video.
            steps: Number of DDIM steps; None for the training's.
        """
        audio = batch["audio"].float()
        signals = build_driving_signals(
            vaid,
            self.ethd.variant,
            audio,
            x_ref=batch["reference_portrait"],
            boxes=batch["reference_boxes"],
            e_ref=batch["reference_expression"],
            e_cond=e_cond,
            e_v=e_v,
            mode=mode,
            seed=seed,
        )
        reference = self.info.latents.reference(batch["reference_latent"])
        settings, _ = self.settings(seed, steps)
        return np.stack(list(self.decode(self.sample(reference, signals, audio.shape[1], settings))))


def on_device(signals: DrivingSignals, device: torch.device) -> DrivingSignals:
    """The same signals on another device."""
    moved = {
        name: None if (value := getattr(signals, name)) is None else value.to(device)
        for name in ("boxes", "e_ref", "lip", "e_dri", "e_cond", "audio")
    }
    return replace(signals, **moved)  # type: ignore[arg-type]
