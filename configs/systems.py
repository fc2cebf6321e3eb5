"""The type of ``python -m benchmark.run_system``'s configuration."""

from __future__ import annotations

from dataclasses import dataclass

from configs.fields import at_least, choice, literal, panel, part, positive, rule
from configs.preparation import Landmarks


@dataclass
class RunSystemConfig:
    """``python -m benchmark.run_system``.

    Attributes:
        system: a name from ``benchmark/systems``, or the path of a .yaml of one's own.
        cases: the .csv that lists the clips; its columns are explained in ``benchmark/case_list.py``.
        output: folder of the clips, their real counterparts, records and logs.
        repository: working copy of the system; null for this project's own systems.
        python: interpreter of the system's environment; null for the one that runs this.
        ethd: the trained run of system=emotivetalk_a and emotivetalk_av.
        videos: folder of finished videos for system=folder.
        title: what tables call system=folder.
        panel: for system=folder, x, y, width, height of the part of each frame that holds the result; null for all.
        offset: for system=folder, its frame k belongs to frame k + offset of the sound, frames at 25 fps.
        size: for system=ground_truth, pixels of each side, e.g. those of the system it is compared with.
        part: ``i/n``: make the i-th of n parts, i from 1.
        workers: clips at the same time.
        clip_timeout: a program that takes longer for one clip is stopped, seconds.
        device: cuda or cpu, where the system's program runs.
        seed: for systems that take one.
        landmarks: how faces are found: mediapipe, or sidecar (a CSV beside each video and portrait).
        scratch: folder for the jobs' private folders, with a plain name; null for the system's temporary folder.
    """

    system: str = literal()
    cases: str = literal()
    output: str = literal()
    repository: str | None = literal(None)
    python: str | None = literal(None)
    ethd: str | None = literal(None)
    videos: str | None = literal(None)
    title: str | None = literal(None)
    panel: list[int] | None = panel()
    offset: int = at_least(0, 0)
    size: int | None = rule(
        None, lambda value: value >= 16 and value % 2 == 0, "an even number from 16, for system=ground_truth alone"
    )
    part: str = part()
    workers: int = positive(1)
    clip_timeout: float = positive(3600.0)
    device: str = choice("cuda", "cuda", "cpu")
    seed: int = at_least(0, 0)
    landmarks: str = choice("mediapipe", Landmarks)
    scratch: str | None = literal(None)
