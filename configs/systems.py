"""Schema of ``python -m benchmark.run_system``."""

from __future__ import annotations

from dataclasses import dataclass

from configs.fields import at_least, choice, literal, panel, part, positive, rule
from configs.preparation import Landmarks


@dataclass
class RunSystemConfig:
    """``python -m benchmark.run_system``.

    Attributes:
        system: Name from ``benchmark/systems``, or the path of your own .yaml.
        cases: CSV file that lists the clips; ``benchmark/case_list.py`` explains its columns.
        output: Folder of the clips, their real counterparts, records and logs.
        repository: Working copy of the system; null for this project's own systems.
        python: Interpreter of the system's environment; null for the current one.
        ethd: Trained run of the systems emotivetalk_*.
        videos: Folder of finished videos for system=folder.
        title: Name of system=folder in tables.
        panel: For system=folder: x, y, width, height of the result in each frame; null for the whole frame.
        offset: For system=folder: frame k corresponds to frame k + offset of the sound, at 25 fps.
        size: For system=ground_truth: side of the videos in pixels, e.g. that of the compared system.
        part: ``i/n``: the i-th of n parts, i from 1.
        workers: Clips that are made at the same time.
        clip_timeout: Time limit for a clip, seconds. A program that takes longer is stopped.
        device: Device of the system's program, cuda or cpu.
        seed: Seed, for systems that accept one.
        landmarks: Source of landmarks: mediapipe, or sidecar: a CSV file with each video and portrait.
        scratch: Parent of the jobs' private folders, with a name without special characters; null for the operating
            system's temporary folder.
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
