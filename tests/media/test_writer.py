"""What is written is read back; what cannot be written leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from media import MediaError, VideoWriter, encode_video, probe, read_frames, read_sound
from tests.helpers import ROOT
from tests.helpers.recordings import make_as, wave_of
from tests.helpers.videos import write_video

RATE = 16_000


def moving(count, size=(96, 64)):
    """Soft gradients that move: content like faces, not noise."""
    y, x = np.mgrid[: size[1], : size[0]]
    for n in range(count):
        wave = np.stack([np.sin((x + 3 * n) / 17), np.cos((y - 2 * n) / 13), np.sin((x + y + n) / 23)], -1)
        yield (127 + 90 * wave).astype(np.uint8)


def speech(seconds, rate=RATE):
    t = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * 220 * t) * np.sin(2 * np.pi * 3 * t)).astype(np.float32)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("fps", [25.0, 30.0, 30000 / 1001])
def test_round_trip(tmp_path, fps):
    path = tmp_path / "out.mp4"
    frames = list(moving(40))
    sound = speech(40 / fps)
    with VideoWriter(path, size=(96, 64), fps=fps, sound=sound, metadata={"title": "Zoë", "seed": "7"}) as writer:
        for frame in frames:
            writer.write(frame)
        assert not path.exists()  # only the finished file has the name
    back = list(read_frames(path, fps=fps))
    assert len(back) == 40
    assert min(psnr(a, b) for a, b in zip(frames, back, strict=True)) > 30
    sound_back = read_sound(path)
    assert len(sound_back) == pytest.approx(40 / fps * RATE, abs=1)
    assert np.corrcoef(sound_back, speech(len(sound_back) / RATE)[: len(sound_back)])[0, 1] > 0.99
    assert probe(path).fps == pytest.approx(fps, rel=1e-3)
    with av.open(str(path)) as container:
        assert (container.metadata["title"], container.metadata["seed"]) == ("Zoë", "7")
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")  # plays while it is fetched
    assert os.listdir(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0, 1.7])
def test_the_sound_is_made_as_long_as_the_pictures(tmp_path, seconds):
    sound_back = read_sound(write_video(tmp_path / "out.mp4", moving(25), sound=speech(seconds)))
    assert len(sound_back) == RATE
    if seconds < 0.9:
        assert np.abs(sound_back[round((seconds + 0.1) * RATE) :]).max() < 1e-3


def test_without_sound(tmp_path):
    info = probe(write_video(tmp_path / "out.mp4", moving(5)))
    assert (info.has_sound, info.duration) == (False, pytest.approx(0.2))


def test_bytes_are_the_same_every_time(tmp_path):
    one = encode_video(moving(30), sound=speech(1.2))
    assert one == encode_video(moving(30), sound=speech(1.2))
    path = tmp_path / "in_memory.mp4"
    path.write_bytes(one)
    assert len(list(read_frames(path))) == 30
    assert len(read_sound(path)) == 30 * 640
    files = [write_video(tmp_path / name, moving(25), sound=speech(1.0)) for name in ("a.mp4", "b.mp4")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(encode_video(moving(30), crf=35)) < len(encode_video(moving(30), crf=10))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_leaving_by_an_exception_leaves_nothing(tmp_path, error):
    path = tmp_path / "out.mp4"
    path.write_text("the result of yesterday")
    with pytest.raises(error), VideoWriter(path, size=(96, 64), sound=speech(1)) as writer:  # noqa: PT012
        for frame in moving(5):
            writer.write(frame)
        raise error
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert path.read_text() == "the result of yesterday"


def test_wrong_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="even width and height, found 97x64"):
        VideoWriter(tmp_path / "out.mp4", size=(97, 64))
    with pytest.raises(ValueError, match=r"expected a frame of shape \(64, 96, 3\) uint8"):  # noqa: SIM117
        with VideoWriter(tmp_path / "out.mp4", size=(96, 64)) as writer:
            writer.write(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="at least one frame"), VideoWriter(tmp_path / "out.mp4", size=(96, 64)):
        pass
    with pytest.raises(ValueError, match="float32"):
        encode_video(moving(2), sound=np.zeros(10))
    with pytest.raises(ValueError, match="AAC cannot store 12345"):
        encode_video(moving(2), sound=speech(1), sound_rate=12_345)
    with pytest.raises(ValueError, match="at least one frame"):
        encode_video([])
    assert not os.listdir(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(MediaError, match=r"gone/out\.mp4: cannot be written \(No such file or directory\)"):  # noqa: SIM117
        with VideoWriter(tmp_path / "gone" / "out.mp4", size=(96, 64)):
            pass


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
import numpy as np
from media import MediaError, VideoWriter
rng = np.random.default_rng(0)
try:
    with VideoWriter(sys.argv[1], size=(96, 64)) as writer:
        for _ in range(60):
            writer.write(rng.integers(0, 255, (64, 96, 3), np.uint8))
except MediaError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 1_000, 200_000])
def test_a_full_disk(tmp_path, room):
    """A limit on the size of files gives the same failed writes as a full disk, at the start, early and late."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "out.mp4"), str(room)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert "out.mp4: writing failed (File too large); make room on the disk" in done.stdout
    assert os.listdir(tmp_path) == []


def test_sound_is_interleaved_with_the_pictures(tmp_path):
    """Players, and our own memory, need sound interleaved with its pictures, not after all of them."""
    path = write_video(tmp_path / "out.mp4", moving(200), sound=speech(8))
    ends = {"video": Fraction(0), "audio": Fraction(0)}
    with av.open(str(path)) as container:
        for packet in sorted((p for p in container.demux() if p.size), key=lambda p: p.pos):
            ends[packet.stream.type] = max(ends[packet.stream.type], packet.dts * packet.time_base)
            assert abs(ends["video"] - ends["audio"]) < 1.5


@pytest.mark.parametrize(("name", "muxer", "codec"), [("a.m4a", "ipod", "aac"), ("a.mp3", "mp3", "libmp3lame")])
def test_copied_sound_starts_with_the_pictures(tmp_path, name, muxer, codec):
    """Priming samples of the encoder are hidden by an edit list, and the packets end with the pictures."""
    source = make_as(tmp_path / name, wave_of(300, 2.0, 48_000)[None], muxer, codec, 48_000)
    path = tmp_path / "out.mp4"
    with VideoWriter(path, size=(96, 64), copied=source) as writer:
        for frame in moving(25):
            writer.write(frame)
    info = probe(path)
    assert (info.first_frame, info.first_sound) == (0, pytest.approx(0, abs=1e-3))
    assert info.duration == pytest.approx(1.0)
    assert info.sound_duration == pytest.approx(1.0, abs=0.04)
    back, given = read_sound(path), read_sound(source)
    assert np.abs(back[200:15_000] - given[200:15_000]).max() < 1e-3
    first = path.read_bytes()
    with VideoWriter(path, size=(96, 64), copied=source) as writer:
        for frame in moving(25):
            writer.write(frame)
    assert path.read_bytes() == first


def test_copying_what_cannot_be_copied_leaves_nothing(tmp_path):
    for name, data in (("text.mp3", b"text"), ("none.mp3", None)):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with (
            pytest.raises(MediaError, match=name.replace(".", r"\.")),
            VideoWriter(tmp_path / "out.mp4", size=(96, 64), copied=tmp_path / name),
        ):
            pass
    assert os.listdir(tmp_path) == ["text.mp3"]


def test_channels_and_peaks_are_kept(tmp_path):
    sides = np.stack([speech(1.0, 48_000) * 3, speech(1.0, 48_000)[::-1].copy()])
    path = write_video(tmp_path / "out.mp4", moving(25), sound=sides, sound_rate=48_000)
    with av.open(str(path)) as container:
        back = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert back.shape[0] == 2
    level = 20 * np.log10(np.std(back[0]) / np.std(sides[0]))
    assert level == pytest.approx(0, abs=1)
    for got, wanted in zip(back, sides, strict=True):
        assert np.corrcoef(got[:48_000], wanted)[0, 1] > 0.99
    assert np.abs(back[0]).max() == pytest.approx(np.abs(sides[0]).max(), rel=0.1)
    with pytest.raises(ValueError, match="1, 2, 6 channels"):
        VideoWriter(path, size=(96, 64), sound=np.zeros((3, 100), np.float32))
