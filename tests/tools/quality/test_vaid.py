"""V-AID's scores on clips with known values."""

import dataclasses

import pytest
import torch

from datamodules.schema import ShardError
from tools.quality.vaid import PredictedClip, emotion_probe, explained, expression_scores, lip_scores

D_L, D_E, F = 4, 3, 60
MEANS = {"happy": torch.tensor([2.0, 0, 0]), "sad": torch.tensor([0, 2.0, 0]), "fear": torch.tensor([0, 0, 2.0])}


def clip(speaker: str, emotion: str, seed: int, leak: float = 0.0) -> PredictedClip:
    noise = torch.Generator().manual_seed(seed)
    l_v = torch.randn(F, D_L, generator=noise)
    e_v = MEANS[emotion] + 0.3 * torch.randn(F, D_E, generator=noise)
    l_a = l_v + leak * torch.nn.functional.pad(MEANS[emotion], (0, 1))
    nothing = torch.zeros(1, F, 1, 1)
    return PredictedClip(f"{speaker}{seed}", speaker, emotion, 1, nothing, nothing, l_v, l_a, e_v, e_v[0])


def clips(speakers: str, leak: float = 0.0) -> list[PredictedClip]:
    return [clip(s, emotion, ord(s) * 10 + i, leak) for s in speakers for i, emotion in enumerate(MEANS)]


class Oracle:
    """Returns the true expressions of the next clip, or e_cond repeated."""

    def __init__(self, truths: list[PredictedClip] | None) -> None:
        # Each clip is sampled with another person's expression, then with its own first one.
        self.truths = iter([truth for truth in truths for _ in range(2)]) if truths else None

    def sample_expression(self, audio, portrait, e_cond, seeds):
        return next(self.truths).e_v[None] if self.truths else e_cond[:, None].expand(1, F, D_E)


def test_perfect_lips_score_one_and_unrelated_ones_chance():
    perfect = lip_scores(clips("ab"))
    assert (perfect.near1, perfect.r2, perfect.r2_within) == pytest.approx((1, 1, 1))
    assert perfect.chance == pytest.approx((3 * F - 2) / F**2)
    guessed = lip_scores([dataclasses.replace(c, l_a=torch.randn(F, D_L)) for c in clips("abcdef")])
    assert guessed.near1 == pytest.approx(guessed.chance, abs=0.03)
    assert guessed.r2 == pytest.approx(-1, abs=0.3)  # an independent guess of unit variance doubles the error


def test_an_offset_of_the_face_lowers_r2_but_not_r2_within():
    scores = lip_scores([dataclasses.replace(c, l_a=c.l_v + (3 if c.speaker == "a" else -3)) for c in clips("ab")])
    assert scores.r2 < 0
    assert scores.r2_within == pytest.approx(1)


def test_the_true_sequence_beats_the_repeated_condition():
    unseen, known = clips("ab"), clips("cd")
    truth = expression_scores(Oracle(unseen), unseen, known)
    assert (truth.emotion, truth.emotion_truth, truth.mse, truth.std_ratio) == pytest.approx((1, 1, 0, 1))
    repeated = expression_scores(Oracle(None), unseen, known)
    assert repeated.mse == pytest.approx(repeated.mse_repeated)
    assert repeated.first_mse == pytest.approx(0)
    assert repeated.first_step > 0
    assert repeated.std_ratio == pytest.approx(0)
    assert expression_scores(Oracle([*unseen[1:], unseen[0]]), unseen, known).emotion < 0.2


def test_the_condition_never_comes_from_the_same_person():
    unseen, known = clips("a"), [dataclasses.replace(c, e_ref=c.e_ref + 100) for c in clips("c")]
    alone = expression_scores(Oracle(None), unseen, known)  # without another unseen person a training clip is used
    assert alone.mse_repeated > 9000
    assert expression_scores(Oracle(None), clips("ab"), known).mse_repeated < 10
    with pytest.raises(ShardError, match="no other person shows"):
        expression_scores(Oracle(None), clips("a"), clips("a"))


def test_the_probe_finds_an_emotion_only_if_it_leaks():
    assert emotion_probe(clips("abcd"), clips("ef")) == pytest.approx(1 / 3, abs=0.12)
    assert emotion_probe(clips("abcd", leak=5), clips("ef", leak=5)) > 0.98


def test_explained_variance_of_the_mean_is_zero():
    x = torch.randn(100, 3)
    assert explained(x.mean(0).expand_as(x), x) == pytest.approx(0, abs=1e-6)
