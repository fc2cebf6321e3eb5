"""Writes a video of one picture, without motion: an expression that is the same in every frame.

python -m tools.reproduce.still_video picture=FILE output=FILE.mp4
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from configs.options import path, read_options, run_script
from encoders.protocols import FPS
from media import VideoWriter, read_picture
from runtime.ownership import claim

FRAMES = 5


def main(arguments: Sequence[str]) -> None:
    """Writes the video.

    Raises:
        UserError: If the picture cannot be read.
    """
    options = read_options(__doc__, arguments, {"picture": path, "output": path}, required=["picture", "output"])
    picture = read_picture(options["picture"])
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    output: Path = options["output"]
    claim(output.parent, [output.name], f"output={output}")
    with VideoWriter(output, size=(width, height), fps=FPS) as writer:
        for _ in range(FRAMES):
            writer.write(np.ascontiguousarray(picture[:height, :width]))


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
