"""Every door of media is handed over a hundred files that point elsewhere, ask for too much, or are damaged."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import media.look
from datamodules.decoding import decode_frames, decode_speech
from datamodules.schema import ShardError
from media import (
    FrameReader,
    LookLimit,
    MediaError,
    MediaLimits,
    dangerous_member,
    decode_flac,
    encode_flac,
    encode_video,
    look_at,
    look_at_picture,
    look_at_recording,
    probe,
    read_picture,
    read_recording,
    read_sound,
)
from media.source import CONTAINERS
from runtime.stopping import stoppable
from tests.helpers import ROOT
from tests.helpers.hostile_media import box, exceeding, fill, full, make_tone, make_video, mp4, mp4_track
from tests.helpers.sound import write_wav
from tests.helpers.watching import Watch, listening

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and devices are files on POSIX systems only")
SLOW = {"sparse.wav", "edits.mp4", "a_billion_frames.mp4", "past_the_end.mp4"}  # for the child process alone
LONG = MediaLimits(look_seconds=120.0)  # the machine may be busy


@pytest.fixture(scope="module")
def listener():
    with listening() as found:
        yield found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, listener):
    folder = tmp_path_factory.mktemp("hostile")
    canary = make_video(folder / "canary.mp4")
    return canary, *fill(folder, canary, listener[0])


def frames_of(path):
    return sum(1 for _ in FrameReader(path))


def answer(door, path):
    """What a door says: a reading, or an error in one line. Any other error fails the test."""
    try:
        return door(path)
    except (MediaError, ShardError) as error:
        found = error
    assert "\n" not in str(found).replace(str(path), ""), found
    return found


@pytest.mark.slow
def test_nothing_elsewhere_is_read_or_asked(corpus, listener, monkeypatch):
    """No file of the corpus makes any door open the canary, write a file, ask the server, or fail in another way."""
    canary, good, hostile = corpus
    assert len(hostile) >= 130
    if not sys.platform.startswith("linux"):
        pytest.skip("the watch is Linux's")
    monkeypatch.chdir(canary.parent)  # members of shards have no folder of their own
    watch = Watch(canary)
    playlist = canary.with_name("playlist.m3u8")
    with av.open(str(playlist)):
        assert watch.count() > 0, "without the door, FFmpeg follows the playlist"
    names = sorted(os.listdir(canary.parent))
    read = {}
    for path in hostile:
        looks = (look_at, look_at_recording, look_at_picture)
        doors = [functools.partial(look, limits=LONG) for look in looks]
        if path.name == "sparse.wav":
            doors = []
        elif path.name not in SLOW:
            doors += [probe, read_sound, read_recording, frames_of, read_picture]
        read[path.name] = [answer(door, path) for door in doors]
        assert watch.count() == 0, path
    for path in hostile:
        if not os.path.isfile(path) or path.name == "memory.mp4" or path.stat().st_size > 1 << 24 or path.name in SLOW:
            continue
        data = path.read_bytes()
        for door in (decode_flac, lambda d: decode_speech(d, "x"), lambda d: decode_frames(d, 0, 1, "x")):
            answer(door, data)
        assert watch.count() == 0, path
    assert listener[1] == []
    assert sorted(os.listdir(canary.parent)) == names
    for name, found in read.items():
        if name.startswith(("playlist", "remote", "itself", "mapped", "concat", "described", "dash", "redirect")):
            assert all(isinstance(one, MediaError) for one in found), name
    # Damage that concerns nobody's picture or sound is read over.
    for name in ("nan_duration.mkv", "negative_duration.mkv"):
        assert read[name][0].duration == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
def test_good_files_of_every_container_are_read(corpus):
    for kind, path in corpus[1].items():
        if kind.startswith("picture"):
            assert look_at_picture(path, limits=LONG).width == 64
        else:
            if kind.startswith("sound"):
                assert look_at_recording(path, limits=LONG).sound_duration == pytest.approx(1.0, abs=0.15)
                assert read_recording(path).notes == ()
            info = look_at(path, limits=LONG)
            assert max(info.duration, info.sound_duration) == pytest.approx(1.0, abs=0.15)
            assert info == probe(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jump.mkv", "picture track lasts 400000 s by its timestamps, expected at most 86400 s"),
        ("tracks.mp4", "has 1000 tracks, expected at most 100"),
        ("palette_of_177_megapixels.png", "13300x13300 pixels, more than 40 megapixels"),
        ("sparse.webp", "274877906944 bytes, a picture may have"),
        ("pipe.mp4", "is a pipe, socket or device"),
        ("zero.wav", "is a pipe, socket or device"),
        ("socket.mp4", "is a pipe, socket or device"),
        ("loop.mp4", "cannot be read"),
        ("no\0name.mp4", "is not a possible file name"),
    ],
)
def test_own_limits_are_named(corpus, name, words):
    path = corpus[0].parent / name
    for door in (probe, look_at) if path.suffix not in (".png", ".webp") else (read_picture, look_at_picture):
        with pytest.raises(MediaError, match=words):
            door(path)


def test_timestamps_that_jump_are_refused(tmp_path):
    path = make_video(tmp_path / "jump.mkv", times=[0, 40, 700_000, 700_040])
    for door in (probe, frames_of):
        with pytest.raises(MediaError, match=r"timestamps of its picture track jump by 700 s at 0.04 s"):
            door(path)
    assert probe(path, MediaLimits(gap=800.0)).duration == pytest.approx(700.08, abs=0.01)


def test_limits_of_the_caller_hold(tmp_path):
    path = make_video(tmp_path / "clip.mkv", seconds=2)
    for limits, words in (
        (MediaLimits(seconds=1.5), r"lasts 2 s by its timestamps, expected at most 2 s"),
        (MediaLimits(pixels=64 * 63), "64x64 pixels"),
        (MediaLimits(packets=20), "more than 20 packets"),
        (MediaLimits(streams=1), "has 2 tracks"),
        (MediaLimits(sound_rate=44_100), "48000 samples per second"),
    ):
        with pytest.raises(MediaError, match=words):
            look_at(path, limits=limits)
    with pytest.raises(MediaError, match="a picture may have 10"):
        look_at_picture(path, limits=MediaLimits(picture_bytes=10))


def test_sound_is_not_allocated_by_its_timestamps(tmp_path, monkeypatch):
    monkeypatch.setattr("media.sound.LIMITS", MediaLimits(samples=8000))
    make_tone(tmp_path / "tone.wav")
    with pytest.raises(MediaError, match="8000 samples at most are read at once"):
        read_sound(tmp_path / "tone.wav")
    assert len(read_sound(tmp_path / "tone.wav", end=0.5)) == 8000


def test_compressed_silence_of_a_member_is_bounded(monkeypatch):
    from media.flac import encode_flac

    data = encode_flac(np.zeros(16_000 * 60, np.float32))
    assert len(data) < 20_000
    monkeypatch.setattr("media.flac.MAX_SAMPLES", 16_000)
    with pytest.raises(ShardError, match="lasts longer than it may"):
        decode_speech(data, "x")
    with pytest.raises(MediaError, match="lasts longer than it may"):
        decode_flac(data)


def test_memory_of_a_look_is_limited(tmp_path):
    """4 kB of an index ask for gigabytes; the child is refused them, and the next look works."""
    path = tmp_path / "index.mp4"
    path.write_bytes(mp4(mp4_track(samples=70_000_000, sample_size=1, step=1)))
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is limited exactly on Linux only")
    with pytest.raises(MediaError):
        look_at(path, limits=MediaLimits(look_seconds=120.0))
    large = tmp_path / "large.png"
    Image.new("P", (6000, 6000)).save(large)
    with pytest.raises(LookLimit, match="more than 16 MiB of memory"):
        look_at_picture(large, limits=MediaLimits(look_memory=16 << 20, look_seconds=120.0))
    assert look_at_picture(large, limits=LONG).width == 6000


def test_time_of_a_look_is_limited(tmp_path):
    path = make_video(tmp_path / "good.mkv")
    with pytest.raises(LookLimit, match="takes longer than 0.001 s"):
        look_at(path, limits=MediaLimits(look_seconds=0.001))
    assert look_at(path).width == 64


def test_a_look_can_be_stopped(tmp_path):
    path = make_video(tmp_path / "good.mkv")

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), stoppable(stop):
        look_at(path)
    assert look_at(path).width == 64


def test_a_server_that_died_is_replaced(tmp_path):
    path = make_video(tmp_path / "good.mkv")
    look_at(path)
    for server in media.look._idle:
        server.process.kill()
        server.process.wait()
    assert look_at(path).width == 64


@pytest.mark.slow
def test_no_server_outlives_its_parent(tmp_path):
    path = make_video(tmp_path / "good.mkv")
    code = (
        f"import os, signal, media.look\nmedia.look.look_at({str(path)!r})\n"
        "print(media.look._idle[0].process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            stat = Path(f"/proc/{int(done.stdout)}/stat").read_text() if Path("/proc/self").exists() else ""
            os.kill(int(done.stdout), 0)
        except (ProcessLookupError, FileNotFoundError):
            return
        if stat.rpartition(")")[2].split()[:1] == ["Z"]:  # nobody waits for it here
            return
        time.sleep(0.05)
    raise AssertionError("the server is still there")


@pytest.mark.slow
def test_a_look_imports_nothing_from_the_current_folder(tmp_path):
    (tmp_path / "av.py").write_text("raise SystemExit('imported')")
    path = make_video(tmp_path / "good.mkv")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import os, media; os.chdir({str(tmp_path)!r})\n"
    code += f"print(media.look_at({str(path)!r}).width)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "64", done.stderr


def test_names_that_are_not_utf8_are_read(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.wav"))
    write_wav(tmp_path / "tone.wav", np.zeros(16_000, np.float32), 16_000)
    try:
        shutil.copy(tmp_path / "tone.wav", path)
    except OSError:
        pytest.skip("this file system stores UTF-8 only")
    assert len(read_sound(path)) == 16_000
    assert look_at(path).sound_duration == 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited exactly on Linux only")
def test_members_of_a_shard_are_looked_at_in_a_child_process(tmp_path):
    """Damaged ones are left to their reader; one that needs too much is named."""
    frames = [np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8)] * 2
    contents = {"a.speech.flac": encode_flac(np.zeros(16_000, np.float32)), "b.video.mp4": encode_video(frames)}
    contents |= {"c.speech.flac": b"v=0\r\ns=x\r\n", "d.video.mp4": b"", "e.video.mp4": contents["b.video.mp4"][:900]}
    contents |= {name: data for name, data in exceeding() if name in ("a_billion_frames.mp4", "nested.mp4")}
    members, place = [], 0
    with (tmp_path / "a.tar").open("wb") as file:
        for name, data in contents.items():
            members.append((name, place, len(data)))
            place += file.write(data)
    assert dangerous_member(tmp_path / "a.tar", members) is None
    small = MediaLimits(look_memory=1 << 19)
    wrong = dangerous_member(tmp_path / "a.tar", members, limits=small)
    assert wrong == "b.video.mp4: looking at it takes more than 0 MiB of memory; re-encode it"


def test_media_is_opened_in_one_place():
    """No other module opens a container, a picture or another decoder for reading."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = ("av.open(", "Image.open(", "soundfile", "torchaudio", "VideoCapture", "imread", "imageio.")
    own = {  # writes; and pictures that the program wrote itself
        *("media/source.py", "media/pictures.py", "media/writer.py", "media/flac.py"),
        *("preparation/synthetic/write.py", "benchmark/user_study/build.py", "callbacks/logs.py"),
        *(
            "metrics/sync_pipeline.py",
            "tools/demo/animation.py",
            "tools/demo/strips.py",
            "tools/profiling/long_video.py",
        ),
    }
    found = {
        name
        for name in listed.split()
        if not name.startswith("tests/") and any(word in (ROOT / name).read_text(encoding="utf-8") for word in words)
    }
    assert found <= own
    follow = {
        "hls",
        "dash",
        "concat",
        "sdp",
        "rtsp",
        "rtp",
        "sap",
        "image2",
        "image2pipe",
        "lavfi",
        "tty",
        "imf",
        "redir",
    }
    assert not follow & set(CONTAINERS)
    assert set(CONTAINERS) <= {part for name in av.formats_available for part in name.split(",")}


def test_the_builder_of_headers_makes_readable_files(tmp_path):
    """The hostile headers differ from a valid one in the number that is hostile."""
    path = tmp_path / "three.mp4"
    path.write_bytes(mp4(mp4_track()))
    with av.open(str(path)) as container:
        assert len(container.streams.video[0].index_entries) == 3
    assert full(b"free", flags=1) == box(b"free", b"\0\0\0\1")
