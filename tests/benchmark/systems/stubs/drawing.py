"""Shared code of the stub systems: frames show their time as stripes, the portrait's tint, and white on loud sound.

Copied next to each stub, which runs as a program of its own.
"""

import json
import os
import sys
import time
import wave
from argparse import ArgumentParser
from fractions import Fraction

import av
import numpy as np
from PIL import Image

TICKS = 150  # per second: a multiple of 25 and 30
BITS = 10


def command_line(*names, flags=(), **defaults):
    """Returns a parser whose options default to None, False or the given value."""
    parser = ArgumentParser()
    for name, default in {**dict.fromkeys(names), **defaults}.items():
        parser.add_argument(f"--{name}", default=default, type=str if default is None else type(default))
    for name in flags:
        parser.add_argument(f"--{name}", action="store_true")
    return parser


def picture(seconds, size, tint, flash):
    """(size, size, 3) frame: the time as stripes in the upper half, the tint or white in the lower."""
    frame = np.empty((size, size, 3), np.uint8)
    for bit in range(BITS):
        lit = round(seconds * TICKS) >> bit & 1
        frame[: size // 2, bit * size // BITS : (bit + 1) * size // BITS] = 235 if lit else 16
    frame[size // 2 :] = 250 if flash else tint
    return frame


def read_wav(path):
    with wave.open(path) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000), "16 kHz mono expected"
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def tint_of(portrait):
    return np.asarray(Image.open(portrait).convert("RGB")).reshape(-1, 3).mean(0).round().astype(np.uint8)


def talk(portrait, wav, frames, fps, size, first=0):
    """Yields ``frames`` frames of a talking head, from number ``first``."""
    sound, tint = read_wav(wav), tint_of(portrait)
    for index in range(first, first + frames):
        spoken = sound[round(index * 16000 / fps) : round((index + 1) * 16000 / fps)]
        yield picture(index / fps, size, tint, bool(len(spoken) and np.abs(spoken).max() > 0.3))


def fail_as_requested():
    """Fails in the way that the test requests."""
    trouble = os.environ.get("STUB_TROUBLE")
    if trouble == "nothing":
        print("Something is not right, but never mind.")
        sys.exit(0)
    if trouble == "hang":
        print("working on it", flush=True)
        time.sleep(120)
    if trouble == "package":
        import a_package_nobody_has  # noqa: F401


def write_video(path, frames, fps, wav=None):
    trouble = os.environ.get("STUB_TROUBLE")
    frames = list(frames)
    if trouble == "black":
        frames = [frame * 0 for frame in frames]
    if trouble == "short":
        frames = frames[: len(frames) // 3]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "8", "preset": "ultrafast"}
        if wav:
            audio = container.add_stream("aac", rate=16000, layout="mono")
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
        if wav:
            samples = read_wav(wav)[: round(len(frames) * 16000 / fps)].astype(np.float32)
            block = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(audio.encode(block))
            container.mux(audio.encode())


def read_json(path):
    with open(path) as file:
        return json.load(file)
