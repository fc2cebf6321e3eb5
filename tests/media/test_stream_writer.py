"""Frames into a pipe: what has arrived can be read at once, equal frames and sound, a reader that leaves."""

import io
import os
import threading

import av
import numpy as np
import pytest

from media import MediaError, StreamWriter

SIZE = (96, 64)


class Reader(threading.Thread):
    """Collects what arrives in a pipe."""

    def __init__(self):
        super().__init__()
        self.end, writing = os.pipe()
        self.file = os.fdopen(writing, "wb")
        self.data = bytearray()
        self.start()

    def run(self):
        with os.fdopen(self.end, "rb", buffering=0) as file:
            while block := file.read(1 << 16):
                self.data += block

    def finish(self):
        self.file.close()
        self.join(20)
        return bytes(self.data)

    def read_until(self, is_enough):
        """Waits until what has arrived is enough; returns it."""
        for _ in range(400):
            early = bytes(self.data)
            if is_enough(early):
                return early
            threading.Event().wait(0.05)
        raise AssertionError(f"only {len(self.data)} bytes have arrived")


@pytest.fixture
def reader():
    found = Reader()
    yield found
    found.finish()


def frame(number):
    picture = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    picture[:, : number + 1] = 200  # a bar that grows
    return picture


def tone(seconds, rate=48_000):
    return (0.3 * np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate)).astype(np.float32)


def decoded(data, kind):
    with av.open(io.BytesIO(data)) as container:
        return [(float(part.time), part) for part in container.decode(**{kind: 0})]


def shown(data):
    """Widths of the bars of all frames that can be decoded."""
    pictures = [part.to_ndarray(format="rgb24") for _, part in decoded(data, "video")]
    return [int((picture[32, :, 0] > 130).sum()) for picture in pictures]


def test_frames_and_sound_arrive_while_more_are_written(reader):
    sound = tone(2.4)
    with StreamWriter(reader.file, "stream=-", "mp4", size=SIZE, sound=sound, sound_rate=48_000) as writer:
        for number in range(20):
            writer.write(frame(number))
        # All but the last fragment, while the writer is open.
        early = reader.read_until(lambda data: len(data) > 4000 and len(shown(data)) >= 12)
        assert decoded(early, "audio")
        for number in range(20, 60):
            writer.write(frame(number))
    data = reader.finish()
    assert data.startswith(early)
    assert [abs(width - number - 1) <= 1 for number, width in enumerate(shown(data))] == [True] * 60
    assert [time for time, _ in decoded(data, "video")] == pytest.approx([number / 25 for number in range(60)])
    found = np.concatenate([part.to_ndarray()[0] for _, part in decoded(data, "audio")])
    assert np.corrcoef(found[: len(sound)], sound)[0, 1] > 0.98


def test_copied_sound_arrives_too(reader, tmp_path):
    with av.open(str(tmp_path / "voice.mp3"), "w") as container:
        stream = container.add_stream("libmp3lame", rate=44_100, layout="mono")
        block = av.AudioFrame.from_ndarray(tone(3, 44_100)[None], format="fltp", layout="mono")
        block.sample_rate = 44_100
        container.mux([*stream.encode(block), *stream.encode()])
    with StreamWriter(reader.file, "stream=-", "mp4", size=SIZE, copied=tmp_path / "voice.mp3") as writer:
        for number in range(50):
            writer.write(frame(number))
    data = reader.finish()
    assert len(shown(data)) == 50
    sound = [part for _, part in decoded(data, "audio")]
    assert sum(part.samples for part in sound) / 44_100 == pytest.approx(2, abs=0.05)


def test_raw_frames_are_exact(reader):
    frames = [np.random.default_rng(number).integers(0, 255, (64, 96, 3), np.uint8) for number in range(5)]
    with StreamWriter(reader.file, "stream=-", "rgb24", size=SIZE, sound=tone(0.2), sound_rate=48_000) as writer:
        for number, picture in enumerate(frames):
            writer.write(picture)
            reader.read_until(lambda data, count=(number + 1) * picture.nbytes: len(data) == count)  # nothing waits
    assert reader.finish() == b"".join(picture.tobytes() for picture in frames)


@pytest.mark.parametrize("kind", ["mp4", "rgb24"])
@pytest.mark.parametrize("after", [0, 30])
def test_a_reader_that_leaves_is_named(kind, after):
    reading, writing = os.pipe()
    kept = threading.Thread(target=lambda: [os.read(reading, 1 << 20) for _ in range(2)] and os.close(reading))
    if after:
        kept.start()
    else:
        os.close(reading)
    words = "stream=pipe: its reader has closed it; nothing more can be written"
    with (  # noqa: PT012
        os.fdopen(writing, "wb", buffering=0) as file,
        pytest.raises(MediaError, match=words),
        StreamWriter(file, "stream=pipe", kind, size=SIZE, sound=tone(20), sound_rate=48_000) as writer,
    ):
        for number in range(500):
            writer.write(frame(number % 96))
    if after:
        kept.join(20)


def test_wrong_frames_are_refused(reader):
    for kind in ("mp4", "rgb24"):
        with (
            pytest.raises(ValueError, match=r"expected a frame of shape \(64, 96, 3\) uint8"),
            StreamWriter(reader.file, "stream=-", kind, size=SIZE) as writer,
        ):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="even width and height"):
        StreamWriter(reader.file, "stream=-", "mp4", size=(97, 64))
