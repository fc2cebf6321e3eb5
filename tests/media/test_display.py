"""Pictures are shown as they are meant: square pixels, whole pictures, colours of the right standard."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from media import FrameReader, MediaError, probe
from tests.helpers.flash_clips import turn

SIDE = 96
# sRGB-like levels of the patches: greys, skin, and muted colours.
PATCHES = np.array([(0.2,) * 3, (0.5,) * 3, (0.8,) * 3, (0.75, 0.55, 0.45), (0.35, 0.5, 0.4), (0.4, 0.45, 0.6)])
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087


def patches(width: int, height: int) -> np.ndarray:
    return np.repeat(np.repeat(PATCHES[None], height, 0), width // len(PATCHES), 1)


def found(picture: np.ndarray) -> np.ndarray:
    """(patches, 3) levels in the middle of each patch."""
    step = picture.shape[1] // len(PATCHES)
    return np.stack([picture[:, n * step + step // 4 : (n + 1) * step - step // 4].mean((0, 1)) for n in range(6)])


def write(path: Path, frames: list[av.VideoFrame], codec: str = "ffv1", aspect: Fraction | None = None, **tags) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=tags.pop("options", {}))
        first = frames[0]
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, first.format.name
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def disc(width: int, height: int) -> np.ndarray:
    """A disc that is round if the picture is shown square."""
    y, x = (np.arange(n) / n - 0.5 + 0.5 / n for n in (height, width))
    inside = np.hypot(*np.meshgrid(x, y)) < 0.3
    return np.repeat(inside[..., None] * np.uint8(220), 3, 2)


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(3, 4)])
@pytest.mark.parametrize("lying", [False, True])
def test_pixels_become_square(tmp_path, aspect, lying):
    width, height = (SIDE * 3 // 4, SIDE) if aspect > 1 else (SIDE, SIDE * 3 // 4)
    frame = av.VideoFrame.from_ndarray(disc(width, height)).reformat(format="yuv420p")
    path = write(tmp_path / "clip.mp4", [frame], "libx264", aspect)
    if lying:
        turn(path, (0, 1, -1, 0), width, height)
    picture = next(iter(FrameReader(path)))
    info = probe(path)
    assert picture.shape == (SIDE, SIDE, 3)
    assert FrameReader(path).size == (info.width, info.height) == (SIDE, SIDE)
    assert (info.pixel_aspect, info.rotated) == (pytest.approx(float(aspect)), lying)
    assert np.abs(picture.astype(float) - disc(SIDE, SIDE)).mean() < 4


def test_a_ratio_that_containers_round_changes_nothing(tmp_path):
    frame = av.VideoFrame.from_ndarray(disc(SIDE, SIDE)).reformat(format="yuv420p")
    path = write(tmp_path / "clip.mp4", [frame], "libx264", Fraction(255, 256))
    assert next(iter(FrameReader(path))).shape == (SIDE, SIDE, 3)


def test_a_ratio_that_no_camera_has_is_refused(tmp_path):
    frame = av.VideoFrame.from_ndarray(disc(SIDE, SIDE)).reformat(format="yuv420p")
    path = write(tmp_path / "clip.mp4", [frame], "libx264", Fraction(5, 1))
    with pytest.raises(MediaError, match=r"clip.mp4: its pixels are 5 times as wide as high, expected 0.25 to 4"):
        FrameReader(path)


def test_fields_become_whole_pictures(tmp_path):
    """A bar moves to the right between the two fields of each picture."""

    def moment(field: int) -> np.ndarray:
        picture = np.full((SIDE, SIDE), 40.0)
        picture[:, 10 + 3 * field : 30 + 3 * field] = 200
        return picture

    frames = []
    for number in range(8):
        woven = moment(2 * number)
        woven[::2] = moment(2 * number + 1)[::2]  # the upper field is later
        grey = np.repeat(woven.astype(np.uint8)[..., None], 3, 2)
        frames.append(av.VideoFrame.from_ndarray(grey).reformat(format="yuv420p"))
    options = {"x264-params": "interlaced=1:bff=1", "qp": "4", "flags": "+ildct+ilme"}
    path = write(tmp_path / "clip.mkv", frames, "libx264", options=options)
    shown = list(FrameReader(path))
    assert len(shown) == 8
    for number, picture in enumerate(shown):
        error = np.abs(picture[..., 0] - moment(2 * number)).mean()
        woven = np.abs(moment(2 * number + 1) - moment(2 * number)).mean() / 2
        assert error < woven / 3, (number, error, woven)
    pytest.importorskip("decord")
    with pytest.raises(MediaError, match="is stored as two fields, which decord ignores"):
        list(FrameReader(path, reader="decord"))


def perceptual_quantizer(nits: np.ndarray) -> np.ndarray:
    """BT.2100, table 4."""
    y = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hybrid_log_gamma(nits: np.ndarray) -> np.ndarray:
    """BT.2100, table 5, on a display of 1000 cd/m^2."""
    luminance = (nits @ [0.2627, 0.6780, 0.0593])[..., None] / 1000
    scene = nits / 1000 / luminance ** (0.2 / 1.2)
    low = np.sqrt(3 * scene)
    return np.where(scene <= 1 / 12, low, 0.17883277 * np.log(12 * np.maximum(scene, 0.05) - 0.28466892) + 0.55991073)


@pytest.mark.slow
@pytest.mark.parametrize(("transfer", "coded"), [(16, perceptual_quantizer), (18, hybrid_log_gamma)])
def test_high_dynamic_range_is_mapped(tmp_path, transfer, coded):
    levels = patches(SIDE, SIDE)
    signal = coded(203 * levels**2.4 @ TO_2020.T)  # white at 203 cd/m^2, BT.2408
    frame = av.VideoFrame.from_ndarray((signal * 65535).round().astype(np.uint16), format="rgb48le")
    frame = frame.reformat(format="yuv444p10le", dst_colorspace=9, dst_color_range=1)
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    path = write(tmp_path / "clip.mkv", [frame] * 2, **tags)
    error = np.abs(found(next(iter(FrameReader(path)))) - PATCHES * 255)
    assert error.max() < 16, error
    assert error[:4].max() < 10, error  # greys and skin


@pytest.mark.parametrize("size", [(1284, 720), (640, 360)])
def test_large_pictures_without_a_matrix_have_bt709(tmp_path, size):
    colours = (patches(size[0] // 6 * 6, size[1]) * 255).round().astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(colours).reformat(format="yuv444p", dst_colorspace=1 if size[0] > 1280 else 5)
    frame.colorspace = 2
    picture = next(iter(FrameReader(write(tmp_path / "clip.mkv", [frame]))))
    assert np.abs(found(picture) - PATCHES * 255).max() < 3
