"""generate.py with stream=: frames arrive in a pipe while later ones are sampled; readers that leave, wrong targets."""

import io
import os
import pty
import re
import subprocess
import sys
import threading

import av
import numpy as np
import pytest

from configs.command_line import compose
from configs.errors import ConfigError
from configs.generation import GenerateConfig
from configs.rules import check
from generation.errors import GenerationError
from generation.streams import opened_stream
from media import read_frames
from runtime.console import new_console
from tests.helpers import ROOT, warm
from tests.helpers.inputs import tone
from tests.helpers.refusals import refuses
from tests.helpers.sound import write_wav


@pytest.fixture
def started(runs, files, tmp_path):
    """Starts generate.py for speech of some seconds and yields its process; ends it after the test."""
    processes = []

    def start(*typed, seconds=8.0, **options):
        write_wav(tmp_path / "long.wav", tone(seconds), 16_000)
        given = [f"portrait={files / 'face.png'}", f"speech={tmp_path / 'long.wav'}", f"ethd={runs / 'ethd'}"]
        given += [f"output={tmp_path / 'out' / 'out.mp4'}", "device=cpu", "steps=3", *typed]
        command = [sys.executable, "generate.py", *given]
        processes.append(warm.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def made(tmp_path):
    folder = tmp_path / "out"
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def same(frames, others):
    """Whether videos of noise show the same, whatever encoding made of them."""
    apart = [np.abs(frames.astype(int) - np.roll(others, shift, 0)).mean() for shift in (0, 1)]
    return apart[0] < 0.7 * apart[1]


class Watched(io.RawIOBase):
    """A pipe for reading that notes how much has been read."""

    def __init__(self, file):
        self.file, self.taken = file, bytearray()

    def readable(self):
        return True

    def read(self, size=-1):
        block = self.file.read1(size)
        self.taken += block
        return block


@pytest.mark.slow
def test_frames_can_be_decoded_while_later_ones_are_sampled(started, tmp_path):
    process = started("stream=-", seconds=3.0)
    pipe, early, frames = Watched(process.stdout), 0, 0
    with av.open(pipe) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
        for _ in container.decode(video=0):
            frames += 1
            early += not (tmp_path / "out" / "out.json").exists() and process.poll() is None
    errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0, errors
    assert frames == 75
    assert early > 20
    assert made(tmp_path) == ["out.json", "out.mp4"]
    assert bytes(pipe.taken[4:8]) == b"ftyp"  # nothing else went to standard output
    assert "wrote" in errors
    written = np.stack(list(read_frames(tmp_path / "out" / "out.mp4")))
    with av.open(io.BytesIO(bytes(pipe.taken))) as container:
        streamed = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert streamed.shape == written.shape
    assert same(streamed, written)


@pytest.mark.slow
def test_raw_frames_go_through_a_named_pipe_into_ffmpeg(started, tmp_path):
    os.mkfifo(tmp_path / "live.rgb")
    process = started(f"stream={tmp_path / 'live.rgb'}", "stream_format=rgb24", seconds=1.0)
    options = {"pixel_format": "rgb24", "video_size": "64x64", "framerate": "25"}
    with av.open(str(tmp_path / "live.rgb"), format="rawvideo", options=options) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    assert printed == b""
    assert "waits until a program reads it" in errors.decode()
    written = list(read_frames(tmp_path / "out" / "out.mp4"))
    assert len(frames) == len(written) == 25
    assert same(np.stack(frames), np.stack(written))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mp4", "rgb24"])
def test_a_reader_that_leaves_ends_the_command_with_one_line(started, tmp_path, kind):
    process = started("stream=-", f"stream_format={kind}", seconds=10.0)
    assert process.stdout.read(100)
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait(60) == 1
    assert "Traceback" not in errors
    assert "Exception" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("error")]
    assert lines == ["error: stream=-: its reader has closed it; nothing more can be written"]
    assert made(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["pipe", "/dev/zero"])
@pytest.mark.parametrize("key", ["speech", "portrait", "emotion.video"])
def test_an_input_without_an_end_is_refused(started, tmp_path, key, place):
    if place == "pipe":
        place = tmp_path / "pipe"
        os.mkfifo(place)
    process = started(f"{key}={place}", seconds=0.2)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert printed == b""
    assert errors.decode().strip().splitlines()[-1].startswith(f"error: {place}: is a pipe, socket or device")
    assert "loaded" not in errors.decode()
    assert made(tmp_path) == []


def test_what_is_no_pipe_is_refused(tmp_path, capfd):
    (tmp_path / "file.mp4").write_bytes(b"precious")
    for target, words in {
        tmp_path / "file.mp4": "is a file, expected a named pipe",
        tmp_path: "is a folder, expected a named pipe",
        tmp_path / "none": "no such pipe; make it with mkfifo",
        "a\0b": "cannot be opened",
    }.items():
        with (
            pytest.raises(GenerationError, match=re.escape(words)) as error,
            opened_stream(str(target), "mp4", CONSOLE),
        ):
            pass
        assert len(str(error.value).splitlines()) == 1
    assert (tmp_path / "file.mp4").read_bytes() == b"precious"
    with opened_stream(None, "mp4", CONSOLE) as stream:
        assert stream is None


CONSOLE = new_console(stderr=True)


def test_a_terminal_is_refused():
    code = "from generation.streams import *; from runtime.console import new_console\n"
    code += "with opened_stream('-', 'mp4', new_console(stderr=True)): pass"
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=120
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert "stream=-: standard output is a terminal; send it to a program" in done.stderr


def test_what_libraries_print_does_not_go_into_the_stream(tmp_path):
    code = "import os, sys; from generation.streams import *; from runtime.console import new_console\n"
    code += "with opened_stream('-', 'mp4', new_console(stderr=True)) as stream:\n"
    code += "    stream.file.write(b'video'); print('words', flush=True); os.write(1, b'more words')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "video"
    assert "words" in done.stderr
    assert "more words" in done.stderr


def test_a_pipe_waits_for_its_reader(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found = []
    thread = threading.Thread(target=lambda: found.append(path.read_bytes()))
    thread.start()
    with opened_stream(str(path), "rgb24", CONSOLE) as stream:
        stream.file.write(b"frames")
        assert (stream.name, stream.kind) == (f"stream={path}", "rgb24")
    thread.join(20)
    assert found == [b"frames"]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["stream=-", "batch=cases.csv"], "stream=-: streams one video; leave batch out"),
        (["stream_format=rgb24"], "stream_format=rgb24: needs a stream; add stream=-"),
        (["stream=-", "stream_format=avi"], "stream_format=avi: expected"),
        (["decode_frames=0"], "decode_frames=0: expected"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(typed, words):
    given = ["portrait=a.png", "speech=v.wav", "output=o.mp4", "ethd=run"]
    refuses(ConfigError, re.escape(words), check, compose("generate", GenerateConfig, [*given, *typed]))
