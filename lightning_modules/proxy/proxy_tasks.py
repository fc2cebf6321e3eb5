"""What each proxy learns: which sound belongs to which lips, who is seen and how the face moves, true expressions.

Shapes: B clips, N frames of the window, T = N - 5 windows of SyncNet, M motion latents, K factors.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.proxy import ProxyConfig
from datamodules.clip_windows import ClipBatch
from datamodules.datamodule import ShardDataModule
from metrics.functional.efid import ddfa_crop, ddfa_roi
from metrics.functional.fvd import preprocess, protocol_named
from metrics.functional.sync import audio_windows, sync_distances, sync_scores, sync_windows
from metrics.networks.proxy import ProxyExpression, ProxyImage, ProxyVideo
from metrics.networks.syncnet import WINDOW_FRAMES, SyncNet
from metrics.sync_pipeline import TrackClip, tracks_in_memory
from runtime.errors import UserError

FACE = 1  # the row of a shard's boxes that holds the face
BOX_SCALE = 1.2  # by which prepare.py widens the landmarks' hull


class Parts(NamedTuple):
    """Of one step.

    Attributes:
        loss: scalar, with gradients.
        scores: name -> scalar, logged.
    """

    loss: Tensor
    scores: dict[str, Tensor]


class Task(Protocol):
    """A network with the heads that only its training needs."""

    network: nn.Module

    def __call__(self, batch: ClipBatch) -> Parts:
        """The loss of a batch."""
        ...


class SyncTask(nn.Module):
    """Lips and sound of the same moment nearer than those of other moments of the clip (InfoNCE over -distance).

    Clips reach the network through Sync's own pipeline: face boxes, track, crop and MFCC.

    Args:
        network: to be trained.
        config: limits of the tracks.
        seed: of the changes training makes to loudness, light and side.
    """

    def __init__(self, network: SyncNet, config: ProxyConfig, seed: int) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.seed = seed
        self.scale = nn.Parameter(torch.zeros(()))  # logarithm

    def forward(self, batch: ClipBatch) -> Parts:
        """The loss over all pairs of lips and sound of each clip.

        Raises:
            UserError: if no clip of the batch has a face track.
        """
        tracks = [track for row in range(len(batch["key"])) if (track := self._track(batch, row)) is not None]
        if not tracks:
            raise UserError(
                f"no face track in {', '.join(batch['key'][:3])}: lower model.min_face={self.config.min_face:g} or "
                f"model.min_track={self.config.min_track}, or widen data.window"
            )
        device = self.scale.device
        counts = [sync_windows(len(track.frames), len(track.samples)) for track in tracks]
        lips, sounds = [], []
        for track, count in zip(tracks, counts, strict=True):
            lips.append(track.frames[: count + WINDOW_FRAMES - 1].to(device).float())
            sounds.append(audio_windows(track.samples, count))
        lip, sound = self.network.embed(lips, torch.cat(sounds).to(device))
        losses, hits, found = [], [], []
        for own, heard in zip(lip.split(counts), sound.split(counts), strict=True):
            logits = -torch.cdist(own, heard) * self.scale.exp()
            target = torch.arange(len(own), device=device)
            losses.append((F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2)
            hits.append((logits.detach().argmax(1) == target).float().mean())
            offset = sync_scores(sync_distances(own.detach(), heard.detach())).offset
            found.append(torch.tensor(float(offset == 0)))
        scores = {"top1": torch.stack(hits).mean(), "offset_found": torch.stack(found).mean()}
        return Parts(torch.stack(losses).mean(), scores)

    def _track(self, batch: ClipBatch, row: int) -> TrackClip | None:
        count = int(batch["frames"][row])
        frames, boxes = batch["video"][row, :count], batch["boxes"][row, :count, FACE]
        speech = batch["speech"][row, : count * 640].cpu()
        if self.training:
            draw = torch.Generator().manual_seed(self.seed * 1_000_003 + int(batch["draw"][row]))
            chances = torch.rand(4, generator=draw)
            speech = speech * (0.3 + 0.7 * chances[0])
            frames = (frames.float() * (0.75 + 0.5 * chances[1])).clamp(max=255).to(torch.uint8)
            if chances[2] < 0.5:
                frames, boxes = frames.flip(2), _mirrored(boxes, frames.shape[2])
            boxes = _rescaled(boxes, float(0.92 + 0.16 * chances[3]))
        detections = [box[None] for box in boxes.cpu().numpy()]
        samples = (speech * 32767).round().numpy().astype(np.int16)
        pictures = list(frames.cpu().numpy())
        tracks = tracks_in_memory(pictures, samples, detections, self.config.min_track, self.config.min_face)
        long = [track for track in tracks if len(track.frames) > WINDOW_FRAMES]
        return max(long, key=lambda track: len(track.frames), default=None)


class AppearanceTask(nn.Module):
    """Who is seen, and where the motion latents are: of every frame, or of a clip with how much they move.

    Args:
        network: of images or of clips.
        data: whose training split gives speakers and the latents' statistics.
    """

    def __init__(self, network: ProxyImage | ProxyVideo, data: ShardDataModule) -> None:
        super().__init__()
        self.network = network
        self.speakers = sorted({clip.entry.speaker for clip in data.clips["train"]})
        mean, std = _statistics(data, ("lip", "expression"))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        outputs = len(mean) * (2 if isinstance(network, ProxyVideo) else 1)
        self.who = nn.Linear(network.dimensions, len(self.speakers))
        self.motion = nn.Linear(network.dimensions, outputs)

    mean: Tensor
    std: Tensor

    def forward(self, batch: ClipBatch) -> Parts:
        """Cross-entropy of the speaker and squared error of the standardised latents."""
        latents = (torch.cat([batch["lip"], batch["expression"]], dim=-1) - self.mean) / self.std
        video = batch["video"].permute(0, 1, 4, 2, 3)  # (B, N, 3, H, W)
        if isinstance(self.network, ProxyVideo):
            features = self.network.embed(preprocess(video, protocol_named("stylegan-v")))
            target = torch.cat([latents.mean(1), latents.std(1)], dim=-1)
            repeats = 1
        else:
            features = self.network.embed(video.flatten(0, 1))
            target, repeats = latents.flatten(0, 1), video.shape[1]
        error = (self.motion(features) - target).square().mean()
        scores = {"error": error.detach()}  # in the training clips' variances
        known = [self.speakers.index(name) if name in self.speakers else -100 for name in batch["speaker"]]
        if min(known) < 0:  # people held out have no class
            return Parts(error, scores)
        who = torch.tensor(known, device=features.device).repeat_interleave(repeats)
        logits = self.who(features)
        scores["speaker"] = (logits.detach().argmax(1) == who).float().mean()
        return Parts(error + F.cross_entropy(logits, who), scores)


class ExpressionTask(nn.Module):
    """The true factors of an expression from a face crop, as regressors of a face model's coefficients learn them.

    Args:
        network: to be trained.
        config: names the factors.
        data: whose training split gives their statistics.

    Raises:
        UserError: if the shards have no such factors.
    """

    def __init__(self, network: ProxyExpression, config: ProxyConfig, data: ShardDataModule) -> None:
        super().__init__()
        self.network = network
        names = data.factor_names
        if lacking := [name for name in config.factors if name not in names]:
            raise UserError(
                f"model.factors: the shards have no {lacking[0]} (found {', '.join(names) or 'none'}); "
                "use shards of dataset=synthetic"
            )
        self.columns = [names.index(name) for name in config.factors]
        mean, std = _statistics(data, ("factors",))
        self.register_buffer("mean", mean[self.columns])
        self.register_buffer("std", std[self.columns])

    mean: Tensor
    std: Tensor

    def forward(self, batch: ClipBatch) -> Parts:
        """Squared error of the standardised factors."""
        target = ((batch["factors"][..., self.columns] - self.mean) / self.std).flatten(0, 1)
        frames, boxes = batch["video"].flatten(0, 1).cpu().numpy(), batch["boxes"][:, :, FACE].flatten(0, 1).cpu()
        hulls = _rescaled(boxes, 1 / BOX_SCALE).numpy().reshape(-1, 2, 2)
        crops = [
            ddfa_crop(frame, ddfa_roi(hull), self.network.input_size) for frame, hull in zip(frames, hulls, strict=True)
        ]
        faces = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(target.device)
        found = self.network.embed(faces)
        error = (found - target).square().mean()
        return Parts(error, {"error": error.detach()})  # in the training clips' variances


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=-1)


def _rescaled(boxes: Tensor, factor: float) -> Tensor:
    """(..., 4) boxes about their own centres."""
    low, high = boxes[..., :2], boxes[..., 2:]
    centre, half = (low + high) / 2, (high - low) / 2 * factor
    return torch.cat([centre - half, centre + half], dim=-1)


def _statistics(data: ShardDataModule, fields: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over all frames of the training split."""
    frames, total, squares = 0, torch.zeros(()), torch.zeros(())
    for clip in data.clips["train"]:
        batch = data.whole(clip, fields)
        rows = torch.cat([batch[name][0] for name in fields], dim=-1).double()  # type: ignore[literal-required]
        frames, total, squares = frames + len(rows), total + rows.sum(0), squares + rows.square().sum(0)
    mean = total / frames
    return mean.float(), (squares / frames - mean.square()).clamp(min=1e-12).sqrt().clamp(min=1e-4).float()
