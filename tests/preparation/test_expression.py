"""Expression latents of pictures and videos: synthetic clips with true landmarks, real faces with MediaPipe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from configs.emotion import EmotionConfig
from encoders.landmarks.sidecar import SidecarDetector
from encoders.motion.geometry import LandmarkMotion
from lightning_modules.emotion.sources import EmotionSource
from media import MediaError, encode_video
from preparation.expression import ExpressionReader, read_picture
from preparation.synthetic import identity, render_clip
from preparation.synthetic.write import openface_csv
from runtime.errors import UserError
from tests.helpers.emotion import expression_of, synthetic_table

PERSON, SIZE = 10, 128


@pytest.fixture(scope="module")
def reader() -> ExpressionReader:
    return ExpressionReader(SidecarDetector(), LandmarkMotion(), 64)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Video of a happy held-out speaker and its 13th frame as a picture, both with landmark files."""
    folder = tmp_path_factory.mktemp("faces")
    clip = render_clip(identity(PERSON), "happy", 3, 7, 1.0, SIZE)
    frames = np.stack(list(clip.frames()))
    (folder / "happy.mp4").write_bytes(encode_video(frames, fps=25))
    (folder / "happy.csv").write_text(openface_csv(clip))
    Image.fromarray(frames[12]).save(folder / "smile.png")
    head, *rows = openface_csv(clip).splitlines()
    row = rows[12].split(", ")
    row[2] = "0.000"
    (folder / "smile.csv").write_text(f"{head}\n{', '.join(row)}\n")
    return folder


def test_latents_of_a_video_match_the_true_landmarks(reader, files):
    latents, notes = reader.video(files / "happy.mp4")
    truth = expression_of(PERSON, "happy", 3, sentence=7)
    assert notes == ()
    torch.testing.assert_close(latents, truth, atol=2e-3, rtol=0)  # the file stores 0.01 pixels, of 128
    assert latents.std(0).max() > 0.01  # not constant


def test_latent_of_a_picture_matches_the_true_landmarks(reader, files):
    latent, notes = reader.image(files / "smile.png")
    torch.testing.assert_close(latent, expression_of(PERSON, "happy", 3, sentence=7)[12], atol=2e-3, rtol=0)
    assert notes == ()


@pytest.mark.slow
def test_picture_of_another_speaker_is_nearest_to_its_emotion(reader, files):
    source = EmotionSource(synthetic_table(), faces=reader)
    e_ref = expression_of(4, "neutral", 1, sentence=2)[0]
    by_image = source.resolve(EmotionConfig(image=str(files / "smile.png")), e_ref)
    assert source.table.nearest(by_image.e_cond[None])[0][0] == "happy"
    by_video = source.resolve(EmotionConfig(video=str(files / "happy.mp4"), strength=0.0), e_ref)
    assert by_video.e_cond is None
    assert torch.equal(by_video.e_v, e_ref.expand(25, -1))


def test_unreadable_files_are_named(reader, files, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes((files / "smile.png").read_bytes()[:500])
    for name, message in (
        ("nothing.png", r"nothing\.png: no such file"),
        ("text.png", r"text\.png: is not a picture"),
        ("", "is a folder, expected a picture"),
        ("cut.png", r"cut\.png: cannot be read as a picture"),
    ):
        with pytest.raises(UserError, match=message):
            reader.image(tmp_path / name)
    with pytest.raises(MediaError, match=r"text\.png"):
        reader.video(tmp_path / "text.png")


def test_missing_landmark_file_is_refused(reader, files, tmp_path):
    (tmp_path / "alone.png").write_bytes((files / "smile.png").read_bytes())
    with pytest.raises(UserError, match=r"alone\.png: .*alone\.csv.*encoders\.landmarks\.name=mediapipe"):
        reader.image(tmp_path / "alone.png")


def test_small_face_is_refused(files):
    with pytest.raises(UserError, match=r"smile\.png: the face is \d+ pixels high, expected at least 128"):
        ExpressionReader(SidecarDetector(), LandmarkMotion(), 512).image(files / "smile.png")


@pytest.fixture(scope="module")
def mediapipe_reader(assets):
    from encoders.landmarks.mediapipe_detector import MediaPipeDetector
    from encoders.motion.blendshapes import BlendshapeMotion

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOTIVETALK_WEIGHTS", str(assets / "weights"))
        return ExpressionReader(MediaPipeDetector(), BlendshapeMotion(), 128)


@pytest.fixture(scope="module")
def portrait(assets):
    return next(path for path in sorted((assets / "data" / "portraits").iterdir()) if path.suffix in (".png", ".jpg"))


def test_portrait(mediapipe_reader, portrait):
    latent, _ = mediapipe_reader.image(portrait)
    assert latent.shape == (28,)
    assert 0 <= float(latent.min()) <= float(latent.max()) <= 1


@pytest.mark.slow
def test_mirrored_picture_has_the_same_smile(mediapipe_reader, portrait, tmp_path):
    Image.open(portrait).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "m.png")
    names = list(mediapipe_reader.motion.expression_names)
    smile = [names.index("mouthSmileLeft"), names.index("mouthSmileRight")]
    one, other = mediapipe_reader.image(portrait)[0], mediapipe_reader.image(tmp_path / "m.png")[0]
    assert abs(float(one[smile].sum() - other[smile].sum())) < 0.3


def test_largest_of_several_faces_is_used_with_a_note(mediapipe_reader, portrait, tmp_path):
    picture = Image.open(portrait).convert("RGB")
    picture.thumbnail((512, 512))
    width, height = picture.size
    small = picture.resize((int(width * 0.7), int(height * 0.7)))
    both = Image.new("RGB", (width + small.width, height), (128, 128, 128))
    both.paste(picture, (0, 0))
    both.paste(small, (width, 0))
    both.save(tmp_path / "both.png")
    picture.save(tmp_path / "one.png")
    (alone, nothing), (largest, notes) = (
        mediapipe_reader.image(tmp_path / "one.png"),
        mediapipe_reader.image(tmp_path / "both.png"),
    )
    assert nothing == ()
    assert notes == (f"{tmp_path / 'both.png'}: shows several faces; the largest was used",)
    assert float((alone - largest).abs().mean()) < 0.05


def test_no_face(mediapipe_reader, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)).save(tmp_path / "noise.png")
    with pytest.raises(UserError, match=r"noise\.png: no face was found"):
        mediapipe_reader.image(tmp_path / "noise.png")


def test_picture_with_too_many_pixels_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"huge\.png: has more than .* megapixels; make it smaller$"):
        read_picture(tmp_path / "huge.png")
