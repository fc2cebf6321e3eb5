"""Table 1 on any folder of talking-head videos: EmotiveTalk, seven published systems, ground truth, pseudo-systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.pseudo_systems import SHIFT
from tools.pipeline.step import Step
from tools.reproduce.table_plan import TablePlan

PUBLISHED = {
    "sadtalker": "A",
    "anitalker": "A",
    "aniportrait": "A",
    "hallo": "A",
    "pdfgc": "A+V",
    "styletalk": "A+V",
    "dreamtalk": "A+V",
}
PSEUDO = ("swapped_speech", "still_image", f"shifted_{SHIFT}_frames")
LISTS = {"A": "cases_A.csv", "A+V": "cases_AV.csv"}
SIZE = 512  # pixels of the real videos if there is no EmotiveTalk run


@dataclass(frozen=True)
class Table1:
    """Settings of Table 1.

    Attributes:
        videos: Folder of talking-head videos.
        ethd: Exported ETHD, or None.
        size: Side of its frames in pixels.
        clips: Largest number of clips, or None.
        frames: Length that clips are cut to; shorter ones are left out. None keeps whole clips.
        installed: Published system -> its working copy and interpreter.
    """

    videos: Path
    ethd: Path | None
    size: int = SIZE
    clips: int | None = None
    frames: int | None = None
    installed: Mapping[str, tuple[str, str]] | None = None


def table1(plan: TablePlan, wanted: Table1) -> list[Step]:
    """Returns the steps."""
    limits = [f"{key}={value}" for key, value in (("clips", wanted.clips), ("frames", wanted.frames)) if value]
    cases = plan.test_set("mini", "set", [f"source={wanted.videos}", *limits], [wanted.videos])
    lists = {mode: cases / name for mode, name in LISTS.items()}
    real = plan.system("ground_truth", "ground_truth", lists["A+V"], [f"size={wanted.size}"], [cases]) / "videos"
    runs, finished = [], {}
    for name, mode in (("emotivetalk_a", "A"), ("emotivetalk_av", "A+V")):
        runs.append(plan.system(name, name, lists[mode], *_ethd_options(wanted.ethd)))
        if wanted.ethd is not None:
            finished[name] = ("emotivetalk", mode)
    for name, mode in PUBLISHED.items():
        place = (wanted.installed or {}).get(name)
        keys = [f"repository={place[0]}", f"python={place[1]}"] if place else []
        runs.append(plan.system(name, name, lists[mode], keys))
        if place:
            finished[name] = (name, mode)
    pseudo = plan.folder / "clips" / "pseudo"
    command = ["-m", "benchmark.pseudo_systems", f"real={real}", f"output={pseudo}"]
    plan.add("pseudo", "makes the pseudo-systems' clips", command, [real], [pseudo / name for name in PSEUDO])
    listed, reasons = ",".join(map(str, runs)), plan.results / "not_run.json"
    plan.add(
        "not_run",
        "lists what was not run, with reasons",
        ["-m", "benchmark.not_run", f"runs={listed}", f"dataset={plan.dataset}", f"output={reasons}"],
        [run / "records" for run in runs],
        [reasons],
    )
    plan.evaluate("ground_truth", real, real, {"system": "ground_truth", "mode": "A+V"}, ["metrics=[sync]"])
    for name, (system, mode) in finished.items():
        clips = plan.folder / "clips" / name
        plan.evaluate(name, clips / "videos", clips / "reference", {"system": system, "mode": mode})
    for name in PSEUDO:
        plan.evaluate(name, pseudo / name, real, {"system": name, "mode": "control"})
    plan.table("1")
    return plan.steps


def _ethd_options(ethd: Path | None) -> tuple[list[str], list[Path]]:
    return ([f"ethd={ethd}"], [ethd]) if ethd else ([], [])
