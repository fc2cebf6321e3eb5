"""Measures lips and emotions of held-out synthetic speakers against the scales of guidance.

    python -m tools.quality.guidance RUN SHARDS output=FOLDER [lips=1.5,2,3] [expression=1.5,2,3] [both=1.5:2]
                                     [low=0] [high=1] [people=3] [frames=41] [steps=25] [seed=0]

The run must be trained with model.lip_dropout and model.expression_dropout. Videos are generated and read as by
``tools.quality.ethd_synthetic``, for the first ``people`` held-out speakers. One row is printed for each scale as soon
as it is measured, first that without guidance. ``FOLDER/guidance.json`` and ``FOLDER/guidance.png`` hold the rows so
far, so an interrupted measurement keeps them. ``both`` names pairs LIPS:EXPRESSION of scales. ``lips=1`` or
``expression=1`` leaves a condition out: with all twelve speakers, ``people=12 lips=1 expression=2`` takes as long as
the defaults.

    lips      correlation of the lip opening with the true video, with the portrait's own neutral expression
    changed   the same with the seven other emotions
    emotion   share of videos whose nearest emotion is the one that was asked for
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.generation import GuidanceConfig
from configs.options import Readers, count, each, path, read_options, run_script
from configs.rules import check_interval
from lightning_modules.ethd.guidance import guidance_of
from runtime.files import write_whole
from runtime.ownership import claim
from tools.quality.ethd import QualityRun, of_key
from tools.quality.ethd_synthetic import (
    FRAMES,
    MeasuredPerson,
    mean,
    measured_person,
    open_run,
    shown_emotions,
    speakers_of,
)

SCALES = (1.5, 2.0, 3.0)
PEOPLE = 3  # with three scales of each condition ten minutes on one core, for ethd/tiny
SCORES = {"lips_neutral": "lips", "lips_changed": "changed", "emotion": "emotion"}  # name -> column
LEGEND = {
    "lips_neutral": "lips, correlation with the true video",
    "lips_changed": "lips with another emotion",
    "emotion": "share with the emotion asked for",
}


@dataclass(frozen=True)
class GuidanceRow:
    """Numbers of one scale.

    Attributes:
        guidance: Scales of both conditions.
        people: Name of a score -> its value for each speaker.
        seconds: Seconds per video.
    """

    guidance: GuidanceConfig
    people: dict[str, list[float]]
    seconds: float

    @property
    def part(self) -> str:
        """Condition that is guided: lips, expression, both or none."""
        return part_of(self.guidance)

    @property
    def scale(self) -> str:
        """Scale of the guided condition, or LIPS:EXPRESSION."""
        lips, expression = f"{self.guidance.lips:g}", f"{self.guidance.expression:g}"
        return {"none": "1", "lips": lips, "expression": expression}.get(self.part, f"{lips}:{expression}")

    def score(self, name: str) -> float:
        """Mean of a score over the speakers."""
        return mean(self.people[name])

    def line(self) -> str:
        """Row of the table."""
        values = "".join(f"{self.score(name):9.3f}" for name in SCORES)
        return f"{self.part:<12}{self.scale:>7}{values}{self.seconds:9.2f}"


HEADER = f"{'guidance':<12}{'scale':>7}" + "".join(f"{name:>9}" for name in SCORES.values()) + f"{'s/video':>9}"


def part_of(guidance: GuidanceConfig) -> str:
    """Condition that is guided: lips, expression, both or none."""
    parts = [part for part in ("lips", "expression") if getattr(guidance, part) != 1]
    return "both" if len(parts) == 2 else parts[0] if parts else "none"


def settings_of(
    lips: Sequence[float], expression: Sequence[float], both: Sequence[tuple[float, float]], low: float, high: float
) -> list[GuidanceConfig]:
    """Guidance of each row, the first without; scales of 1 add no row."""
    pairs = [*((1.0, scale) for scale in expression), *((scale, 1.0) for scale in lips), *both]
    guided = [GuidanceConfig(*pair, low, high) for pair in pairs if pair != (1, 1)]
    return [GuidanceConfig(lips=1.0, expression=1.0), *guided]


def pair(value: str) -> tuple[float, float]:
    """Parser of LIPS:EXPRESSION.

    Raises:
        ValueError: If it is not two scales.
    """
    lips, colon, expression = value.partition(":")
    if not colon:
        raise ValueError(f"expected LIPS:EXPRESSION, e.g. 1.5:2, found {value!r}")
    return of_key("lips")(lips), of_key("expression")(expression)


def measured_rows(
    run: QualityRun, people: Sequence[MeasuredPerson], settings: Sequence[GuidanceConfig], seed: int
) -> Iterator[GuidanceRow]:
    """Yields each row as soon as it is measured."""
    for guidance in settings:
        start, found = time.perf_counter(), [shown_emotions(run, person, seed, guidance) for person in people]
        videos = sum(len(one.videos) for one in found)
        scores = [one.scores() for one in found]
        by_person = {name: [score[name] for score in scores] for name in SCORES}
        yield GuidanceRow(guidance, by_person, (time.perf_counter() - start) / videos)


def written(rows: Sequence[GuidanceRow]) -> dict[str, Any]:
    """Content of the JSON file: means of ``none``, and of each scale of lips, expression and both."""
    content: dict[str, Any] = {}
    for row in rows:
        numbers = {**{name: row.score(name) for name in SCORES}, "seconds_per_video": row.seconds, "people": row.people}
        if row.part == "none":
            content["none"] = numbers
        else:
            content.setdefault(row.part, {})[row.scale] = numbers
    return content


def draw(rows: Sequence[GuidanceRow], file: Path) -> None:
    """Draws one panel for each condition, with one curve for each score."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # needs no display; imported late because it is slow
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, part in zip(panels, ("lips", "expression"), strict=True):
        curve = [(getattr(row.guidance, part), row) for row in rows if row.part in ("none", part)]
        curve.sort(key=lambda point: point[0])
        for name, words in LEGEND.items():
            axes.plot(
                [scale for scale, _ in curve], [row.score(name) for _, row in curve], "o-", markersize=4, label=words
            )
        axes.set_xlabel(f"guidance.{part}")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_whole(file, picture.getvalue())


def report(run: str, shards: str, output: Path, **options: Any) -> None:
    """Measures all rows, prints them, and writes the files; for the options see the module docstring."""
    low, high = options.get("low", 0.0), options.get("high", 1.0)
    check_interval(low, high)
    scales = options.get("lips", SCALES), options.get("expression", SCALES), options.get("both", ())
    settings = settings_of(*scales, low, high)
    data, opened, others = open_run(run, shards, options.get("steps"))
    for guidance in settings:  # before the first video is made
        guidance_of(guidance, opened.sampler.info.config)
    files = output / "guidance.json", output / "guidance.png"
    claim(output, [file.name for file in files], f"output={output}")
    speakers = speakers_of(others)[: options.get("people", PEOPLE)]
    frames, seed = options.get("frames", FRAMES), options.get("seed", 0)
    people = [measured_person(data, speaker, others, frames) for speaker in speakers]
    asked = {"run": run, "speakers": speakers, "frames": frames, "steps": opened.steps, "seed": seed}
    print(HEADER, flush=True)
    rows: list[GuidanceRow] = []
    for row in measured_rows(opened, people, settings, seed):
        print(row.line(), flush=True)
        rows.append(row)
        text = json.dumps({"settings": {**asked, "low": low, "high": high}, **written(rows)}, indent=1)
        write_whole(files[0], text + "\n")
        draw(rows, files[1])


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    known: Readers = {
        "output": path,
        "lips": each(of_key("lips")),
        "expression": each(of_key("expression")),
        "both": each(pair),
        "low": of_key("low"),
        "high": of_key("high"),
        "people": count,
        "frames": count,
        "steps": count,
        "seed": int,
    }
    run_script(lambda: report(**read_options(__doc__, sys.argv[1:], known, ("run", "shards"), ("output",))))
