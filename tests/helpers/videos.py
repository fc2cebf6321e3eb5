"""Writes test videos with the project's writer, with any FFmpeg encoder, or from the packets of another video."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from media import VideoWriter


def write_video(path: Path, frames: Iterable[np.ndarray], **settings) -> Path:
    """Writes frames with ``VideoWriter``; creates the folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [np.ascontiguousarray(frame) for frame in frames]
    with VideoWriter(path, size=frames[0].shape[1::-1], **settings) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def encode_frames(
    target: Path | BinaryIO, frames: Iterable[np.ndarray], codec="libx264", pix_fmt="yuv420p", options=None, **opening
) -> None:
    """Writes frames at 25 fps with an FFmpeg encoder."""
    frames = [np.ascontiguousarray(frame) for frame in frames]
    with av.open(target, "w", **opening) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = pix_fmt, options or {}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def copy_packets(packets: Iterable[av.Packet], target: av.container.OutputContainer, stream: av.stream.Stream) -> None:
    """Copies the packets of another file."""
    for packet in packets:
        if packet.dts is not None:  # the last packet is an empty end marker
            packet.stream = stream
            target.mux(packet)
