"""Framings: the part of the picture that a system sees, and the same part of the real video."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmark.framing import FaceFinder, Framing, read_portrait
from benchmark.system import Portrait
from encoders.landmarks.sidecar import SidecarDetector
from runtime.errors import UserError
from tests.helpers.cases import face_csv
from tests.helpers.videos import write_video

EYES_AND_MOUTH = ((0.41, 0.42), (0.59, 0.42), (0.5, 0.42 + 0.18 * 61 / 50))


def face(size):
    """Grey picture with white dots where the landmark file has eyes and mouth."""
    picture = np.full((size, size, 3), 60, np.uint8)
    for x, y in EYES_AND_MOUTH:
        left, top = round(x * size), round(y * size)
        picture[top - 4 : top + 4, left - 4 : left + 4] = 255
    return picture


def brightest(picture, near, reach=14):
    """Centre of brightness within ``reach`` pixels of a point; pixel centres are at half-integers."""
    x, y = (round(value) for value in near)
    part = picture[y - reach : y + reach, x - reach : x + reach].mean(-1).clip(100) - 100
    rows, columns = np.indices(part.shape) + 0.5
    return (x - reach + (columns * part).sum() / part.sum(), y - reach + (rows * part).sum() / part.sum())


@pytest.fixture
def clip(tmp_path):
    """Returns make(size) -> a portrait and a video of ten darkening frames, both with landmark files."""

    def make(size=256, width=None):
        portrait, video = tmp_path / "face.png", tmp_path / f"video {size} {width}.mp4"
        Image.fromarray(face(256)).save(portrait)
        face_csv(portrait.with_suffix(".csv"), 1)
        whole = np.pad(face(size), ((0, 0), (0, (width or size) - size), (0, 0)))
        write_video(video, [(whole * (1 - index / 20)).astype(np.uint8) for index in range(10)], crf=1)
        face_csv(video.with_suffix(".csv"), 10, size)
        return portrait, video

    return make


def framed(portrait, **wanted):
    return Framing(Portrait(**wanted), portrait, FaceFinder(SidecarDetector()))


def test_portrait_and_real_video_are_cut_alike(clip):
    portrait, video = clip()
    framing = framed(portrait, framing="head", size=224)
    real = list(framing.real_frames(video, (224, 224)))
    assert (framing.picture.shape, len(real)) == ((224, 224, 3), 10)
    assert np.abs(framing.picture.astype(int) - real[0]).mean() < 3
    assert real[9].mean() < 0.65 * real[0].mean()  # frames are not repeated
    left, top, side = framing.box
    for x, y in EYES_AND_MOUTH:
        place = (np.array([x, y]) * 256 - [left, top]) * 224 / side
        assert brightest(framing.picture, place) == pytest.approx(place, abs=1)


def test_a_system_that_crops_itself_gets_the_whole_portrait(clip):
    portrait, video = clip()
    cut, whole = (framed(portrait, framing="head", size=224, crops_itself=itself) for itself in (False, True))
    assert np.array_equal(whole.picture, face(256))
    assert whole.box == cut.box
    for one, other in zip(cut.real_frames(video, (224, 224)), whole.real_frames(video, (224, 224)), strict=True):
        assert np.array_equal(one, other)


def test_pcavs_alignment_puts_eyes_and_mouth_where_pdfgc_expects_them(clip):
    portrait, video = clip()
    framing = framed(portrait, framing="pcavs", size=224)
    for place in ((87, 59), (137, 59), (112, 120)):  # published values; their pixel centres are at whole numbers
        assert brightest(framing.picture, place) == pytest.approx(np.add(place, 0.5), abs=1)
    real = next(framing.real_frames(video, (224, 224)))
    for x, y in ((87, 59), (137, 59), (112, 120)):  # PD-FGC's cut: rows 0 to 191, columns 16 to 207, enlarged to 224
        place = ((x + 0.5 - 16) * 224 / 192, (y + 0.5) * 224 / 192)
        assert brightest(real, place) == pytest.approx(place, abs=1.5)


def test_a_real_video_of_another_size_is_refused(clip):
    portrait, video = clip(128)
    with pytest.raises(UserError, match=r"256 x 256 pixels and the real video 128 x 128: its framing cannot"):
        next(framed(portrait, framing="head", size=224).real_frames(video, (224, 224)))
    portrait, video = clip(256, width=320)
    with pytest.raises(UserError, match=r"256 x 256 pixels and the real video 320 x 256: they show different parts"):
        next(framed(portrait, framing="whole").real_frames(video, (256, 256)))
    assert next(framed(portrait, framing="whole").real_frames(video, (160, 128))).shape == (128, 160, 3)


def test_portraits_of_any_kind_are_read(tmp_path):
    picture = np.zeros((80, 100, 4), np.uint8)
    picture[..., 0], picture[:40, :, 3] = 200, 255
    Image.fromarray(picture).save(tmp_path / "alpha.png")
    assert read_portrait(tmp_path / "alpha.png")[[10, 70], 50].tolist() == [[200, 0, 0], [255, 255, 255]]
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(picture[..., :3]).convert("CMYK").save(tmp_path / "turned.jpg", exif=exif)
    assert read_portrait(tmp_path / "turned.jpg").shape == (100, 80, 3)
    Image.new("L", (63, 200)).save(tmp_path / "small.png")
    with pytest.raises(UserError, match=r"63 x 200 pixels, expected at least 64"):
        read_portrait(tmp_path / "small.png")
