"""Speech as FLAC in memory: 16 kHz mono, 16 bit, the same bytes for the same samples."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np

from media.source import MediaError, decoder_options, opened_bytes, up_to

RATE = 16_000
MAX_SAMPLES = 3600 * RATE  # of a member of a shard; silence takes 14 bytes per 65535 samples
_FULL_SCALE = 32_768
_BLOCK = 1 << 16  # samples handed to the encoder at a time


def encode_flac(samples: np.ndarray) -> bytes:
    """(S,) float32 in [-1, 1] at 16 kHz -> FLAC; decoding gives round(x * 32768) / 32768, at most 32767 / 32768.

    Raises:
        ValueError: when the samples have another shape or type, are empty, or are not finite.
    """
    if samples.ndim != 1 or samples.dtype != np.float32 or not len(samples):
        raise ValueError(f"expected samples of shape (S,) float32, S > 0, found {samples.shape} {samples.dtype}")
    if not np.isfinite(samples).all():
        raise ValueError("the samples hold values that are not numbers")
    values = _values(samples)
    file = io.BytesIO()
    with av.open(file, "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        stream.format = "s16"
        stream.options = {"flags": "+bitexact"}
        for start in range(0, len(values), _BLOCK):
            block = av.AudioFrame.from_ndarray(values[None, start : start + _BLOCK], format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            container.mux(stream.encode(block))
        container.mux(stream.encode())
    return file.getvalue()


def as_stored(samples: np.ndarray) -> np.ndarray:
    """(S,) float32 in [-1, 1] -> what decoding their FLAC file gives."""
    return _values(samples).astype(np.float32) / np.float32(_FULL_SCALE)


def _values(samples: np.ndarray) -> np.ndarray:
    return np.rint(samples * np.float32(_FULL_SCALE)).clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def decode_flac(data: bytes) -> np.ndarray:
    """FLAC at 16 kHz mono -> (S,) float32 in [-1, 1).

    Raises:
        MediaError: when the bytes are damaged, hold another rate or more channels, or last over an hour.
    """
    try:
        with opened_bytes(data, "speech.flac", "flac") as container:
            stream = container.streams.audio[0]
            if stream.rate != RATE or stream.channels != 1:
                raise MediaError(
                    f"speech.flac: found {stream.rate} Hz, {stream.channels} channels; expected {RATE} Hz mono"
                )
            stream.codec_context.options = decoder_options(err_detect="crccheck+explode")
            blocks = [frame.to_ndarray()[0] for frame in up_to(container.decode(stream), MAX_SAMPLES, "speech.flac")]
            expected = stream.duration
    except (av.FFmpegError, IndexError) as error:
        raise MediaError(f"speech.flac: damaged ({error}); prepare this clip again") from error
    values = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
    if expected is not None and len(values) != expected:
        raise MediaError(f"speech.flac: {len(values)} of {expected} samples could be decoded; prepare this clip again")
    return values.astype(np.float32) / np.float32(_FULL_SCALE)
