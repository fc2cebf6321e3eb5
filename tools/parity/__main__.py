"""Certificate of parity: runs checkouts of the original repositories and this project on your own clip.

    python -m tools.parity clip=talk.mp4 syncnet=syncnet_python box=150,110,360,370
    python -m tools.parity clip=talk.mp4 pytorch_fid=pytorch-fid inception=pt_inception-2015-12-05-6726825d.pth

    syncnet=FOLDER       checkout of github.com/joonson/syncnet_python; needs scenedetect==0.5.1, python_speech_features
    pytorch_fid=FOLDER   checkout of github.com/mseitzer/pytorch-fid
    model=FILE           SyncNet weights for both sides; default: the downloaded syncnet_v2.model
    inception=FILE       Inception weights for both sides; default: the downloaded file
    box=L,T,R,B          face in pixels, given to both sides of Sync; several are separated by a slash. Default:
                         MediaPipe's in the first frame
    min_track=50         minimum length of a face track, frames
    output=FILE          also writes the certificate as JSON

Prints the difference of each step. The exit status is 1 if one exceeds its tolerance. Both sides run on the CPU with
the same weights, and the originals are not changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from configs.errors import ConfigError
from configs.options import count, folder, path, read_options, run_script
from runtime.console import new_console
from runtime.files import sha256_of, write_whole
from runtime.ownership import require_own_json
from runtime.temporary import temporary_folder

SCHEMA = "emotivetalk.parity/1"


def main(arguments: Sequence[str]) -> int:
    """Runs the chosen comparisons and returns the exit status."""
    readers = {
        "clip": path, "syncnet": folder, "pytorch_fid": folder, "model": path, "inception": path, "box": corners,
        "min_track": count, "output": path,
    }  # fmt: skip
    options = read_options(__doc__, arguments, readers, required=["clip"])
    if not {"syncnet", "pytorch_fid"} & options.keys():
        raise ConfigError("no original is named: give syncnet=FOLDER or pytorch_fid=FOLDER, a checkout of it")
    if "output" in options:
        require_own_json(options["output"], SCHEMA.partition("/")[0], f"output={options['output']}")
    from encoders.weights import locate
    from tools.parity.compare import compare_pytorch_fid, compare_syncnet

    clip = options["clip"]
    steps = []
    with temporary_folder("parity") as work:
        if "pytorch_fid" in options:
            weights = options.get("inception") or locate("inception_fid")
            steps += compare_pytorch_fid(options["pytorch_fid"], clip, weights, work / "fid")
        if "syncnet" in options:
            weights = options.get("model") or locate("syncnet")
            box = options.get("box") or [first_face(clip)]
            steps += compare_syncnet(
                options["syncnet"], clip, weights, box, work / "sync", options.get("min_track", 50)
            )
    table = Table(title=f"{clip.name}, sha256 {sha256_of(clip)[:16]}", title_justify="left")
    for column in ("original", "step", "original's value", "ours", "difference", ""):
        table.add_column(column, overflow="fold")
    for step in steps:
        equal = "equal" if step.equal else "DIFFERENT"
        table.add_row(step.metric, step.step, step.original, step.ours, f"{step.difference:.2g}", equal)
    new_console(stderr=False).print(table)
    if "output" in options:
        rows = [{**asdict(step), "equal": step.equal} for step in steps]
        write_whole(
            options["output"], json.dumps({"schema": SCHEMA, "clip": sha256_of(clip), "steps": rows}, indent=2) + "\n"
        )
    return 0 if all(step.equal for step in steps) else 1


def corners(value: str) -> list[list[float]]:
    """Four numbers for each face: left, top, right, bottom."""
    faces = [[float(part) for part in face.split(",")] for face in value.split("/")]
    if any(len(face) != 4 or face[2] <= face[0] or face[3] <= face[1] for face in faces):
        raise ValueError("expected left,top,right,bottom in pixels")
    return faces


def first_face(clip: Path) -> list[float]:
    """Box of the largest face in the first frame, by MediaPipe.

    Raises:
        ConfigError: If there is no face.
    """
    from encoders.landmarks.following import box_of
    from encoders.landmarks.mediapipe_detector import MediaPipeDetector
    from media import read_frames

    faces = MediaPipeDetector().detect(next(read_frames(clip)))
    if not faces:
        raise ConfigError(f"clip={clip}: MediaPipe finds no face in the first frame; give box=L,T,R,B in pixels")
    return [float(corner) for corner in box_of(faces[0])]


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
