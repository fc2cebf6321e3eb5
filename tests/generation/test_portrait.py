"""Portraits: equal to preparation, refused if unusable, and pasted back where they were."""

import io
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from configs.command_line import compose
from configs.generation import GenerateConfig
from configs.preparation import FaceConfig, PrepareConfig
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.motion.blendshapes import BlendshapeMotion
from generation.batch import VideoCase, cases_of
from generation.errors import GenerationError
from generation.inputs import look_at_inputs
from generation.portrait import PasteBack, read_portrait
from media import MediaError, MediaInfo, MediaLimits, PictureInfo, look_at_picture, read_frames, read_picture
from preparation.clip_source import ClipSource
from preparation.prepare_clip import prepare_clip
from runtime.errors import UserError
from tests.helpers.inputs import write_portrait
from tests.helpers.videos import write_video


@pytest.fixture(scope="module")
def read(encoders):
    built, side = encoders

    def reading(path, time=None, **face):
        return read_portrait(path, built.landmarks, built.motion, side, FaceConfig(**face), time)

    return reading


def test_a_portrait_equals_a_prepared_clip_of_it(encoders, read, files, tmp_path):
    picture = np.asarray(Image.open(files / "face.png"))
    write_video(tmp_path / "still.mp4", [picture] * 24, crf=0)
    head, row = (files / "face.csv").read_text().splitlines()
    before, after = row.split(", ")[:2], row.split(", ")[3:]
    rows = [", ".join([*before, f"{index / 25:.3f}", *after]) for index in range(24)]
    (tmp_path / "still.csv").write_text("\n".join([head, *rows]) + "\n")
    config = compose("prepare", PrepareConfig, ["preset=tiny", "dataset=folder", "audio.required=false"])
    clip = ClipSource(key="still", path=tmp_path / "still.mp4", name="still.mp4", speaker="a", split="train")
    made = prepare_clip(clip, encoders[0], config)
    assert made.meta is not None, made.report
    portrait = read(files / "face.png")
    assert portrait.crop == tuple(made.meta.crop)
    names = ("boxes", "expression", "portraits", "latent")
    boxes, expression, x_ref, latent = (np.load(io.BytesIO(made.members[f"{name}.npy"]))[0] for name in names)
    np.testing.assert_array_equal(portrait.boxes, boxes)
    np.testing.assert_array_equal(portrait.e_ref.numpy(), expression)
    # H.264 halves the resolution of colour, so pixels are close, not equal.
    assert np.abs(portrait.x_ref.astype(int) - x_ref).mean() < 3
    encoded = encoders[0].codec.encode(torch.from_numpy(portrait.frame)[None].permute(0, 3, 1, 2))
    assert np.abs(encoded.numpy()[0] - latent).mean() < 0.03


@pytest.mark.parametrize("kind", ["alpha", "cmyk", "exif", "palette", "grey", "sixteen"])
def test_every_kind_of_image_shows_the_same_face(read, files, tmp_path, kind):
    truth = read(files / "face.png")
    picture = Image.open(files / "face.png").convert("RGB")
    path = tmp_path / ("a.jpg" if kind in ("cmyk", "exif") else "a.png")
    path.with_suffix(".csv").write_text((files / "face.csv").read_text())
    if kind == "alpha":
        made = picture.convert("RGBA")
        made.putpixel((0, 0), (0, 0, 0, 0))  # black, but transparent
        made.save(path)
    elif kind == "cmyk":
        picture.convert("CMYK").save(path, quality=98)
    elif kind == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6  # rotate by 90 degrees clockwise
        picture.transpose(Image.Transpose.ROTATE_90).save(path, quality=98, exif=exif)
    elif kind == "palette":
        picture.quantize(256).save(path)
    else:
        grey = np.asarray(picture.convert("L"))
        Image.fromarray(grey if kind == "grey" else grey.astype(np.uint16) * 257).save(path)
    found = read(path)
    assert found.crop == truth.crop
    wanted = truth.frame.astype(int)
    if kind in ("grey", "sixteen"):
        wanted = np.asarray(Image.fromarray(truth.frame).convert("L")).astype(int)[..., None]
    assert np.abs(found.frame.astype(int) - wanted).mean() < 6
    if kind == "alpha":
        assert (found.picture[0, 0] == 255).all()


def test_an_unusable_portrait_is_refused(read, files, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    write_portrait(tmp_path / "small.png", 60)
    shutil.copy(files / "face.png", tmp_path / "alone.png")
    for name, error, words in (
        ("none", UserError, "no such file"),
        ("text", UserError, "is not a picture"),
        ("small", GenerationError, r"small\.png: is 60x60 pixels, at least 64x64"),
        ("alone", GenerationError, r"alone\.csv: no landmark file.*landmarks=mediapipe"),
    ):
        with pytest.raises(error, match=words):
            read(tmp_path / f"{name}.png")
    with pytest.raises(GenerationError, match=r"the face is \d+ pixels high, expected at least 200"):
        read(files / "face.png", min_size=200)


def test_a_face_cut_off_by_the_picture_is_refused(read, files, tmp_path):
    Image.open(files / "face.png").crop((0, 0, 128, 80)).save(tmp_path / "cut.png")
    (tmp_path / "cut.csv").write_text((files / "face.csv").read_text())
    with pytest.raises(GenerationError, match=r"cut\.png: .*lies outside"):
        read(tmp_path / "cut.png")


def test_a_missing_face_is_refused_and_of_several_the_largest_is_used(assets, asset_weights, tmp_path):
    detector, motion = MediaPipeDetector(), BlendshapeMotion()
    Image.new("RGB", (256, 256), "green").save(tmp_path / "none.png")
    with pytest.raises(GenerationError, match=r"portrait=.*none\.png: no face was found; choose a picture"):
        read_portrait(tmp_path / "none.png", detector, motion, 128, FaceConfig())
    face = Image.open(assets / "data" / "portraits" / "sadtalker_happy.png").convert("RGB")
    both = Image.new("RGB", (480, 256))
    both.paste(face, (0, 0))
    both.paste(face.resize((200, 200)), (270, 30))
    both.save(tmp_path / "both.png")
    found = read_portrait(tmp_path / "both.png", detector, motion, 128, FaceConfig())
    assert "several faces; the largest is used" in found.notes[0]
    assert found.crop[0] + found.crop[2] / 2 < 200


def test_a_frame_of_a_video_is_a_portrait(read, files, tmp_path):
    for file in ("smile.mp4", "smile.csv"):
        shutil.copy(files / file, tmp_path / file)
    first = read(tmp_path / "smile.mp4")
    frames = list(read_frames(tmp_path / "smile.mp4"))
    np.testing.assert_array_equal(first.picture, frames[0])
    assert "is a video; its first frame is used" in first.notes[0]
    later = read(tmp_path / "smile.mp4", 0.2)
    np.testing.assert_array_equal(later.picture, frames[5])
    assert not any("is a video" in note for note in later.notes)
    assert (later.e_ref != first.e_ref).any()  # the landmarks are those of its time
    with pytest.raises(MediaError, match=r"smile\.mp4: its pictures end at 0\.400 s"):
        read(tmp_path / "smile.mp4", 60.0)
    with pytest.raises(GenerationError, match=r"portrait_time=1: .*face\.png is a picture"):
        read(files / "face.png", 1.0)
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(MediaError, match=r"text\.mp4: is not a picture; expected PNG"):
        read(tmp_path / "text.mp4")


def test_a_video_as_portrait_is_looked_at_first(files, tmp_path):
    def found(portrait):
        return look_at_inputs(VideoCase(portrait, files / "voice.wav", tmp_path / "x.mp4"))["portrait"]

    assert isinstance(found(files / "face.png"), PictureInfo)
    video = found(files / "smile.mp4")
    assert isinstance(video, MediaInfo)
    assert video.width == 128
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "list.png").write_text("#EXTM3U\n/etc/passwd\n")
    (tmp_path / "half.mp4").write_bytes((files / "smile.mp4").read_bytes()[:3000])
    for name, words in (
        ("text.png", "is not a picture; expected"),
        ("list.png", "is not a picture; expected"),
        ("half.mp4", "cut short|could be read"),
    ):
        with pytest.raises(MediaError, match=words):
            found(tmp_path / name)
    with pytest.raises(MediaError, match=r"voice\.wav: is sound; expected a picture"):
        found(files / "voice.wav")


@pytest.mark.slow
def test_a_batch_takes_a_time_in_each_row(pipeline, files, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text(
        f"portrait,speech,portrait_time\n{files}/smile.mp4,{files}/voice.wav,0.2\n{files}/smile.mp4,{files}/voice.wav,\n"
    )
    cases = cases_of(compose("generate", GenerateConfig, [f"batch={rows}", f"output={tmp_path}", "ethd=x", "steps=1"]))
    assert [case.portrait_time for case in cases] == [0.2, None]
    assert [case.output.name for case in cases] == ["smile_voice_at0.2.mp4", "smile_voice.mp4"]
    record = json.loads(pipeline.generate(cases[0]).path.with_suffix(".json").read_text())
    assert record["settings"]["portrait_time"] == 0.2


def test_heic_without_its_reader_is_one_line(files, tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        MediaError, match=r"photo\.png: is a HEIC picture, which needs pillow-heif \(pip install '\.\[heic\]'\)"
    ):
        read_picture(path)


def test_heic_is_read_and_looked_at(files, tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed (pip install '.[heic]')")
    picture = Image.open(files / "face.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    heif.from_pillow(picture.transpose(Image.Transpose.ROTATE_90)).save(
        tmp_path / "a.heic", quality=90, exif=exif.tobytes()
    )
    found = look_at_picture(tmp_path / "a.heic")
    assert (found.width, found.height, found.format) == (*picture.size, "HEIF")
    assert np.abs(read_picture(tmp_path / "a.heic").astype(int) - np.asarray(picture)).mean() < 6
    with pytest.raises(MediaError, match="128x128 pixels, more than"):
        look_at_picture(tmp_path / "a.heic", limits=MediaLimits(pixels=1000))
    data = (tmp_path / "a.heic").read_bytes()
    assert b"heic" in data[12:40]
    (tmp_path / "general.heic").write_bytes(data[:8] + b"mif1" + data[12:])  # the first brand, as cameras other than
    assert look_at_picture(tmp_path / "general.heic").format == "HEIF"  # iPhones write it; FFmpeg would read a tile
    (tmp_path / "half.heic").write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match=r"half\.heic: is a HEIC picture that is damaged"):
        look_at_picture(tmp_path / "half.heic")


def test_a_face_too_small_in_a_large_picture_is_named(assets, asset_weights, tmp_path):
    face = Image.open(assets / "data" / "portraits" / "sadtalker_happy.png").convert("RGB")
    large = Image.new("RGB", (2400, 1600), (90, 110, 90))
    large.paste(face.resize((80, 80)), (1800, 1066))
    large.save(tmp_path / "far.png")
    with pytest.raises(
        GenerationError, match=r"far\.png: the face is too small in the picture: \d+ of 1600 pixels high"
    ) as found:
        read_portrait(tmp_path / "far.png", MediaPipeDetector(), BlendshapeMotion(), 128, FaceConfig())
    assert "lit" not in str(found.value)
    assert "cut the picture out around it" in str(found.value)


@pytest.mark.parametrize(("left", "top", "side", "size"), [(20, 30, 60, (128, 128)), (0, 0, 100, (101, 101))])
def test_the_face_is_pasted_back_where_it_was(read, files, left, top, side, size):
    portrait = read(files / "face.png")
    height, width = size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    portrait = replace(portrait, picture=picture, crop=(left, top, side))
    paste = PasteBack(portrait)
    assert paste.size == (width // 2 * 2, height // 2 * 2)
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    whole = paste(red)
    assert whole.shape == (*paste.size[::-1], 3)
    outside = np.ones(size, bool)
    outside[top : top + side, left : left + side] = False
    outside = outside[: paste.size[1], : paste.size[0]]
    even = picture[: paste.size[1], : paste.size[0]]
    np.testing.assert_array_equal(whole[outside], even[outside])
    np.testing.assert_array_equal(whole[top + side // 2, left + side // 2], [255, 0, 0])
    if left == 0:  # the crop ends at the image's border: nothing to blend
        np.testing.assert_array_equal(whole[0, 0], [255, 0, 0])
    else:
        assert np.abs(whole[top, left].astype(int) - even[top, left]).max() <= 1


def test_pasting_the_portrait_itself_changes_nothing(read, files):
    portrait = read(files / "face.png", scale=1.0)
    portrait = replace(portrait, crop=(32, 40, 64), frame=portrait.picture[40:104, 32:96])
    np.testing.assert_array_equal(PasteBack(portrait)(portrait.frame), portrait.picture)
