"""Measures how well V-AID predicts lips and expressions, on clips of held-out people.

    python -m tools.quality.vaid CHECKPOINT SHARDS

Expressions are compared in standardised units. For every test clip e_cond comes from a clip of another person with the
same emotion and level, so that only the emotion can help and not the face.

Shapes: F frames of a clip, d_l and d_e lip and expression widths.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from configs.data import DataConfig
from configs.options import read_options, run_script
from datamodules.datamodule import ShardDataModule
from datamodules.order import seed_of
from datamodules.schema import ShardError
from lightning_modules.vaid.checkpoint import load_vaid
from lightning_modules.vaid.losses import info_nce
from lightning_modules.vaid.network import VAID


@dataclass(frozen=True)
class PredictedClip:
    """A clip with true and predicted latents, standardised.

    Attributes:
        key: Clip key.
        speaker: Speaker.
        emotion: Name of the emotion, or None.
        level: Level 1 to 3, or None.
        audio: (1, F, L, D) audio features.
        portrait: (1, 256, 256, 3) uint8, the earliest stored portrait.
        l_v: (F, d_l) true lip latents.
        l_a: (F, d_l) lip latents predicted from audio.
        e_v: (F, d_e) true expression latents.
        e_ref: (d_e,) expression of the portrait's frame.
    """

    key: str
    speaker: str
    emotion: str | None
    level: int | None
    audio: Tensor
    portrait: Tensor
    l_v: Tensor
    l_a: Tensor
    e_v: Tensor
    e_ref: Tensor


@dataclass(frozen=True)
class LipScores:
    """Scores of lips over whole clips.

    Attributes:
        near1: Share of frames whose nearest true latent in the clip is their own or a neighbour's.
        chance: ``near1`` of a random guess.
        r2: Explained share of the variance over all frames, pooled over standardised dimensions.
        r2_within: ``r2`` after subtracting each clip's mean from truth and prediction: what sound can explain without
            knowing the face.
    """

    near1: float
    chance: float
    r2: float
    r2_within: float


@dataclass(frozen=True)
class ExpressionScores:
    """Scores of sampled expression sequences, with e_cond from another person.

    Attributes:
        emotion: Share of clips whose mean expression is nearest to the training mean of the right emotion.
        emotion_truth: ``emotion`` of the true sequences, an upper bound set by the data.
        mse: Mean squared error.
        mse_repeated: Mean squared error of e_cond repeated over all frames.
        std_ratio: Temporal standard deviation divided by the true one.
        first_mse: Mean squared error of the first frame, with e_cond from the clip's own first frame; a continuous
            start has 0.
        first_step: Mean squared change from one true frame to the next, to compare ``first_mse`` with.
    """

    emotion: float
    emotion_truth: float
    mse: float
    mse_repeated: float
    std_ratio: float
    first_mse: float
    first_step: float


@torch.no_grad()
def predict_clips(vaid: VAID, data: ShardDataModule, split: str) -> list[PredictedClip]:
    """Predicts the latents of every whole clip of a split."""
    predicted = []
    for clip in data.clips[split]:
        entry = clip.entry
        batch = data.whole(clip, ["audio", "lip", "expression", "portraits"])
        audio = batch["audio"].float()
        predicted.append(
            PredictedClip(
                clip.key,
                entry.speaker,
                entry.emotion,
                entry.level,
                audio,
                batch["reference_portrait"],
                vaid.lip_scale(batch["lip"])[0],
                vaid.lip(audio)[0],
                vaid.expression_scale(batch["expression"])[0],
                vaid.expression_scale(batch["reference_expression"])[0],
            )
        )
    return predicted


def lip_scores(clips: Sequence[PredictedClip]) -> LipScores:
    """Computes retrieval among all frames of each clip, and explained variance."""
    near1, chance = [], []
    for clip in clips:
        frames = len(clip.l_v)
        every = torch.ones(1, frames, dtype=torch.bool)
        near1.append(info_nce(clip.l_a[None], clip.l_v[None], every).near1.item())
        chance.append((3 * frames - 2) / frames**2)
    l_v, l_a = (torch.cat([getattr(clip, name) for clip in clips]) for name in ("l_v", "l_a"))
    within_v, within_a = (
        torch.cat([getattr(clip, name) - getattr(clip, name).mean(0) for clip in clips]) for name in ("l_v", "l_a")
    )
    return LipScores(mean(near1), mean(chance), explained(l_a, l_v), explained(within_a, within_v))


@torch.no_grad()
def expression_scores(vaid: VAID, clips: Sequence[PredictedClip], known: Sequence[PredictedClip]) -> ExpressionScores:
    """Scores Di-CTE on clips of unseen people.

    Args:
        vaid: Networks.
        clips: Clips of unseen people.
        known: Training clips, for the mean of each emotion.
    """
    means = emotion_means(known)
    right, right_truth, error, repeated, ratio, first, step = [], [], [], [], [], [], []
    for clip in clips:
        source = _another(clip, clips, known)
        e_conds = torch.stack([source.e_ref, clip.e_v[0]])
        e_a, own = (
            vaid.sample_expression(clip.audio, clip.portrait, e_cond[None], [seed_of("evaluation", clip.key) >> 1])[0]
            for e_cond in e_conds
        )
        first.append((own[0] - clip.e_v[0]).square().mean().item())
        step.append(clip.e_v.diff(dim=0).square().mean().item())
        right.append(float(nearest(e_a.mean(0), means) == clip.emotion))
        right_truth.append(float(nearest(clip.e_v.mean(0), means) == clip.emotion))
        error.append((e_a - clip.e_v).square().mean().item())
        repeated.append((source.e_ref - clip.e_v).square().mean().item())
        ratio.append((e_a.std(0).mean() / clip.e_v.std(0).mean()).item())
    return ExpressionScores(*map(mean, (right, right_truth, error, repeated, ratio, first, step)))


def emotion_probe(known: Sequence[PredictedClip], unseen: Sequence[PredictedClip], latent: str = "l_a") -> float:
    """Accuracy over frames of a linear probe that classifies the emotion from one latent; chance is about 1/8.

    Args:
        known: Clips that the probe is fitted to.
        unseen: Clips of other people that it is tested on.
        latent: Field of the clips.
    """
    names = sorted({clip.emotion for clip in known if clip.emotion})

    def pairs(clips: Sequence[PredictedClip]) -> tuple[Tensor, Tensor]:
        x = torch.cat([getattr(clip, latent) for clip in clips if clip.emotion])
        y = torch.cat(
            [torch.full((len(clip.l_a),), names.index(clip.emotion)) for clip in clips if clip.emotion in names]
        )
        return x, y

    (x, y), (x_new, y_new) = pairs(known), pairs(unseen)
    centre, spread = x.mean(0), x.std(0).clamp(min=1e-6)
    x, x_new = (x - centre) / spread, (x_new - centre) / spread
    weight = torch.zeros(x.shape[1] + 1, len(names), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weight[1:] + weight[0], y) + 1e-4 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        return ((x_new @ weight[1:] + weight[0]).argmax(1) == y_new).float().mean().item()


def emotion_means(clips: Sequence[PredictedClip]) -> dict[str, Tensor]:
    """Returns emotion -> (d_e,) mean true expression over all frames."""
    groups: dict[str, list[Tensor]] = defaultdict(list)
    for clip in clips:
        if clip.emotion:
            groups[clip.emotion].append(clip.e_v)
    return {emotion: torch.cat(parts).mean(0) for emotion, parts in groups.items()}


def nearest(expression: Tensor, means: dict[str, Tensor]) -> str:
    """Returns the emotion whose mean is nearest."""
    return min(means, key=lambda emotion: float((means[emotion] - expression).square().sum()))


def explained(predicted: Tensor, true: Tensor) -> float:
    """R^2 over all rows, pooled over columns."""
    return 1 - ((true - predicted).square().sum() / (true - true.mean(0)).square().sum()).item()


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def _another(clip: PredictedClip, clips: Sequence[PredictedClip], known: Sequence[PredictedClip]) -> PredictedClip:
    """Returns a clip of another unseen person with the same emotion and level, or at least the same emotion.

    If no other unseen person shows the emotion, the clip is of a training person.
    """
    shown = ([other for other in group if other.emotion == clip.emotion] for group in (clips, known))
    others = next((found for group in shown if (found := [one for one in group if one.speaker != clip.speaker])), [])
    if not others:
        raise ShardError(f"{clip.key}: no other person shows {clip.emotion}; prepare clips of more people")
    same_level = [other for other in others if other.level == clip.level] or others
    return same_level[seed_of("source", clip.key) % len(same_level)]


def report(checkpoint: str, shards: str) -> dict[str, object]:
    """Returns all numbers of a checkpoint on the test people of the shards, or on training clips if there are none.

    Numbers that need emotion labels are left out if the shards have none.
    """
    data = ShardDataModule(DataConfig(root=shards, workers=0))
    data.setup()
    vaid = load_vaid(checkpoint, data.index.encoders)
    known, unseen = predict_clips(vaid, data, "train"), predict_clips(vaid, data, "test")
    train = {"lip_train": asdict(lip_scores(known)), "lip_train_worst": min(lip_scores([clip]).near1 for clip in known)}
    if not unseen:
        return train
    lips = {"lip": asdict(lip_scores(unseen)), **train}
    if not any(clip.emotion for clip in known):
        return lips
    return {
        **lips,
        "expression": asdict(expression_scores(vaid, unseen, known)),
        "emotion_probe_l_a": emotion_probe(known, unseen),
        "emotion_probe_l_v": emotion_probe(known, unseen, "l_v"),
    }


if __name__ == "__main__":
    places = ("checkpoint", "shards")
    run_script(lambda: print(json.dumps(report(**read_options(__doc__, sys.argv[1:], {}, places)), indent=1)))
