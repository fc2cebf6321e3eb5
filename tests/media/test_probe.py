"""Every file that cannot be used is named with what is wrong; nothing is half read."""

from __future__ import annotations

import os
import pickle
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from media import FrameReader, MediaError, NoSound, look_at_headers, probe, read_frames, read_sound
from media.probe import header_duration
from tests.helpers.files import overwrite, without_privileges
from tests.helpers.flash_clips import frame_times, make_clip, turn
from tests.helpers.sound import sound_frame, write_sound
from tests.helpers.videos import copy_packets, encode_frames


def fails_everywhere(path, match):
    for read in (probe, lambda p: list(read_frames(p)), read_sound):
        with pytest.raises(MediaError, match=match) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_what_a_clip_holds(tmp_path):
    info = probe(make_clip(tmp_path / "clip.mp4", frame_times(Fraction(30000, 1001)), channels=2, audio_rate=44_100))
    assert (info.width, info.height, info.video_codec, info.audio_codec) == (96, 64, "h264", "aac")
    assert (info.has_sound, info.sound_rate, info.channels, info.rotated) == (True, 44_100, 2, False)
    assert info.fps == pytest.approx(29.97, abs=1e-3)
    assert info.duration == pytest.approx(59 * 1001 / 30000, abs=1e-3)
    assert (info.first_frame, info.first_sound, info.pixel_aspect) == (0, 0, 1)


def test_pixels_that_are_not_square_are_reported(tmp_path):
    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    assert probe(tmp_path / "wide.mp4").pixel_aspect == pytest.approx(4 / 3, abs=1e-3)


def test_missing_empty_or_something_else(tmp_path):
    fails_everywhere(tmp_path / "gone.mp4", "no such file")
    fails_everywhere(tmp_path, "is a folder")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    fails_everywhere(empty, r"is empty \(0 bytes\)")
    text = tmp_path / "text.mp4"
    text.write_text("<!DOCTYPE html><p>This video is private.</p>\n" * 30)
    fails_everywhere(text, "not a readable video or sound file .*<!DOCTYPE")
    for size in (1, 100, 100_000):
        noise = tmp_path / f"noise{size}.mp4"
        noise.write_bytes(np.random.default_rng(size).bytes(size))
        fails_everywhere(noise, "not a readable|holds no picture")


def test_a_still_picture_is_no_video(tmp_path):
    path = tmp_path / "picture.mp4"
    Image.new("RGB", (64, 64)).save(path, format="png")
    fails_everywhere(path, "has no video track")


def test_a_sound_file_has_no_frames(tmp_path):
    path = write_sound(tmp_path / "a.wav", np.zeros((1, 16_000), np.float32), 16_000, "pcm_s16le")
    with pytest.raises(MediaError, match="has no video track, only sound"):
        FrameReader(path)


def test_names_people_use(tmp_path):
    for name in ("face (1).mp4", "Müller#angry.mp4", "don't!.mp4", "说话.mp4", "concat:a.mp4", "50%d.mp4"):
        path = make_clip(tmp_path / name, frame_times(25, 0.4))
        reader = FrameReader(path)
        assert len(list(reader)) == 10, name
        assert len(read_sound(path)) > 0


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX file rights")
def test_no_permission(tmp_path):
    path = make_clip(tmp_path / "locked.mp4", frame_times(25, 0.4))
    path.chmod(0)
    with without_privileges():
        fails_everywhere(path, "permission denied")


@pytest.mark.parametrize("name", ["clip.mp4", "front.mp4", "clip.mkv", "clip.avi"])
def test_cut_short(tmp_path, name):
    avi = {"codec": "mpeg4", "audio": "pcm_s16le", "time_base": None}
    settings = avi if name == "clip.avi" else {"time_base": Fraction(1, 12_800)}
    path = make_clip(tmp_path / name, frame_times(25, 4.0), **settings)
    data = path.read_bytes()
    if name == "front.mp4":
        data = index_first(path)
    path.write_bytes(data[: len(data) * 2 // 3])
    expected = {
        "clip.mp4": "its index is missing: it is cut short",  # the index was in the part that is gone
        "front.mp4": r"cut short: \d+ of 100 pictures could be read",
        "clip.mkv": r"cut short: [12]\.\d+ of 4\.\d+ s are in the file",
        "clip.avi": "damaged or cut short",
    }
    fails_everywhere(path, expected[name])


def index_first(path):
    """The bytes of the same clip with its index before the pictures, as web servers have it."""
    out = path.with_name("moved.mp4")
    with av.open(str(path)) as source, av.open(str(out), "w", options={"movflags": "+faststart"}) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return out.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "filling"),
    [("libx264", "random"), ("mpeg4", "random"), ("mjpeg", "random"), ("libx264", "zeros"), ("libx265", "zeros")],
)
def test_damage_in_the_middle(tmp_path, codec, filling):
    quiet = {"options": {"x265-params": "log-level=none"}}
    settings = {"libx265": quiet, "mjpeg": {"pix_fmt": "yuvj420p"}}.get(codec, {})
    path = tmp_path / "clip.mkv"
    # Fifty pictures of noise: every packet is large enough to damage.
    encode_frames(path, np.random.default_rng(0).integers(0, 255, (50, 64, 96, 3), np.uint8), codec, **settings)
    FrameReader(path).check()
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[25]
        start, size, head = packet.pos, packet.size, bytes(packet)[:32]
    length = min(400, size // 2)
    place = path.read_bytes().find(head, start) + size // 3
    overwrite(path, place, bytes(length) if filling == "zeros" else np.random.default_rng(0).bytes(length))
    with pytest.raises(MediaError, match=r"clip\.mkv: (\d+ of 50 pictures could be decoded|.* a hole of zero bytes)"):
        list(FrameReader(path))


def test_a_cut_in_the_middle_of_a_group_is_noticed(tmp_path):
    """Copied without re-encoding from between two keyframes: the first second refers to pictures that are gone."""
    whole, cut = make_clip(tmp_path / "whole.mkv", frame_times(25, 4.0), options={"g": "50"}), tmp_path / "cut.mkv"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None and packet.pts >= 1400]
        copy_packets(packets, target, target.add_stream_from_template(source.streams.video[0]))
    with pytest.raises(MediaError, match=r"cut\.mkv: \d+ of \d+ pictures could be decoded"):
        next(iter(FrameReader(cut)))


def test_cover_art_is_no_video(tmp_path):
    path = tmp_path / "song.m4a"
    Image.new("RGB", (64, 64), "red").save(tmp_path / "cover.jpg")
    with av.open(str(path), "w", format="mp4") as container, av.open(str(tmp_path / "cover.jpg")) as cover:
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        picture = container.add_stream_from_template(cover.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic
        container.mux(sound.encode(sound_frame(np.zeros((1, 16_000), np.float32), 16_000)))
        container.mux(sound.encode())
        copy_packets(cover.demux(), container, picture)
    info = probe(path)
    assert (info.width, info.has_sound) == (0, True)
    assert len(read_sound(path)) == 16_000


def test_a_file_that_changes_is_read_again(tmp_path):
    path = make_clip(tmp_path / "clip.mp4", frame_times(25, 0.4))
    assert probe(path).duration == pytest.approx(0.4)
    make_clip(path, frame_times(25, 0.8))
    assert probe(path).duration == pytest.approx(0.8)


def test_turned_frames_are_probed_upright(tmp_path):
    path = make_clip(tmp_path / "clip.mp4", frame_times(25, 0.4))
    turn(path, (0, 1, -1, 0), 96, 64)
    assert (probe(path).width, probe(path).height) == (64, 96)


def test_errors_cross_process_borders():
    for error in (MediaError("a.mp4: broken"), NoSound("a.mp4: no sound")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)


@pytest.mark.parametrize(
    ("name", "options", "trusted"),
    [
        ("clip.mp4", {}, True),
        ("clip.mov", {}, True),
        ("clip.mkv", {}, True),
        ("part.mp4", {"movflags": "frag_keyframe+empty_moov"}, False),
        ("clip.ts", {}, False),
        ("clip.avi", {}, False),
    ],
)
def test_the_header_gives_the_length_or_nothing(tmp_path, name, options, trusted):
    path = tmp_path / name
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(60):
            picture = np.full((48, 64, 3), 3 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    found = header_duration(path)
    assert (found is not None) == trusted
    assert found is None or found == pytest.approx(probe(path).duration, abs=0.1)
    if name == "clip.mp4":
        (answer, other) = look_at_headers([path, tmp_path / "missing.mp4"])
        assert (answer, other) == (found, None)


def test_the_header_of_a_file_that_is_cut_short_tells_nothing(tmp_path):
    path = tmp_path / "clip.mp4"
    frames = [np.full((48, 64, 3), 4 * number, np.uint8) for number in range(50)]
    encode_frames(path, frames, "mpeg4", options={"qmin": "1"}, container_options={"movflags": "faststart"})
    assert header_duration(path) == pytest.approx(probe(path).duration, abs=0.1)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 20])
    assert header_duration(path) is None
    path.write_bytes(b"no video")
    assert header_duration(path) is None


def test_headers_of_real_clips_are_right(assets):
    for path in sorted((assets / "data").rglob("*.mp4")):
        assert header_duration(path) == pytest.approx(probe(path).duration, abs=0.1), path
