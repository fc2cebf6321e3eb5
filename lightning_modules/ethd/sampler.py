"""Sampling of videos. generate.py, the callbacks and the quality tools all use this sampler.

    driving signals -> DDIM in fused windows -> codec latents -> frames, in chunks

Latents stay on the CPU and only one window is on the device: memory on the device does not depend on the length.

Shapes: F frames, C x h x w latent, S side of the frames in pixels, d_e expression width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from configs.generation import DrivingMode, GuidanceConfig
from datamodules.clip_windows import ClipBatch
from diffusion.ddim import seeded_noise
from diffusion.long_sampling import sample_long
from diffusion.parameterization import VelocityDenoiser
from diffusion.windows import window_starts
from encoders.protocols import LatentCodec
from lightning_modules.ethd.checkpoint import EthdInfo, build_ethd, noise_schedule
from lightning_modules.ethd.driving_signals import build_driving_signals
from lightning_modules.ethd.guidance import Guidance, guidance_of, guided_velocity
from lightning_modules.ethd.network import DrivingSignals, Ethd
from lightning_modules.vaid.network import VAID
from runtime.devices import inference_dtype
from runtime.errors import UserError

RESTORED_AT_ONCE = 16  # frames


class SamplingError(UserError):
    """Settings that a network cannot sample with."""


@dataclass(frozen=True)
class VideoProgress:
    """Progress of a video.

    Attributes:
        stage: ``sampling``, counted in windows x steps, or ``writing``, counted in frames.
        done: Number of finished units.
        total: Number of all units.
    """

    stage: str
    done: int
    total: int


OnProgress = Callable[[VideoProgress], None]


@dataclass(frozen=True)
class SamplingSettings:
    """Settings of the sampling.

    Attributes:
        seed: Seed of the sampling noise.
        steps: Number of DDIM steps.
        window: Frames per window.
        overlap: Frames shared by neighbouring windows.
        guidance: Guidance of lips and expression.
    """

    seed: int
    steps: int
    window: int
    overlap: int
    guidance: Guidance = field(default_factory=Guidance)


class Sampler:
    """Samples videos with a trained network and the codec of its latents.

    Args:
        ethd: Network; it is not modified and may be in training. Weights are shared if device and type already match,
            otherwise copied.
        info: Checkpoint information of the network.
        codec: Codec of the latents.
        device: Device of the network. ``inference_dtype`` gives its precision.
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
        self,
        seed: int = 0,
        steps: int | None = None,
        window: int | None = None,
        overlap: int | None = None,
        guidance: GuidanceConfig | None = None,
        mode: DrivingMode = "both",
    ) -> tuple[SamplingSettings, tuple[str, ...]]:
        """Validates settings and replaces None by the values of the training.

        Args:
            seed: Seed of the sampling noise.
            steps: Number of DDIM steps.
            window: Frames per window.
            overlap: Frames shared by neighbouring windows.
            guidance: Guidance of lips and expression.
            mode: Driving mode of the video.

        Returns:
            The settings, and notes for the user.

        Raises:
            SamplingError: If the overlap is not shorter than the window, or there are more steps than in the schedule.
            GuidanceError: If the network was not trained for the guidance.
        """
        config = self.info.config
        steps = config.sampling_steps if steps is None else steps
        if steps > len(self.schedule):
            raise SamplingError(
                f"steps={steps}: expected at most {len(self.schedule)}, as in training; set fewer steps"
            )
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
        guided, notes = guidance_of(guidance, config, mode)
        notes = (longer, *notes) if frames > config.window else notes
        return SamplingSettings(seed, steps, frames, shared, guided), notes

    def reference(self, frame: np.ndarray) -> Tensor:
        """(S, S, 3) uint8 portrait -> (1, C, h, w) latent as the network's input."""
        latent = self.codec.encode(torch.from_numpy(frame)[None].permute(0, 3, 1, 2).contiguous())
        # Rounded to half precision like the latents in shards, which the network was trained on.
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
        """Samples a video's latents.

        Args:
            reference: (1, C, h, w) latent of the portrait, see ``reference``.
            signals: Driving signals of all frames, on the CPU.
            frames: F.
            how: Seed, steps and windows.
            on_progress: Callback after every step of every window.

        Returns:
            (1, F, C, h, w) float32 latents on the CPU, in the codec's units.

        Raises:
            SamplingError: If a window does not fit into the device's memory, or values exceed the range of float16.
        """
        reference_latent = reference.to(self.device, self.dtype)
        total, done = how.steps * len(window_starts(frames, how.window, how.overlap)), 0

        def predict(x: Tensor, t: Tensor, where: slice) -> Tensor:
            nonlocal done
            near = on_device(signals.window(where), self.device)
            passes = how.guidance.passes((int(t[0]) + 1) / len(self.schedule))
            denoise = VelocityDenoiser(
                lambda x, level: guided_velocity(self.ethd, x.to(self.dtype), level, reference_latent, near, passes),
                self.schedule,
            )
            x0 = denoise(x.to(self.device), t).cpu()  # t stays on the CPU, where the schedule is
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
                f"window={how.window}: does not fit into the memory of {self.device}; set a shorter window"
                + (", or leave guidance out" if how.guidance.passes(how.guidance.high)[1:] else "")
            ) from error
        for start in range(0, frames, RESTORED_AT_ONCE):
            part = latents[:, start : start + RESTORED_AT_ONCE]
            part.copy_(self.info.latents.restored(part))
        return latents

    def decode(self, latents: Tensor) -> Iterator[np.ndarray]:
        """(1, F, C, h, w) -> iterator over F frames (S, S, 3) uint8, decoded in chunks."""
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
        guidance: GuidanceConfig | None = None,
        lip_strength: float = 1.0,
    ) -> np.ndarray:
        """Generates the video of a clip from its reference frame and its sound, exactly as generate.py does.

        Args:
            vaid: V-AID that the network was trained with.
            batch: One complete clip on the CPU, with audio, expression, latent, boxes and portraits.
            e_cond: (1, d_e) emotion condition; None for the expression of the reference frame.
            e_v: (1, F, d_e) expressions of a driving video, used instead of V-AID's.
            mode: Mode of ``build_driving_signals``.
            seed: Seed of the video.
            steps: Number of DDIM steps; None for the number in the training configuration.
            guidance: Guidance of lips and expression; None for that of the training configuration.
            lip_strength: Factor on the lip latents.

        Returns:
            (F, S, S, 3) uint8 frames.
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
            lip_strength=lip_strength,
        )
        reference = self.info.latents.reference(batch["reference_latent"])
        settings, _ = self.settings(seed, steps, guidance=guidance, mode=mode)
        return np.stack(list(self.decode(self.sample(reference, signals, audio.shape[1], settings))))


def on_device(signals: DrivingSignals, device: torch.device) -> DrivingSignals:
    """Copies driving signals to a device."""
    moved = {
        name: None if (value := getattr(signals, name)) is None else value.to(device)
        for name in ("boxes", "e_ref", "lip", "e_dri", "e_cond", "audio")
    }
    return replace(signals, **moved)  # type: ignore[arg-type]
