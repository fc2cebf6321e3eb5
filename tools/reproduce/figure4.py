"""Figure 4 from a run of yours: one expression image, with and without Di-CTE.

Both readings of "without": a constant expression at inference of the same network, and a network that was trained
without Di-CTE. The paper's "conducted inference using two configurations" speaks for the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.pipeline.step import Step
from tools.reproduce.table_plan import TablePlan


@dataclass(frozen=True)
class Figure4:
    """Settings of Figure 4.

    Attributes:
        portrait: Picture of the face.
        speech: File with sound.
        expression: Picture of another face with the expression.
        ethd: Exported ETHD.
        without: Exported ETHD that was trained with ``model.variant=wo_dicte``; None for the first reading alone.
    """

    portrait: Path
    speech: Path
    expression: Path
    ethd: Path
    without: Path | None = None


def figure4(plan: TablePlan, wanted: Figure4) -> list[Step]:
    """Returns the steps: three videos at most, and a figure for each reading."""
    still = plan.folder / "still.mp4"
    command = ["-m", "tools.reproduce.still_video", f"picture={wanted.expression}", f"output={still}"]
    plan.add("still", "makes a video of the expression, without motion", command, [wanted.expression], [still])
    image = f"emotion.image={wanted.expression}"
    moving = _video(plan, wanted, "with_dicte", wanted.ethd, [image], wanted.expression)
    held = [f"emotion.video={still}", "emotion.extend=hold"]
    readings = {"inference": _video(plan, wanted, "without_at_inference", wanted.ethd, held, still)}
    if wanted.without is not None:
        readings["trained"] = _video(plan, wanted, "trained_without", wanted.without, [image], wanted.expression)
    for reading, video in readings.items():
        figure = plan.folder / "tables" / f"figure4_{reading}.png"
        command = ["-m", "benchmark.figures", "4", f"with_dicte={moving}", f"without_dicte={video}", f"output={figure}"]
        plan.add(f"figure4_{reading}", f"draws figure 4, without Di-CTE: {reading}", command, [moving, video], [figure])
    return plan.steps


def _video(plan: TablePlan, wanted: Figure4, name: str, ethd: Path, emotion: list[str], source: Path) -> Path:
    """Adds the generation of a video; returns its path."""
    output = plan.folder / "clips" / f"{name}.mp4"
    inputs = [f"portrait={wanted.portrait}", f"speech={wanted.speech}", f"ethd={ethd}", "landmarks=mediapipe"]
    command = ["generate.py", *inputs, *emotion, f"device={plan.device}", f"output={output}"]
    plan.add(name, f"generates {output.name}", command, [wanted.portrait, wanted.speech, ethd, source], [output])
    return output
