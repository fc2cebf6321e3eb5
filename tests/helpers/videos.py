"""Videos in a line: by the product's writer, by any encoder without it, and out of another video's packets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from media import VideoWriter


def write_video(path: Path, frames: Iterable[np.ndarray], **settings) -> Path:
    """These pictures by ``VideoWriter``; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [np.ascontiguousarray(frame) for frame in frames]
    with VideoWriter(path, size=frames[0].shape[1::-1], **settings) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def encode_frames(
    target: Path | BinaryIO, frames: Iterable[np.ndarray], codec="libx264", pix_fmt="yuv420p", options=None, **opening
) -> None:
    """These pictures, 25 a second, by an encoder of FFmpeg."""
    frames = [np.ascontiguousarray(frame) for frame in frames]
    with av.open(target, "w", **opening) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = pix_fmt, options or {}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def copy_packets(packets: Iterable[av.Packet], target: av.container.OutputContainer, stream: av.stream.Stream) -> None:
    """Another file's packets as they are."""
    for packet in packets:
        if packet.dts is not None:  # the last one only says that it is the last
            packet.stream = stream
            target.mux(packet)
