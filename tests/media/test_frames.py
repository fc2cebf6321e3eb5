"""Frames are those on screen at their time, whole, and the same from both readers."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from fractions import Fraction

import av
import numpy as np
import pytest

from media import FrameReader, MediaError, probe, read_frames, read_sound
from tests.helpers import ROOT
from tests.helpers.files import overwrite
from tests.helpers.flash_clips import coded, flashes, frame_times, index_of, make_clip, turn
from tests.helpers.videos import encode_frames

NTSC = Fraction(30000, 1001)
FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}


def assert_shows(frames, source_times, zero, half, start=0.0, fps=25.0):
    """Frame n shows a source frame at most ``half`` seconds from start + n / fps."""
    for n, frame in enumerate(frames):
        shown = float(source_times[index_of(frame)]) - zero
        target = min(max(start + n / fps, float(source_times[0]) - zero), float(source_times[-1]) - zero)
        assert abs(shown - target) <= half + 2e-3, (n, shown, target)


def sound_at(samples, rate=16_000):
    return int(np.abs(samples).argmax()) / rate


def seen_at(frames, fps=25.0):
    return next(n for n, frame in enumerate(frames) if flashes(frame)) / fps


@pytest.mark.parametrize("rate", [24, 25, NTSC, 30, 50])
def test_every_rate_becomes_25(tmp_path, rate):
    times = frame_times(Fraction(rate))
    path = make_clip(tmp_path / "clip.mp4", times)
    reader = FrameReader(path)
    frames = list(reader)
    assert len(frames) == len(reader) == int(len(times) / Fraction(rate) * 25 + Fraction(1, 2))
    assert_shows(frames, times, 0.0, 0.5 / float(rate))
    assert abs(seen_at(frames) - sound_at(read_sound(path))) <= 0.04
    assert probe(path).fps == pytest.approx(float(rate), rel=1e-3)


@pytest.mark.parametrize("output", [12.5, 25.0, 60.0])
def test_other_output_rates(tmp_path, output):
    times = frame_times(NTSC)
    frames = list(read_frames(make_clip(tmp_path / "clip.mp4", times), fps=output))
    assert len(frames) == int(float(len(times) / NTSC) * output + 0.5)
    assert_shows(frames, times, 0.0, 0.5 / float(NTSC), fps=output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("clip.mkv", {}),
        ("clip.mov", {"codec": "mjpeg", "pix_fmt": "yuvj422p", "audio": "pcm_s16le"}),
        ("clip.avi", {"codec": "mpeg4", "audio": "pcm_s16le", "time_base": None}),
        ("bframes.avi", {"time_base": None, "audio": "libmp3lame", "audio_rate": 44_100}),
        ("clip.webm", {"codec": "libvpx-vp9", "audio": "libopus", "options": FAST_VP9}),
        ("vp8.webm", {"codec": "libvpx", "audio": "libopus", "channels": 2, "options": {"auto-alt-ref": "1"}}),
        ("clip.ts", {}),
    ],
)
def test_every_container(tmp_path, name, settings):
    times = frame_times(NTSC)
    path = make_clip(tmp_path / name, times, **settings)
    frames = list(read_frames(path))
    assert abs(len(frames) - 50) <= 2
    assert_shows(frames, times, -probe(path).first_frame, 0.5 / float(NTSC))
    assert abs(seen_at(frames) - sound_at(read_sound(path))) <= 0.04


def test_variable_rate_follows_the_timestamps(tmp_path):
    gaps = np.random.default_rng(3).choice([8, 16, 33, 50, 100], 60)
    times = [Fraction(int(t), 1000) for t in np.concatenate([[0], np.cumsum(gaps)])]
    path = make_clip(tmp_path / "clip.mkv", times, time_base=Fraction(1, 1000), audio=None)
    for n, frame in enumerate(read_frames(path)):
        distances = np.array([float(t) for t in times]) - min(n / 25, float(times[-1]))
        allowed = np.abs(distances[distances <= 0.02 + 1e-6])  # the nearest, but at most half an output frame early
        assert np.abs(distances[index_of(frame)]) == pytest.approx(allowed.min(), abs=1e-6)


def test_a_held_picture_stays_until_the_next_comes(tmp_path):
    times = [Fraction(0), Fraction(1, 25), Fraction(2, 25), Fraction(1), Fraction(26, 25), Fraction(27, 25)]
    path = make_clip(tmp_path / "clip.mp4", times, audio=None)
    shown = [index_of(frame) for frame in read_frames(path)]
    assert shown == [0, 1] + [2] * 23 + [3, 4, 5]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize(("video_start", "audio_start"), [(10.0, 10.0), (0.3, 0.0), (0.0, 0.3), (5.3, 5.0)])
def test_the_clock_starts_with_the_earlier_track(tmp_path, name, video_start, audio_start):
    times = frame_times(30)
    path = make_clip(tmp_path / name, times, video_start=video_start, audio_start=audio_start)
    frames, info, samples = list(read_frames(path)), probe(path), read_sound(path)
    late = max(0.0, video_start - audio_start)
    assert info.first_frame == pytest.approx(late, abs=0.03)  # Matroska may keep the encoder's priming as sound
    assert len(frames) == int(info.duration * 25 + 0.5 + 1e-6)
    assert_shows(frames, times, -info.first_frame, 0.5 / 30)
    assert abs(seen_at(frames) - sound_at(samples)) <= 0.04
    assert info.sound_duration == pytest.approx(len(samples) / 16_000, abs=1e-3)


def test_pictures_hidden_by_an_edit_list_are_not_shown(tmp_path):
    times = frame_times(25)
    path = make_clip(tmp_path / "clip.mp4", times, video_start=-0.4, audio_start=0.0, audio_seconds=1.6)
    frames = list(FrameReader(path))
    assert [index_of(frame) for frame in frames] == list(range(10, 50))
    assert abs(seen_at(frames) - sound_at(read_sound(path))) <= 0.04


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.52, 1.48), (1.013, None), (6.3, 7.1), (7.5, None)])
def test_a_span_is_the_same_as_cutting_the_whole(tmp_path, start, end):
    times = frame_times(30, 8.0 if start > 2 else 2.0)  # 240 pictures have numbers of eight bits
    path = make_clip(tmp_path / "clip.mp4", times)
    reader = FrameReader(path, start=start, end=end)
    frames = list(reader)
    last = float(probe(path).duration) if end is None else end
    assert len(frames) == int(round((last - start) * 25, 6) + 0.5)
    assert_shows(frames, times, 0.0, 0.5 / 30, start=start)
    samples = read_sound(path, start=start, end=end)
    whole = read_sound(path)[round(start * 16_000) :][: len(samples)]
    np.testing.assert_allclose(samples, whole, atol=2e-2)


def test_a_span_past_the_end_is_an_error(tmp_path):
    path = make_clip(tmp_path / "clip.mp4", frame_times(25))
    assert len(FrameReader(path, end=2.01)) == 50  # rounding is forgiven
    with pytest.raises(MediaError, match=r"clip.mp4: its pictures end at 2.000 s, 1.000 s to 3.000 s was asked for"):
        FrameReader(path, start=1.0, end=3.0)
    with pytest.raises(MediaError, match=r"2.500 s to the end was asked for"):
        FrameReader(path, start=2.5)
    with pytest.raises(ValueError, match="start=1"):
        FrameReader(path, start=1, end=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx264", "yuv420p", (96, 64)),
        ("libx264", "yuv444p", (97, 65)),
        ("libx264", "yuv420p10le", (96, 64)),
        ("libx264", "gray", (96, 64)),
        ("libx264rgb", "rgb24", (97, 65)),
        ("mjpeg", "yuvj420p", (97, 65)),
        ("mpeg4", "yuv420p", (90, 50)),
        ("ffv1", "yuv422p16le", (97, 65)),
    ],
)
def test_both_readers_give_the_same_pictures(tmp_path, codec, pix_fmt, size):
    times = frame_times(30, 0.9)  # ends before the flash
    options = {"qp": "0"} if codec == "libx264rgb" else {}
    settings = {"codec": codec, "pix_fmt": pix_fmt, "size": size, "options": options}
    path = make_clip(tmp_path / "clip.mkv", times, audio=None, time_base=Fraction(1, 30_000), **settings)
    first = FrameReader(path)
    frames = list(first)
    assert frames[0].shape == (size[1], size[0], 3)
    for frame in frames:
        truth = coded(index_of(frame), size)
        if pix_fmt == "gray":
            truth = truth.mean(-1, keepdims=True)
        assert np.abs(frame.astype(float) - truth).mean() < (8 if pix_fmt != "gray" else 25)
    pytest.importorskip("decord")
    second = FrameReader(path, reader="decord")
    exact = size == (96, 64) and pix_fmt != "yuv420p10le"  # elsewhere colour is interpolated between rows differently
    for one, other in zip(frames, second, strict=True):
        difference = np.abs(one.astype(int) - other)
        assert difference.mean() < 0.3
        assert difference.max() <= (2 if exact else 20)
    assert first.times == second.times


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),  # held upright, stored lying on its left side
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),  # a mirrored front camera
    ],
)
def test_phone_videos_are_upright(tmp_path, matrix, turned):
    path = make_clip(tmp_path / "clip.mp4", frame_times(25, 0.4), audio=None)
    straight = list(read_frames(path))
    lying = tmp_path / "lying.mp4"
    lying.write_bytes(path.read_bytes())
    turn(lying, matrix, 96, 64)
    reader = FrameReader(lying)
    for one, other in zip(straight, reader, strict=True):
        np.testing.assert_array_equal(turned(one), other)
    height, width = turned(straight[0]).shape[:2]
    info = probe(lying)
    assert (info.width, info.height) == reader.size == (width, height)
    assert info.rotated
    pytest.importorskip("decord")
    with pytest.raises(MediaError, match=r"lying.mp4: is stored turned, which decord ignores; use the reader pyav"):
        list(FrameReader(lying, reader="decord"))


@pytest.mark.parametrize(("start", "end"), [(0.0, None), (5.02, 6.1)])
def test_decord_gives_the_same_spans(tmp_path, start, end):
    pytest.importorskip("decord")
    path = make_clip(tmp_path / "clip.mp4", frame_times(NTSC, 8.0), video_start=0.3, audio_start=0.0)
    one, other = (FrameReader(path, start=start, end=end, reader=name) for name in ("pyav", "decord"))
    assert [index_of(frame) for frame in one] == [index_of(frame) for frame in other]
    assert one.times == other.times


def test_decord_reads_no_damaged_file(tmp_path):
    pytest.importorskip("decord")
    path = broken_in_the_middle(tmp_path / "clip.mkv")
    with pytest.raises(MediaError, match=r"of 50 pictures could be decoded"):
        next(iter(FrameReader(path, reader="decord")))


def test_a_reader_that_is_not_installed(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "clip.mp4", frame_times(25, 0.4), audio=None)
    monkeypatch.setitem(sys.modules, "decord", None)
    assert len(list(FrameReader(path))) == 10
    with pytest.raises(MediaError, match=r"clip.mp4: the decord reader needs decord .*; use the reader pyav"):
        list(FrameReader(path, reader="decord"))
    with pytest.raises(ValueError, match="reader=decrod: expected one of pyav, decord"):
        FrameReader(path, reader="decrod")


def broken_in_the_middle(path):
    """Fifty pictures of noise, each a keyframe, with packet 25 overwritten."""
    pictures = np.random.default_rng(0).integers(0, 255, (50, 64, 96, 3), np.uint8)
    encode_frames(path, pictures, "mjpeg", pix_fmt="yuvj420p")
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[25]
        start, size, head = packet.pos, packet.size, bytes(packet)[:32]
    place = path.read_bytes().find(head, start) + size // 3
    overwrite(path, place, np.random.default_rng(0).bytes(400))
    return path


def test_no_frame_is_given_after_damage(tmp_path):
    """What was read before the damage is right, and the reason counts what could be read of the whole."""
    path = broken_in_the_middle(tmp_path / "clip.mkv")
    reader = FrameReader(path)
    with pytest.raises(MediaError, match=r"clip.mkv: 49 of 50 pictures could be decoded \(first problem: .* at 1.00 s"):
        deque(reader)
    assert 0 < len(reader.times) <= 25
    with pytest.raises(MediaError, match=r"49 of 50"):
        FrameReader(path).check()
    FrameReader(path, end=0.8).check()  # the damage is not in this part


def test_a_size_that_changes_is_refused(tmp_path):
    parts = [tmp_path / "one.ts", tmp_path / "two.ts"]
    for part, size in zip(parts, [(64, 96), (80, 96)], strict=True):
        make_clip(part, frame_times(25, 0.4), size=size[::-1], audio=None)
    joined = tmp_path / "joined.ts"
    with av.open(str(joined), "w") as target:
        stream = target.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for place, part in enumerate(parts):
            with av.open(str(part)) as source:
                for packet in [packet for packet in source.demux(video=0) if packet.size]:
                    moved = av.Packet(bytes(packet))
                    moved.time_base, moved.stream = packet.time_base, stream
                    moved.pts, moved.dts = packet.pts + place * 90_000 // 2, packet.dts + place * 90_000 // 2
                    moved.is_keyframe = packet.is_keyframe
                    target.mux(moved)
    with pytest.raises(MediaError, match=r"its picture size changes on the way \(\[\(96, 64\), \(96, 80\)\]\)"):
        list(read_frames(joined))


def test_memory_does_not_grow_with_the_clip(tmp_path):
    pytest.importorskip("psutil")
    program = """
import sys, psutil
from media import FrameReader
process = psutil.Process()
for n, frame in enumerate(FrameReader(sys.argv[1])):
    if n == 15: before = process.memory_info().rss
print((process.memory_info().rss - before) >> 20)
"""
    path = make_clip(tmp_path / "clip.mp4", frame_times(25, 8.0), size=(1280, 720), audio=None)
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    assert int(done.stdout) < 100  # MiB; all 200 frames would be 527


@pytest.mark.slow
def test_python_ends_cleanly_with_a_clip_half_read(tmp_path):
    path = make_clip(tmp_path / "clip.mp4", frame_times(25, 8.0), size=(512, 512), audio=None)
    program = "import sys; from media import read_frames; frames = read_frames(sys.argv[1]); next(frames); print('ok')"
    command = [sys.executable, "-c", program, str(path)]
    for _ in range(3):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_repeated_frames_are_not_shared(tmp_path):
    path = make_clip(tmp_path / "clip.mp4", frame_times(10, 0.9), audio=None)
    shown = []
    for frame in read_frames(path):
        shown.append(index_of(frame))
        frame[:] = 255  # what one reader does to its frame is not seen in the next
    assert set(shown) == set(range(9))


def test_reading_twice_gives_the_same(tmp_path):
    reader = FrameReader(make_clip(tmp_path / "clip.mp4", frame_times(30), audio=None))
    for one, other in zip(reader, reader, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("video/hdtf_RD_Radio10_0_clip_0.mp4", 52),
        ("video/retalking_face4.mp4", 166),
        ("video/retalking_face5.mp4", 122),
        ("mead_style/M030_front_angry_level3_001.mp4", 98),
    ],
)
def test_real_clips(assets, name, frames):
    path = assets / "data" / name
    one = [frame.mean(dtype=np.float64) for frame in FrameReader(path)]
    assert len(one) == frames
    pytest.importorskip("decord")
    if name == "video/retalking_face4.mp4":  # high definition without a matrix
        with pytest.raises(MediaError, match="without naming its colours, which decord ignores; use the reader pyav"):
            next(iter(FrameReader(path, reader="decord")))
        return
    other = [frame.mean(dtype=np.float64) for frame in FrameReader(path, reader="decord")]
    np.testing.assert_allclose(one, other, atol=0.5)


@pytest.mark.slow
def test_full_hd_is_read_a_few_frames_at_a_time(assets):
    reader = FrameReader(assets / "data/video/latentsync_demo1.mp4", start=4.0, end=4.6)
    frames = list(reader)
    assert frames[0].shape == (1920, 1080, 3)
    assert len(frames) == 15
    np.testing.assert_allclose(reader.times, 4.0 + np.arange(15) / 25, atol=1e-6)
