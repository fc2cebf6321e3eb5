"""Seconds per frame of the frame readers at equal frames, for the choice of the default.

    python -m tools.profiling.frame_readers source=VIDEOS [repeats=5]

Reads each video with ``pyav``, with ``decord``, and with decord alone, without the check that finds damage. Prints the
best of the repeats, wall and processor time, and the largest mean difference of a frame between the two readers.
The readers take turns, so that a change of the machine's speed meets all of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from configs.options import count, read_options, run_script
from media import VIDEO_ENDINGS, FrameReader
from runtime.errors import UserError


def main(arguments: list[str]) -> None:
    """Measures every video of a folder."""
    options = read_options(__doc__, arguments, {"source": Path, "repeats": count}, required=("source",))
    videos = sorted(path for path in options["source"].rglob("*") if path.suffix.lower() in VIDEO_ENDINGS)
    if not videos:
        raise UserError(f"source={options['source']}: holds no video")
    readers: dict[str, Callable[[Path], Iterable[np.ndarray]]] = {
        "pyav": FrameReader,
        "decord": lambda path: FrameReader(path, reader="decord"),
        "unchecked": _unchecked,
    }
    print(f"ms per frame, wall / processor\n{'video':36s} {'frames':>6s}" + "".join(f"{name:>16s}" for name in readers))
    total = {name: np.zeros(2) for name in readers}
    for video in videos:
        best = {name: np.full(2, np.inf) for name in readers}
        for _ in range(options.get("repeats", 5)):
            for name, read in readers.items():
                best[name] = np.minimum(best[name], _seconds(read(video)))
        frames = len(FrameReader(video))
        print(f"{video.name[:36]:36s} {frames:6d}" + "".join(_cell(best[name] / frames) for name in readers), end="")
        pairs = zip(FrameReader(video), FrameReader(video, reader="decord"), strict=True)
        print(f"   difference {max(np.abs(one.astype(int) - other).mean() for one, other in pairs):.2f} of 255")
        for name in readers:
            total[name] += best[name]
    print(f"{'all, seconds':43s}" + "".join(f"{wall:8.2f} /{processor:6.2f}" for wall, processor in total.values()))


def _seconds(frames: Iterable[np.ndarray]) -> np.ndarray:
    """(2,) wall and processor seconds it takes to read the frames."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in frames:
        pass
    return np.array([time.perf_counter() - wall, time.process_time() - processor])


def _unchecked(path: Path) -> Iterable[np.ndarray]:
    """Every frame by decord alone."""
    import decord

    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=2)
    return (reader[index].asnumpy() for index in range(len(reader)))


def _cell(seconds: np.ndarray) -> str:
    return f"{seconds[0] * 1000:8.2f} /{seconds[1] * 1000:6.2f}"


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
