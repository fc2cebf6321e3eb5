"""Driving signals: the paper's two settings, modes and variants that ignore inputs, and sequences of other lengths."""

from dataclasses import replace

import pytest
import torch

from configs.preparation import FaceConfig
from generation.driving import driving_signals, to_length
from generation.errors import GenerationError
from generation.portrait import read_portrait
from lightning_modules.emotion.sources import ResolvedEmotion
from lightning_modules.ethd.export import load_export
from lightning_modules.vaid.checkpoint import load_vaid

FRAMES = 12


@pytest.mark.parametrize(
    ("extend", "order"), [("pingpong", [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2]), ("hold", [0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3])]
)
def test_a_short_driving_video_is_extended(extend, order):
    source = torch.arange(4.0)[:, None]
    found, notes = to_length(source, 11, extend)
    assert found[:, 0].tolist() == order
    assert notes == (f"emotion.video: 4 frames extended to 11 by {extend}",)
    assert to_length(source[:1], 3, extend)[0].tolist() == [[0], [0], [0]]


def test_other_lengths_are_kept_cut_or_refused():
    source = torch.arange(4.0)[:, None]
    same, notes = to_length(source, 4, "error")
    assert torch.equal(same, source)
    assert notes == ()
    cut, notes = to_length(source, 3, "error")
    assert cut[:, 0].tolist() == [0, 1, 2]
    assert "only the first 3 are used" in notes[0]
    with pytest.raises(GenerationError, match=r"has 4 frames, the speech 5.*emotion\.extend"):
        to_length(source, 5, "error")


@pytest.fixture(scope="module")
def parts(runs, encoders, files):
    """V-AID, audio features and portrait."""
    built, side = encoders
    vaid = load_export(runs / "ethd").vaid
    torch.manual_seed(0)
    audio = torch.randn(FRAMES, built.audio.layers, built.audio.width)
    return vaid, audio, read_portrait(files / "face.png", built.landmarks, built.motion, side, FaceConfig())


def signals_of(parts, variant="full", vaid=None, emotion=None, **options):
    trained, audio, portrait = parts
    emotion = emotion or ResolvedEmotion("portrait", e_cond=portrait.e_ref)
    return driving_signals(vaid or trained, variant, audio, portrait, emotion, trained_with=trained, **options)


@pytest.mark.slow
def test_speech_and_emotion_determine_the_signals(parts):
    vaid, audio, portrait = parts
    signals, notes = signals_of(parts, seed=3)
    assert notes == ()
    torch.testing.assert_close(signals.lip, vaid.lip(audio[None]))
    torch.testing.assert_close(signals.e_ref[0], vaid.expression_scale(portrait.e_ref))
    assert signals.e_dri.shape == (1, FRAMES, len(portrait.e_ref))
    assert torch.equal(signals.e_dri, signals_of(parts, seed=3)[0].e_dri)
    assert not torch.equal(signals.e_dri, signals_of(parts, seed=4)[0].e_dri)
    smile = ResolvedEmotion("label", e_cond=portrait.e_ref + 0.5)
    assert not torch.equal(signals.e_dri, signals_of(parts, seed=3, emotion=smile)[0].e_dri)


def test_a_driving_video_is_used_frame_by_frame(parts):
    vaid, _, portrait = parts
    e_v = torch.randn(FRAMES, len(portrait.e_ref))
    signals, _ = signals_of(parts, emotion=ResolvedEmotion("video", e_v=e_v))
    torch.testing.assert_close(signals.e_dri[0], vaid.expression_scale(e_v))


def test_lips_only_and_expression_only(parts):
    both, _ = signals_of(parts)
    lips, _ = signals_of(parts, mode="lips")
    assert torch.equal(lips.lip, both.lip)
    assert torch.equal(lips.e_dri[0], both.e_ref.expand(FRAMES, -1))  # bit-equal: the injector then adds nothing
    expression, _ = signals_of(parts, mode="expression")
    assert expression.lip is None
    assert torch.equal(expression.e_dri, both.e_dri)


def test_the_strength_scales_lips_around_the_mean_of_the_training(parts):
    plain, _ = signals_of(parts)
    strong, notes = signals_of(parts, lip_strength=1.5)
    assert notes == ()
    assert torch.equal(strong.lip, 1.5 * plain.lip)
    assert torch.equal(strong.e_dri, plain.e_dri)
    assert torch.equal(signals_of(parts, lip_strength=1.0)[0].lip, plain.lip)
    assert not signals_of(parts, lip_strength=0.0)[0].lip.any()
    for options, words in (
        ({"variant": "wo_lip"}, r"this network (variant wo_lip) has no lip input"),
        ({"variant": "no_decouple"}, r"this network (variant no_decouple) has no lip input"),
        ({"mode": "expression"}, "with drive=expression"),
    ):
        _, (note,) = signals_of(parts, lip_strength=1.5, **options)
        assert note.startswith("lips.strength: has no effect")
        assert words in note


def test_a_variant_gets_its_own_inputs(parts):
    _, audio, portrait = parts
    e_v = torch.randn(FRAMES, len(portrait.e_ref))
    asked = ResolvedEmotion("video", e_v=e_v)
    no_decouple, notes = signals_of(parts, "no_decouple", emotion=asked)
    assert torch.equal(no_decouple.audio[0], audio)
    assert "emotion.video: has no effect" in notes[0]
    assert signals_of(parts, "wo_lip")[0].lip is None
    without, notes = signals_of(parts, "wo_exp", emotion=asked, mode="expression")
    assert without.e_dri is without.lip is None
    assert len(notes) == 2
    repeated, _ = signals_of(parts, "wo_dicte", emotion=asked)
    torch.testing.assert_close(repeated.e_cond[0], parts[0].expression_scale(e_v.mean(0)))
    own, _ = signals_of(parts, "wo_dicte", mode="lips")
    assert torch.equal(own.e_cond, own.e_ref)


@pytest.mark.parametrize("variant", ["wo_exp", "no_decouple", "wo_dicte"])
def test_blinks_without_a_driving_expression_are_noted(parts, variant):
    _, notes = signals_of(parts, variant, blinks=5.0, eyelids={9: 0.0})
    assert notes == (f"motion.blinks: has no effect; this network (variant {variant}) has no e_dri",)


@pytest.mark.parametrize("variant", ["wo_exp", "no_decouple", "wo_dicte"])
def test_head_motion_without_a_driving_expression_is_noted(parts, variant):
    _, notes = signals_of(parts, variant, head=0.5, pose=[9])
    assert notes == (f"motion.head: has no effect; this network (variant {variant}) has no e_dri",)


def test_the_head_moves_less(parts):
    usual, less = (signals_of(parts, head=head, pose=[9])[0].e_dri for head in (1.0, 0.5))
    torch.testing.assert_close(less[..., 9].std(), usual[..., 9].std() / 2)
    assert torch.equal(less[..., :9], usual[..., :9])


def test_blinks_of_the_portraits_own_expression(parts):
    both, _ = signals_of(parts, mode="lips")
    moved, notes = signals_of(parts, mode="lips", blinks=60.0, eyelids={9: 0.0}, seed=1)
    assert notes == ()
    assert torch.equal(moved.e_dri[..., :9], both.e_dri[..., :9])


def test_another_vaid_is_converted_to_the_units_of_the_training(parts, runs):
    trained, audio, _ = parts
    other = load_vaid(runs / "other_vaid" / "checkpoints" / "last.ckpt")
    signals, _ = signals_of(parts, vaid=other)
    wanted = other.lip(audio[None]) * other.lip_scale.std + other.lip_scale.mean
    found = signals.lip * trained.lip_scale.std + trained.lip_scale.mean
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(signals.lip, other.lip(audio[None]))
    assert replace(signals, lip=None).e_dri.isfinite().all()
