"""Blinks at a chosen rate: their times, their shape, and what of a driving expression they replace."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from encoders.motion.blendshapes import BlendshapeMotion
from encoders.motion.geometry import LandmarkMotion
from encoders.motion.pdfgc import PDFGCMotion
from encoders.protocols import FPS, Identity
from generation.blinks import LENGTH, REFRACTORY, blink_starts, closure, eyelids_of, with_blinks
from generation.errors import GenerationError

MINUTE = 60 * FPS


@pytest.mark.parametrize("blinks", [0, 4, 17, 26, 60])
def test_the_rate_is_that_asked_for(blinks):
    for seed in range(20):
        starts = blink_starts(MINUTE, blinks, seed)
        assert len(starts) == blinks
        assert all(later - earlier >= LENGTH + REFRACTORY for earlier, later in zip(starts, starts[1:], strict=False))
        assert not starts or (starts[0] >= 0 and starts[-1] + LENGTH <= MINUTE)


def test_short_videos_have_the_rate_in_the_mean():
    counts = [len(blink_starts(2 * FPS, 17, seed)) for seed in range(2000)]
    assert set(counts) == {0, 1}
    assert np.mean(counts) == pytest.approx(17 / 30, abs=0.03)
    assert blink_starts(LENGTH - 1, 60, 0) == blink_starts(1, 60, 0) == []


def test_times_depend_on_the_seed_and_are_as_even_as_chance():
    assert blink_starts(MINUTE, 17, 3) == blink_starts(MINUTE, 17, 3) != blink_starts(MINUTE, 17, 4)
    places = np.concatenate([blink_starts(MINUTE, 17, seed) for seed in range(200)])
    counts, _ = np.histogram(places, 10, (0, MINUTE - LENGTH + 1))
    assert counts.min() > 0.8 * counts.mean()
    gaps = np.concatenate([np.diff(blink_starts(MINUTE, 17, seed)) for seed in range(200)]) - LENGTH - REFRACTORY
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.15)  # of an exponential distribution they are equal


def test_shape_of_a_blink():
    shut = closure(20, [4])
    assert shut.argmax() == 6
    assert shut[6] == 1
    assert (shut[:4] == 0).all()
    assert shut[11:].abs().max() < 1e-6
    assert (shut[4:7].diff() > 0).all()
    assert (shut[6:12].diff() < 0).all()


@pytest.mark.parametrize("closed", [0.0, 0.65])  # eyes open above 0 as in landmarks, or below as in blendshapes
def test_predicted_blinks_are_replaced_and_all_else_is_kept(closed):
    side = 1 if closed == 0 else -1
    rest = closed + side * (0.3 + 0.05 * torch.sin(torch.arange(500) / 60))  # eyes that open and narrow slowly
    e_dri = torch.randn(1, 500, 4)
    e_dri[..., 1] = e_dri[..., 3] = rest
    dip = closure(500, [40, 300])
    e_dri[..., [1, 3]] += (closed - e_dri[..., [1, 3]]) * dip[:, None]
    eyelids = {1: closed, 3: closed}
    none = with_blinks(e_dri, eyelids, 0, 0)
    assert torch.equal(none[..., [0, 2]], e_dri[..., [0, 2]])
    torch.testing.assert_close(none[0, :, 1], rest, atol=0.01, rtol=0)
    moved = with_blinks(e_dri, eyelids, 15, 7)
    starts = blink_starts(500, 15, 7)
    assert len(starts) == 5
    assert (moved[0, :, 3] - closed).abs().argsort()[:5].sort().values.tolist() == [start + 2 for start in starts]
    assert (moved[0, [start + 2 for start in starts], 1] - closed).abs().max() < 1e-6
    away = torch.ones(500, dtype=torch.bool)
    for start in starts:
        away[start : start + LENGTH] = False
    assert torch.equal(moved[0, away], none[0, away])


def test_encoders_name_their_eyelids():
    for encoder in (LandmarkMotion, BlendshapeMotion):
        assert {encoder.latent_names()[1][place].lower()[:8] for place in encoder.eyelids} <= {"eye_open", "eyeblink"}
        assert len(encoder.eyelids) == 2


def test_an_encoder_without_eyelids_is_refused():
    pdfgc = SimpleNamespace(identity=Identity("pdfgc"))
    assert not hasattr(PDFGCMotion, "eyelids")
    with pytest.raises(GenerationError, match=r"^motion\.blinks=15: .* pdfgc has no eyelids.*blendshapes or landmarks"):
        eyelids_of(pdfgc, 15)
