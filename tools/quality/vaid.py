"""How well V-AID hears lips and expression, on clips of people it was not trained on.

    python -m tools.quality.vaid CHECKPOINT SHARDS

Expressions are compared in standardised units. For every test clip e_cond is taken from a clip of another person with
the same emotion and level, so what is shown is the emotion and not the face it came from.

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
    """One whole clip: what was true and what V-AID makes of its sound. Latents are standardised.

    Attributes:
        speaker: who.
        emotion: name, or None.
        level: 1 to 3, or None.
        audio: (1, F, L, D).
        portrait: (1, 256, 256, 3) uint8, the earliest stored.
        l_v: (F, d_l).
        l_a: (F, d_l).
        e_v: (F, d_e).
        e_ref: (d_e,) of the portrait's frame.
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
    """Lips over whole clips.

    Attributes:
        near1: share of frames whose nearest true latent of the clip is their own or a neighbour.
        chance: the same for a guess.
        r2: explained share of the variance over all frames, pooled over standardised dimensions.
        r2_within: the same after each clip's own mean is taken out of the truth and the prediction: what sound can
            tell without knowing the face.
    """

    near1: float
    chance: float
    r2: float
    r2_within: float


@dataclass(frozen=True)
class ExpressionScores:
    """Sampled expression sequences, e_cond from another person.

    Attributes:
        emotion: share of clips whose sequence's mean is nearest the right emotion's mean of the training set.
        emotion_truth: the same for the true sequences, what the data allow.
        mse: to the truth.
        mse_repeated: of e_cond repeated over all frames.
        std_ratio: temporal standard deviation over the truth's.
    """

    emotion: float
    emotion_truth: float
    mse: float
    mse_repeated: float
    std_ratio: float


@torch.no_grad()
def predict_clips(vaid: VAID, data: ShardDataModule, split: str) -> list[PredictedClip]:
    """Every clip of a split, whole."""
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
    """Retrieval among all frames of each clip, and explained variance."""
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
    """Di-CTE on clips of unseen people.

    Args:
        vaid: the networks.
        clips: of unseen people.
        known: training clips, for each emotion's mean.
    """
    means = emotion_means(known)
    right, right_truth, error, repeated, ratio = [], [], [], [], []
    for clip in clips:
        source = _another(clip, clips, known)
        e_a = vaid.sample_expression(
            clip.audio, clip.portrait, source.e_ref[None], [seed_of("evaluation", clip.key) >> 1]
        )[0]
        right.append(float(nearest(e_a.mean(0), means) == clip.emotion))
        right_truth.append(float(nearest(clip.e_v.mean(0), means) == clip.emotion))
        error.append((e_a - clip.e_v).square().mean().item())
        repeated.append((source.e_ref - clip.e_v).square().mean().item())
        ratio.append((e_a.std(0).mean() / clip.e_v.std(0).mean()).item())
    return ExpressionScores(mean(right), mean(right_truth), mean(error), mean(repeated), mean(ratio))


def emotion_probe(known: Sequence[PredictedClip], unseen: Sequence[PredictedClip], latent: str = "l_a") -> float:
    """Share of frames whose emotion a linear probe tells from one latent, people apart; chance is 1/8 or so.

    Args:
        known: clips the probe is fitted to.
        unseen: clips of other people.
        latent: field of ``PredictedClip``.
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
    """Emotion -> (d_e,) mean true expression over all frames."""
    groups: dict[str, list[Tensor]] = defaultdict(list)
    for clip in clips:
        if clip.emotion:
            groups[clip.emotion].append(clip.e_v)
    return {emotion: torch.cat(parts).mean(0) for emotion, parts in groups.items()}


def nearest(expression: Tensor, means: dict[str, Tensor]) -> str:
    """The emotion whose mean lies nearest."""
    return min(means, key=lambda emotion: float((means[emotion] - expression).square().sum()))


def explained(predicted: Tensor, true: Tensor) -> float:
    """R^2 over all rows, pooled over columns."""
    return 1 - ((true - predicted).square().sum() / (true - true.mean(0)).square().sum()).item()


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def _another(clip: PredictedClip, clips: Sequence[PredictedClip], known: Sequence[PredictedClip]) -> PredictedClip:
    """A clip of another unseen person with the same emotion and level, or the same emotion at least.

    Where nobody else unseen shows the emotion, it is of a training person.
    """
    shown = ([other for other in group if other.emotion == clip.emotion] for group in (clips, known))
    others = next((found for group in shown if (found := [one for one in group if one.speaker != clip.speaker])), [])
    if not others:
        raise ShardError(f"{clip.key}: nobody else shows {clip.emotion}; prepare clips of more people")
    same_level = [other for other in others if other.level == clip.level] or others
    return same_level[seed_of("source", clip.key) % len(same_level)]


def report(checkpoint: str, shards: str) -> dict[str, object]:
    """All numbers of one checkpoint on the test people of some shards; of its training clips alone where none are.

    Where no emotions are named, those that need them are left out.
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
