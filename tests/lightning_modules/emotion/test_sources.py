"""Where e_cond comes from: one source at a time, at the strength asked for, and plain words where it cannot be."""

import pytest
import torch

from configs.emotion import EmotionConfig
from lightning_modules.emotion.emotion_table import EmotionError
from lightning_modules.emotion.sources import EmotionSource, blend
from tests.helpers.emotion import expression_of, synthetic_table
from tests.helpers.refusals import refuses


@pytest.fixture(scope="module")
def source() -> EmotionSource:
    return EmotionSource(synthetic_table())


@pytest.fixture(scope="module")
def e_ref() -> torch.Tensor:
    return expression_of(10, "neutral", 1, sentence=3)[0]


class MeasuredFaces:
    """What the landmarks of two known clips say, in place of files."""

    def image(self, path):
        return expression_of(3, "happy", 3, sentence=1)[5], ("a note",)

    def video(self, path):
        return expression_of(3, "happy", 3, sentence=1), ()


@pytest.mark.slow
def test_nothing_is_the_portraits_own_expression(source, e_ref):
    resolved = source.resolve(EmotionConfig(), e_ref)
    assert torch.equal(resolved.e_cond, e_ref)
    assert (resolved.source, resolved.e_v) == ("portrait", None)


@pytest.mark.parametrize("label", ["happy", "sad", "surprised"])
def test_strength_is_exact_at_its_ends_and_a_line_between_and_beyond(source, e_ref, label):
    def at(strength):
        return source.resolve(EmotionConfig(label=label, level=3, strength=strength), e_ref).e_cond

    assert torch.equal(at(0.0), e_ref)
    assert torch.equal(at(1.0), source.table.lookup(label, 3))
    for strength in (0.25, 2.0):
        torch.testing.assert_close(at(strength) - e_ref, strength * (at(1.0) - e_ref))


@pytest.mark.parametrize("shape", [(13,), (7, 13)])
def test_blend_broadcasts_over_frames(shape):
    torch.manual_seed(0)
    e_ref, driving = torch.randn(13), torch.randn(shape)
    assert torch.equal(blend(e_ref, driving, 1.0), driving)
    assert torch.equal(blend(e_ref, driving, 0.0), e_ref.expand(shape))


def test_an_image_gives_one_latent_and_a_video_one_per_frame(e_ref):
    source = EmotionSource(faces=MeasuredFaces())
    image = source.resolve(EmotionConfig(image="anyone.png"), e_ref)
    video = source.resolve(EmotionConfig(video="anyone.mp4", strength=0.5), e_ref)
    assert torch.equal(image.e_cond, MeasuredFaces().image("")[0])
    assert (image.notes, image.e_v, video.e_cond) == (("a note",), None, None)
    torch.testing.assert_close(video.e_v, (MeasuredFaces().video("")[0] + e_ref) / 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EmotionConfig(label="happy", text="be sad"), r"emotion\.label and emotion\.text are both given"),
        (EmotionConfig(image="a.png", video="b.mp4"), r"emotion\.image and emotion\.video"),
        (EmotionConfig(level=2), r"emotion\.level=2: belongs to emotion\.label"),
        (EmotionConfig(label="happy", strength=-0.1), r"emotion\.strength=-0\.1: expected 0"),
        (EmotionConfig(strength=2.5), r"emotion\.strength=2\.5: expected 0.*to 2"),
        (EmotionConfig(strength=float("nan")), r"emotion\.strength=nan"),
        (EmotionConfig(label="hapy"), r"did you mean happy\?"),
        (EmotionConfig(text="be sad"), r"emotion\.text: needs a text mapping.*experiment=emotion"),
        (EmotionConfig(image="a.png"), r"emotion\.image: needs a landmark detector"),
    ],
)
def test_what_cannot_be_is_said(source, e_ref, config, message):
    with pytest.raises(EmotionError, match=message):
        source.resolve(config, e_ref)


def test_latents_of_another_encoder_are_refused(source):
    happy, nothing = EmotionConfig(label="happy"), torch.full((13,), float("nan"))
    refuses(EmotionError, "latent of 13 numbers, the portrait's has 30", source.resolve, happy, torch.zeros(30))
    refuses(EmotionError, "e_ref: .*NaN", source.resolve, happy, nothing)
