"""Writing MP4: H.264 pictures and sound (AAC, or copied), streamed, the same bytes for the same input.

``VideoWriter`` writes a file, ``StreamWriter`` into a pipe whose reader plays what has arrived.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import av
import numpy as np
from av.audio.stream import AudioStream

from media.source import MediaError, audio_stream, opened
from media.timeline import read_timeline
from runtime.files import partial_of, take_name

_THREADS = 1  # x264's bytes depend on the number of threads; several writers run in parallel instead
# x264's macroblock tree reads uninitialised memory: of a thousand equal clips some had other bytes.
_REPEATABLE = "mbtree=0"
_AUDIO_BITS = {"aac": 64_000, "libmp3lame": 80_000}  # per second and channel
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}  # channels that players take
STREAM_FORMATS = ("mp4", "rgb24")
_AUDIBLE = 10 ** (0.5 / 20)  # peak whose lowering to full scale is audible: 0.5 dB
_FRAGMENT = 0.2  # seconds of a fragment of a streamed MP4
_MP3_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # that MP4 takes
AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


class VideoWriter:
    """Writes a video frame by frame; a context manager.

    The file has a temporary name in the same folder until everything is written. An exception, also Ctrl-C, removes it.
    The sound becomes as long as the pictures: a shorter one is padded with silence, a longer one is cut. It is AAC, or
    MP3 where AAC would lower its peaks (``sound_encoder``).

    Args:
        path: Output file; an existing one is replaced.
        size: (width, height) in pixels, both even.
        fps: Frames per second.
        sound: (S,) float32 mono, or (C, S) with 1, 2 or 6 (5.1) channels, or None for no sound track. Full scale is 1;
            peaks above it are kept within 0.5 dB, except in 5.1.
        sound_rate: Samples per second of the sound.
        crf: x264's constant quality, 0 (lossless) to 51; 18 looks like the source.
        metadata: Names and texts to store in the file.
        copied: Media file whose sound is copied without decoding it, from its first audible sample to the end of the
            pictures, in place of ``sound``. Its codec must be one that MP4 takes.

    Raises:
        MediaError: when the folder cannot be written, the disk is full, or no frame was written.
        ValueError: when the size is odd, or frames or sound have another shape or type.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: tuple[int, int],
        fps: float = 25.0,
        sound: np.ndarray | None = None,
        sound_rate: int = 16_000,
        crf: int = 18,
        metadata: Mapping[str, str] | None = None,
        copied: Path | None = None,
    ) -> None:
        self.path = Path(os.path.abspath(path))
        self._partial = partial_of(self.path)
        self._settings = (size, fps, sound, sound_rate, crf, metadata, copied)
        _check_settings(*self._settings[:4])
        self._muxer: _Muxer | None = None

    def __enter__(self) -> Self:
        try:
            self._partial.touch()  # its error names the reason; FFmpeg's does not
            self._muxer = _Muxer(str(self._partial), *self._settings)
        except (OSError, av.FFmpegError) as error:
            self._discard()
            raise MediaError(
                f"{self.path}: cannot be written ({_reason(error)}); choose a folder that exists and can be written"
            ) from error
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, frame: np.ndarray) -> None:
        """Adds one (H, W, 3) uint8 RGB frame."""
        if self._muxer is None:
            raise RuntimeError("VideoWriter.write is for use inside its with block")
        try:
            self._muxer.write(frame)
        except (OSError, av.FFmpegError) as error:
            raise self._failed(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._muxer is not None
        if kind is not None:
            self._discard()
            return
        try:
            self._muxer.close()
            take_name(self._partial, self.path)
        except (OSError, av.FFmpegError) as problem:
            self._discard()
            raise self._failed(problem) from problem
        except BaseException:
            self._discard()
            raise

    def _failed(self, error: Exception) -> MediaError:
        return MediaError(
            f"{self.path}: writing failed ({_reason(error)}); make room on the disk or choose another folder"
        )

    def _discard(self) -> None:
        if self._muxer is not None:
            self._muxer.abandon()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)


class StreamWriter:
    """Writes frames into a pipe, each as soon as it is given; a context manager.

    ``mp4`` is a fragmented MP4 with the sound: players and FFmpeg read it while it arrives. ``rgb24`` are the bytes of
    the frames one after the other, as FFmpeg's ``rawvideo`` reads them, without sound.

    Args:
        file: Binary file, which need not be seekable. It stays open.
        name: Its name in messages.
        kind: ``mp4`` or ``rgb24``.
        size: (width, height) in pixels, both even.
        fps: Frames per second.
        sound: As of ``VideoWriter``.
        sound_rate: Samples per second of the sound.
        crf: x264's constant quality.
        metadata: Names and texts to store in the MP4.
        copied: As of ``VideoWriter``.

    Raises:
        MediaError: when it cannot be written, since its reader closed it, for instance.
        ValueError: when the size is odd, or frames or sound have another shape or type.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        kind: Literal["mp4", "rgb24"],
        *,
        size: tuple[int, int],
        fps: float = 25.0,
        sound: np.ndarray | None = None,
        sound_rate: int = 16_000,
        crf: int = 18,
        metadata: Mapping[str, str] | None = None,
        copied: Path | None = None,
    ) -> None:
        self._file, self._name, self._kind, self._size = file, name, kind, size
        self._settings = (size, fps, sound, sound_rate, crf, metadata, copied)
        _check_settings(*self._settings[:4])
        self._muxer: _Muxer | None = None

    def __enter__(self) -> Self:
        if self._kind == "mp4":
            self._muxer = _Muxer(_Pipe(self._file), *self._settings)
        return self

    def write(self, frame: np.ndarray) -> None:
        """Adds one (H, W, 3) uint8 RGB frame."""
        with self._reported():
            if self._muxer is not None:
                self._muxer.write(frame)
            else:
                _check_frame(frame, self._size)
                _Pipe(self._file).write(np.ascontiguousarray(frame).data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._muxer is None:
            return
        if kind is not None:
            self._muxer.abandon()
            return
        with self._reported():
            try:
                self._muxer.close()
            except BaseException:
                self._muxer.abandon()
                raise

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise MediaError(f"{self._name}: its reader has closed it; nothing more can be written") from error
        except (OSError, av.FFmpegError) as error:
            raise MediaError(f"{self._name}: cannot be written ({_reason(error)})") from error


class _Pipe:
    """A file that FFmpeg writes to and does not try to seek in; nothing stays in a buffer."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes | memoryview) -> int:
        self._file.write(data)
        self._file.flush()
        return len(memoryview(data).cast("B"))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def sound_encoder(sound: np.ndarray, rate: int) -> str:
    """FFmpeg's encoder of a video's sound: ``aac``, or ``libmp3lame`` for peaks more than 0.5 dB over full scale.

    FFmpeg's encoder of AAC lowers every window of a peak over full scale to it: a tone of peak 2 becomes 6 dB quieter.
    Resampled sound is often a little over full scale, where that does not matter.

    Args:
        sound: (C, S) float32, full scale is 1.
        rate: Samples per second.
    """
    over = sound.size and max(float(sound.max()), -float(sound.min())) > _AUDIBLE
    return "libmp3lame" if over and len(sound) <= 2 and rate in _MP3_RATES else "aac"


def encode_video(
    frames: Iterable[np.ndarray],
    *,
    fps: float = 25.0,
    sound: np.ndarray | None = None,
    sound_rate: int = 16_000,
    crf: int = 18,
) -> bytes:
    """Encodes an MP4 in memory, for small clips in a shard; equal input gives equal bytes.

    Args:
        frames: At least one (H, W, 3) uint8 RGB frame of even size.
        fps: Frames per second.
        sound: (S,) float32 mono in [-1, 1]; becomes as long as the pictures.
        sound_rate: Samples per second of the sound.
        crf: x264's constant quality.

    Raises:
        ValueError: when there is no frame, a size is odd, or sizes differ.
    """
    file = io.BytesIO()
    muxer: _Muxer | None = None
    for frame in frames:
        if muxer is None:
            size = (frame.shape[1], frame.shape[0])
            _check_settings(size, fps, sound, sound_rate)
            muxer = _Muxer(file, size, fps, sound, sound_rate, crf, None)
        muxer.write(frame)
    if muxer is None:
        raise ValueError("expected at least one frame, found none")
    muxer.close()
    return file.getvalue()


def _check_settings(size: tuple[int, int], fps: float, sound: np.ndarray | None, sound_rate: int) -> None:
    if size[0] % 2 or size[1] % 2 or min(size) < 2:
        raise ValueError(f"H.264 in yuv420p needs an even width and height, found {size[0]}x{size[1]}; crop or pad")
    if fps <= 0:
        raise ValueError(f"expected fps > 0, found {fps}")
    if sound is None:
        return
    if sound.ndim not in (1, 2) or sound.dtype != np.float32 or (sound.ndim == 2 and len(sound) not in LAYOUTS):
        raise ValueError(
            f"expected sound of shape (S,), or (C, S) with {', '.join(map(str, LAYOUTS))} channels, float32; found "
            f"{sound.shape} {sound.dtype}"
        )
    if not np.isfinite(sound).all():
        raise ValueError("the sound holds values that are not numbers")
    if sound_rate not in AAC_RATES:
        raise ValueError(f"AAC cannot store {sound_rate} samples per second; resample to one of {AAC_RATES}")


def _check_frame(frame: np.ndarray, size: tuple[int, int]) -> None:
    wanted = (size[1], size[0], 3)
    if frame.shape != wanted or frame.dtype != np.uint8:
        raise ValueError(f"expected a frame of shape {wanted} uint8, found {frame.shape} {frame.dtype}")


class _Muxer:
    """Encodes into a file, memory or a pipe; sound goes with each picture, so that neither is buffered for long."""

    def __init__(
        self,
        file: str | io.BytesIO | _Pipe,
        size: tuple[int, int],
        fps: float,
        sound: np.ndarray | None,
        sound_rate: int,
        crf: int,
        metadata: Mapping[str, str] | None,
        copied: Path | None = None,
    ) -> None:
        self.size = size
        self.rate = Fraction(fps).limit_denominator(100_000)
        self.sound = sound[None] if sound is not None and sound.ndim == 1 else sound
        self.sound_rate = sound_rate
        self.frames = self.samples = 0
        piped = isinstance(file, _Pipe)
        flags = "+use_metadata_tags"
        # FFmpeg opens a finished file again to move its index to the front.
        flags += "+faststart" * isinstance(file, str) + "+delay_moov+default_base_moof" * piped
        options = {"movflags": flags, "fflags": "+bitexact"}
        if piped:
            options |= {"frag_duration": str(round(_FRAGMENT * 1e6)), "flush_packets": "1"}
        self.container = av.open(file, "w", format="mp4", options=options)
        self.container.metadata.update(metadata or {})
        self.video = self.container.add_stream("libx264", rate=self.rate)
        self.video.width, self.video.height = size
        self.video.pix_fmt = "yuv420p"
        self.video.codec_context.thread_count = _THREADS
        self.video.options = {"crf": str(crf), "flags": "+bitexact", "x264-params": _REPEATABLE}
        if piped:  # x264 would keep up to 60 frames to look ahead
            self.video.options |= {"tune": "zerolatency", "g": str(round(self.rate))}
        self.audio: AudioStream | None = None
        self.copy: _Copy | None = None
        if copied is not None:
            self.copy = _Copy(copied, self.container)
        elif self.sound is not None:
            layout, encoder = LAYOUTS[len(self.sound)], sound_encoder(self.sound, sound_rate)
            audio = self.container.add_stream(encoder, rate=sound_rate, layout=layout)
            assert isinstance(audio, AudioStream)
            audio.format = av.AudioFormat("fltp")
            audio.bit_rate = _AUDIO_BITS[encoder] * len(self.sound)
            self.audio = audio
            self.audio.options = {"flags": "+bitexact"}

    def write(self, frame: np.ndarray) -> None:
        """Encodes one frame and the sound that belongs to it."""
        _check_frame(frame, self.size)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts, picture.time_base = self.frames, 1 / self.rate
        self.frames += 1
        self.container.mux(self.video.encode(picture))
        self._write_sound()

    def _write_sound(self) -> None:
        """Writes the sound up to the end of the pictures so far, silence where there is none."""
        if self.copy is not None:
            self.copy.write(Fraction(self.frames) / self.rate)
        if self.sound is None or self.audio is None:
            return
        until = round(self.frames * self.sound_rate / self.rate)
        samples = self.sound[:, self.samples : until]
        samples = np.pad(samples, ((0, 0), (0, until - self.samples - samples.shape[1])))
        block = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=LAYOUTS[len(self.sound)]
        )
        block.sample_rate, block.pts, block.time_base = self.sound_rate, self.samples, Fraction(1, self.sound_rate)
        self.samples = until
        self.container.mux(self.audio.encode(block))

    def close(self) -> None:
        """Writes what the encoders still hold, and the index."""
        if not self.frames:
            raise ValueError("expected at least one frame, found none")
        self.container.mux(self.video.encode())
        if self.audio is not None:
            self.container.mux(self.audio.encode())
        self.container.close()
        if self.copy is not None:
            self.copy.close()

    def abandon(self) -> None:
        """Closes the file after a failure."""
        with contextlib.suppress(Exception):
            self.container.close()
        if self.copy is not None:
            self.copy.close()


class _Copy:
    """Copies the packets of a file's sound into a container.

    Args:
        path: Media file, readable as a whole.
        target: Container that is written.
    """

    def __init__(self, path: Path, target: av.container.OutputContainer) -> None:
        self._stack = contextlib.ExitStack()
        timeline = read_timeline(path)
        source = self._stack.enter_context(opened(timeline.path))
        stream = audio_stream(source, timeline.path)
        assert timeline.sounds is not None
        self._target, self._packets = target, source.demux(stream)
        self._base = stream.time_base or Fraction(1, stream.rate)
        self._start = round(timeline.sounds.start / self._base)
        self._stream = target.add_stream_from_template(stream)
        self._next: av.Packet | None = None

    def write(self, until: Fraction) -> None:
        """Copies the packets that start before ``until`` seconds."""
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = packet
            if not packet.size or packet.pts is None:
                self._next = None
                continue
            if (packet.pts - self._start) * self._base >= until:
                return
            packet.pts = packet.dts = packet.pts - self._start
            packet.stream = self._stream
            self._next = None
            self._target.mux(packet)

    def close(self) -> None:
        """Closes the source."""
        self._stack.close()
