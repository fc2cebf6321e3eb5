"""V-AID's networks for inference: predict lip and expression latents from audio (EmotiveTalk §3.2).

The networks work on latents standardised with the mean and deviation of the training set, which are stored with the
weights. ``lip_scale`` and ``expression_scale`` standardise latents of the encoders; their ``restore`` is the inverse.

Shapes: B clips, N frames, L audio layers, D audio width, d_l and d_e lip and expression widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.models import VAIDConfig
from datamodules.schema import Dimensions
from diffusion.ddim import ddim_sample, seeded_noise, trailing_steps
from diffusion.schedules import cosine_schedule
from diffusion.windows import fuse_windows
from lightning_modules.vaid.audio_to_lip import REACH, AudioToLip
from lightning_modules.vaid.di_cte import DiCTE, Modulation, Surroundings
from lightning_modules.vaid.statistics import MotionStatistics

FRAMES_AT_ONCE = 1000


class Standardiser(nn.Module):
    """Standardises each dimension: (x - mean) / std. The identity until ``set`` is called."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def set(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets the statistics; a constant dimension gets a deviation of 1."""
        self.mean.copy_(torch.tensor(mean))
        self.std.copy_(torch.tensor([value if value > 1e-6 else 1.0 for value in std]))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) in the encoder's units -> standardised."""
        return (x - self.mean) / self.std

    def restore(self, x: Tensor) -> Tensor:
        """(..., d) standardised -> the encoder's units."""
        return x * self.std + self.mean


class VAID(nn.Module):
    """Audio-to-lip projector and Di-CTE, with the statistics of the latents they predict.

    Args:
        config: Configuration of the networks.
        dimensions: Feature widths of the data.
    """

    def __init__(self, config: VAIDConfig, dimensions: Dimensions) -> None:
        super().__init__()
        self.config = config
        audio = (dimensions.audio_layers, dimensions.audio_width)
        self.audio_to_lip = AudioToLip(*audio, dimensions.lip_width, **asdict(config.lip))
        self.di_cte = DiCTE(
            *audio, dimensions.expression_width, **asdict(config.expression), droppable=config.condition_dropout > 0
        )
        self.lip_scale = Standardiser(dimensions.lip_width)
        self.expression_scale = Standardiser(dimensions.expression_width)
        self.schedule = cosine_schedule(config.diffusion_steps)

    def set_statistics(self, statistics: MotionStatistics) -> None:
        """Sets the mean and deviation of the training set's latents."""
        self.lip_scale.set(statistics.lip_mean, statistics.lip_std)
        self.expression_scale.set(statistics.expression_mean, statistics.expression_std)

    def lip(self, audio: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predicts lip latents l_a. Without gradients, long audio is processed in chunks to bound the memory.

        Args:
            audio: (B, N, L, D) audio features.
            mask: (B, N) bool, False where padded; None for no padding.

        Returns:
            (B, N, d_l) standardised latents.
        """
        mask = _mask_of(audio) if mask is None else mask
        total = audio.shape[1]
        if torch.is_grad_enabled() or total <= FRAMES_AT_ONCE:
            return self.audio_to_lip(audio, mask)
        parts = []
        for first in range(0, total, FRAMES_AT_ONCE):
            # A frame depends on REACH frames on either side, so chunks with that margin give the exact result.
            near = slice(max(0, first - REACH), first + FRAMES_AT_ONCE + REACH)
            part = self.audio_to_lip(audio[:, near], mask[:, near])
            parts.append(part[:, first - near.start :][:, :FRAMES_AT_ONCE])
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def sample_expression(
        self,
        audio: Tensor,
        portrait: Tensor,
        e_cond: Tensor,
        seeds: Sequence[int],
        mask: Tensor | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Samples an expression sequence e_a by DDIM; long audio in fused windows.

        Args:
            audio: (B, N, L, D) audio features.
            portrait: (B, H, W, 3) uint8 RGB portrait x_ref.
            e_cond: (B, d_e) standardised emotion condition.
            seeds: One seed per clip. A clip's result depends on its seed, not on the rest of the batch.
            mask: (B, N) bool, False where padded; None for no padding.
            steps: Number of DDIM steps; None for the configured number.
            guidance: Classifier-free guidance scale, 1 for no guidance; None for the configured scale.

        Returns:
            (B, N, d_e) standardised expressions; undefined where ``mask`` is False.

        Raises:
            ValueError: If there is not one seed per clip, or guidance is used without condition dropout in training.
        """
        guidance = self.config.guidance if guidance is None else guidance
        if guidance != 1.0 and self.di_cte.no_condition is None:
            raise ValueError(f"guidance {guidance}: expected 1, since model.condition_dropout was 0 in training")
        if len(seeds) != len(audio):
            raise ValueError(f"seeds: found {len(seeds)} for {len(audio)} clips, expected one per clip")
        config = self.config
        padded, mask = mask is not None, _mask_of(audio) if mask is None else mask
        if padded and audio.shape[1] > config.window and not bool(mask.all()):
            # Window positions depend on a clip's length, so clips of unequal length are sampled one at a time.
            lengths = mask.sum(1).tolist()
            alone = [
                self.sample_expression(
                    audio[i, None, :n], portrait[i, None], e_cond[i, None], [seeds[i]], None, steps, guidance
                )
                for i, n in enumerate(lengths)
            ]
            return torch.cat([F.pad(e_a, (0, 0, 0, audio.shape[1] - e_a.shape[1])) for e_a in alone])
        around = self.di_cte.surroundings(audio, portrait, mask, padded)
        lengths = mask.sum(1).tolist() if padded else [audio.shape[1]] * len(audio)
        noise = self.sequence_noise(seeds, mask.shape[1], lengths)
        count = steps or config.sampling_steps
        modulations = self._modulations(count, e_cond, guidance)

        def predict(x: Tensor, t: int) -> Tensor:
            denoise = partial(self._guided, around=around, modulations=modulations[t], guidance=guidance)
            return fuse_windows(denoise, x, config.window, config.overlap)

        return ddim_sample(predict, noise.to(around.audio), self.schedule, count)

    def _modulations(self, count: int, e_cond: Tensor, guidance: float) -> dict[int, list[Modulation]]:
        """Diffusion step -> modulation with e_cond and, with guidance, without; all steps in one pass."""
        levels, clips = trailing_steps(len(self.schedule), count), len(e_cond)
        t = torch.tensor(levels).repeat_interleave(clips).to(e_cond.device)
        rows = e_cond.repeat(count, 1)
        found = [self.di_cte.modulation(t, rows)]
        if guidance != 1.0:
            found.append(self.di_cte.modulation(t, rows, torch.ones_like(t, dtype=torch.bool)))
        return dict(zip(levels, map(list, zip(*(each.each(clips) for each in found), strict=True)), strict=True))

    def sequence_noise(self, seeds: Sequence[int], length: int, lengths: Sequence[int]) -> Tensor:
        """(B, N, d_e) noise on the CPU that depends only on each clip's seed and number of frames; 0 where padded."""
        width = self.expression_scale.mean.numel()
        noise = torch.zeros(len(seeds), length, width)
        for row, seed, frames in zip(noise, seeds, lengths, strict=True):
            row[:frames] = seeded_noise((frames, width), seed)
        return noise

    def _guided(
        self, x: Tensor, frames: slice, *, around: Surroundings, modulations: Sequence[Modulation], guidance: float
    ) -> Tensor:
        near = around.window(frames)
        conditioned, *others = (self.di_cte.denoise(x, near, modulation) for modulation in modulations)
        if not others:
            return conditioned
        return others[0] + guidance * (conditioned - others[0])


def _mask_of(audio: Tensor) -> Tensor:
    return torch.ones(audio.shape[:2], dtype=torch.bool, device=audio.device)
