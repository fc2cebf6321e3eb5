"""Decoding of a sample's compressed members, FLAC and mp4, from memory."""

from __future__ import annotations

import av
import numpy as np

from datamodules.schema import ShardError
from media.flac import MAX_SAMPLES
from media.source import MediaError, decoder_options, opened_bytes, up_to


def decode_speech(data: bytes, name: str) -> np.ndarray:
    """Decodes a FLAC file in memory to (samples,) float32 in [-1, 1]; ``name`` is used in messages.

    Raises:
        ShardError: If it cannot be decoded.
    """
    try:
        with opened_bytes(data, name, "flac") as container:
            container.streams.audio[0].codec_context.options = decoder_options()
            frames = up_to(container.decode(audio=0), MAX_SAMPLES, name)
            blocks = [frame.to_ndarray() for frame in frames]
    except (av.FFmpegError, IndexError, MediaError) as error:
        raise ShardError(f"{name}: cannot be decoded ({error}); run prepare.py task=check") from error
    samples = np.concatenate(blocks, axis=1)[0] if blocks else np.zeros(0, np.float32)
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(-int(np.iinfo(samples.dtype).min))
    return samples.astype(np.float32)


def decode_frames(data: bytes, start: int, count: int, name: str) -> np.ndarray:
    """Decodes frames ``start`` to ``start + count`` of an mp4 file in memory to (count, H, W, 3) uint8 RGB.

    Raises:
        ShardError: If it cannot be decoded or has fewer frames.
    """
    frames = []
    try:
        with opened_bytes(data, name, "mp4") as container:
            container.streams.video[0].codec_context.options = decoder_options()
            for place, frame in enumerate(container.decode(video=0)):
                if place >= start:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    break
    except (av.FFmpegError, IndexError, MediaError) as error:
        raise ShardError(f"{name}: cannot be decoded ({error}); run prepare.py task=check") from error
    if len(frames) < count:
        raise ShardError(f"{name}: ends at frame {start + len(frames)}, expected {start + count}; run task=check")
    return np.stack(frames)
