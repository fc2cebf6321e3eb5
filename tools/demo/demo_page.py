"""Builds the page of the demonstration: one HTML file that contains videos, pictures, curves, scores and commands.

    python -m tools.demo.demo_page demo

It uses only the files that the steps wrote into the folder. ``page.html`` is its template.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from configs.options import read_options, run_script
from runtime.files import write_whole
from runtime.ownership import claim
from tools.demo.chart import Line, chart
from tools.demo.demo_plan import RUN
from tools.demo.material import (
    Curves,
    Score,
    StepText,
    metric_scores,
    read_curves,
    read_json,
    read_people,
    read_steps,
    real_scores,
    synthetic_scores,
    vaid_scores,
    verdicts,
)
from tools.demo.sections import best_video, decoupling_section, dicte_section, long_section, results_section
from tools.demo.strips import file_picture, top_of
from tools.pipeline.display import format_duration
from tools.pipeline.step import elapsed

SHEET_ROWS = 608  # pixels of the contact sheet on the page: four rows of clips
RETRIEVAL = {"train/lip_near1": "training", "val/lip_near1": "held-out"}
NEXT = """<section id="next"><h2>Where to go from here</h2>
<p>Larger runs use the same commands with another configuration. Each file in <code>configs/experiment/</code> begins
with the cost, the result and the exact command of an experiment: <code>tiny</code> for synthetic speakers,
<code>small</code> for real faces on a laptop, <code>paper</code> for the published setting. The README describes HDTF,
MEAD and clusters.</p>
<p>Show only people who agreed to it, and say that the video is generated. Files from <code>generate.py</code> carry a
mark in their metadata that says so.</p></section>"""


def build_page(folder: Path) -> str:
    """Builds the page of a folder that the steps have filled.

    Raises:
        UserError: If a video cannot be read.
        OSError: If a file is missing.
    """
    steps, asked = read_steps(folder), read_json(folder / "cases" / "cases.json")
    results, synthetic = read_json(folder / "results.json"), read_json(folder / "score_ethd.json")
    seen, unseen = (read_json(folder / f"score_{name}.json") for name in ("seen", "unseen"))
    scores = [*vaid_scores(read_json(folder / "score_vaid.json"))]
    before = read_json(folder / "score_before.json")
    scores += synthetic_scores(synthetic, before) if synthetic else []
    scores += [row for report, who in ((seen, "training clips"), (unseen, "held-out people")) if report
               for row in real_scores(report, who)]  # fmt: skip
    scores += metric_scores(results) if results else []
    parts = [
        _header(folder, steps, asked, real=seen is not None),
        "<main>",
        _overview(),
        _data(folder),
        results_section(folder, asked, verdicts(synthetic, seen, unseen)),
        _people(read_people(folder)),
        long_section(folder, asked),
        decoupling_section(folder, asked),
        dicte_section(folder),
        _training_curves(folder),
        _scores(scores),
        _steps(steps),
        NEXT,
        "</main>",
        f"<footer>Made {datetime.now(UTC):%d %B %Y} by EmotiveTalk, an independent implementation of Wang et al., "
        "<i>EmotiveTalk</i>, CVPR 2025. The generated videos are not recordings.</footer>",
    ]
    template = (resources.files(__package__) / "page.html").read_text(encoding="utf-8")
    return template.replace("<!--BODY-->", "\n".join(parts))


def _header(folder: Path, steps: Sequence[StepText], asked: Mapping[str, Any], real: bool) -> str:
    spent = elapsed((step.finished, step.seconds) for step in steps if step.seconds is not None)
    busy = sum(step.processor_seconds or 0 for step in steps)
    who = "real people" if real else "synthetic speakers"
    clips = f"{asked['train']} clips of {who}" if asked["train"] > 1 else "one clip"
    lead = f"This computer trained on {clips} to turn one portrait and speech into a talking face. "
    if real:
        lead += (
            "It started from the small model of the repository, which knows synthetic speakers alone. A few people and "
            "some minutes do not teach it faces it has never seen: below is what people in the training data get"
            f"{', and what two people get who were held out' if asked['unseen'] else ''}. Every step, its command and "
            "its time are listed below."
        )
    elif (folder / "score_before.json").exists():
        lead += (
            "It started from the small model of the repository, which was trained for an hour. The scores before and "
            "after are below, and so are every step, its command and its time."
        )
    else:
        lead += (
            "Training took minutes instead of days, so the faces are rough. Every step, its command and its time are "
            "listed below."
        )
    facts = {
        "Total time": f"{spent / 60:.0f} minutes",
        "Processor time": f"{busy / 60:.0f} minutes on {os.cpu_count()} cores",
        "Training clips": f"{asked['train']}",
        "Held-out people": f"{len(asked['unseen'])}",
        "Software": f"torch {importlib.metadata.version('torch')}, {platform.machine()}",
    }
    listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    links = {
        "data": "The data",
        "results": "Results",
        "long": "A longer clip",
        "decoupling": "Lips and expression",
        "dicte": "Moving expression",
        "learning": "Training",
        "scores": "Scores",
        "steps": "Every step",
    }
    nav = "".join(f'<a href="#{name}">{escape(words)}</a>' for name, words in links.items())
    return (
        '<header><p class="eyebrow">EmotiveTalk, demonstration</p><h1>Talking heads trained on this computer</h1>'
        f'<div class="first">{best_video(folder, asked)}<p class="lead">{escape(lead)}</p></div>'
        f'<dl class="facts">{listed}</dl><nav>{nav}</nav></header>'
    )


def _overview() -> str:
    boxes = (
        ("Speech", "16,000 samples per second"),
        ("V-AID", "predicts lip and expression latents from speech"),
        ("ETHD", "generates video frames from the portrait and these latents"),
        ("Video", "25 frames per second, with the speech"),
    )
    shown = "<i>→</i>".join(f"<div><b>{name}</b><span>{words}</span></div>" for name, words in boxes)
    return (
        "<section><h2>The method</h2><p>Lips and expression are separated. The mouth follows the speech, and the rest "
        "of the face shows the requested emotion.</p><div "
        f'class="idea">{shown}</div></section>'
    )


def _data(folder: Path) -> str:
    sheet = top_of(folder / "data" / "contact_sheet.png", SHEET_ROWS)
    return (
        '<section id="data"><h2>Training data</h2><p>Some of the prepared clips, with four frames of each. The red '
        "box contains the lips, the green box the face. The expression acts inside the green box and outside the red "
        "box.</p>"
        f'<div class="cards"><div class="card wide"><img src="{sheet}" alt="prepared clips with their '
        'boxes"></div></div>'
        "</section>"
    )


def _people(found: Mapping[int, Mapping[str, Any]]) -> str:
    """Section on the held-out people against the number of people in the training; nothing if nobody was held out."""
    if not found:
        return ""

    def line(words: str, value: Callable[[Mapping[str, Any]], float | None], dashed: bool = False) -> Line:
        points = ((count, value(found[count])) for count in sorted(found))
        return Line(words, [(count, number) for count, number in points if number is not None], dashed)

    axis = "people in the training"
    charts = (
        chart("PSNR above the repeated first frame, dB", [
            line("from speech", lambda clip: clip["voice"]["psnr"] - clip["psnr_first_frame"]),
            line("with the true motion", lambda clip: clip["own"]["psnr"] - clip["psnr_first_frame"]),
            line("first frame repeated", lambda clip: 0.0, True),
        ], axis),
        chart("Opening of the jaw: correlation with the truth", [
            line("from speech", lambda clip: clip["voice"]["jaw"]),
            line("with the true motion", lambda clip: clip["own"]["jaw"]),
            line("no connection", lambda clip: 0.0, True),
        ], axis),
    )  # fmt: skip
    cards = "".join(f'<div class="card">{one}</div>' for one in charts)
    return (
        '<section id="people"><h2>People who were held out</h2><p>The same training, with as many steps, on fewer '
        "people. All points are of the same two people, who are in none of the trainings. Lips always come from the "
        "speech. With the true motion, the expression and the pose of the head are those of the true video, so what "
        "is left is the picture. Two people are few: a correlation of 0.2 can be chance.</p>"
        f'<div class="cards">{cards}</div></section>'
    )


def _training_curves(folder: Path) -> str:
    vaid, ethd = (folder / "runs" / stage / RUN for stage in ("vaid", "ethd"))
    of_vaid, of_ethd = read_curves(vaid), read_curves(ethd)
    report = read_json(folder / "score_vaid.json")
    chance = (report.get("lip") or report["lip_train"])["chance"]
    retrieval = _lines(of_vaid, RETRIEVAL)
    if retrieval:
        end = max(x for line in retrieval for x, _ in line.points)
        retrieval.append(Line("chance", [(0, chance), (end, chance)], dashed=True))
    charts = (
        chart("V-AID: lip retrieval, share of frames", retrieval, "steps"),
        chart("V-AID: error of expressions",
              _lines(of_vaid, {"train/expression_mse": "training", "val/expression_mse": "held-out",
                               "val/expression_mse_repeated": "expression repeated"}), "steps", logarithmic=True),
        chart("V-AID: error of lips", _lines(of_vaid, {"train/lip_mse": "training", "val/lip_mse": "held-out"}),
              "steps", logarithmic=True),
        chart("ETHD: loss", _lines(of_ethd, {"train/loss": "training", "val/loss": "held-out"}), "steps",
              logarithmic=True),
    )  # fmt: skip
    cards = "".join(f'<div class="card">{one}</div>' for one in charts)
    plots = sorted((vaid / "plots").glob("*.png"))
    plot = (
        '<div class="card wide"><h3>Predictions of V-AID for one clip</h3><p class="hint">Black is the truth, colour '
        "is the prediction. Left: lips. Right: two samples of the expression.</p>"
        f'<img src="{file_picture(plots[-1])}" '
        'alt="true and predicted latents over time"></div>'
        if plots
        else ""
    )
    return (
        '<section id="learning"><h2>Training</h2><p>In a good training the error curves fall and the retrieval curve '
        "rises, and the held-out curves follow. If a held-out curve turns back, the network has begun to overfit.</p>"
        f'<div class="cards">{cards}{plot}</div></section>'
    )


def _lines(curves: Curves, names: Mapping[str, str]) -> list[Line]:
    return [Line(words, curves[name], "repeated" in name) for name, words in names.items() if curves.get(name)]


def _scores(scores: Sequence[Score]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(row.name)}</th><td class="value">{escape(row.value)}</td>'
        f'<td data-label="Compare with:">{escape(row.against)}</td><td>{escape(row.meaning)}</td>'
        f'<td data-label="Computed by:">{escape(row.network)}</td></tr>'
        for row in scores
    )
    return (
        '<section id="scores"><h2>Scores</h2><p>A score needs a reference value, and it depends on the network that '
        "computed it. Every row names both.</p>"
        "<table><thead><tr><th>What</th><th>Value</th><th>Compare with</th><th>What it means</th><th>Computed by</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _steps(steps: Sequence[StepText]) -> str:
    items = "".join(
        f"<li><h3>{escape(step.title)} "
        f"{_time(step)}</h3><p>{escape(step.why)}</p><pre>{escape(step.command)}</pre></li>"
        for step in steps
    )
    return (
        '<section id="steps"><h2>Every step and its command</h2><p>These commands ran in this order, in the root '
        f'folder of the repository. Each can also be typed by hand.</p><ol class="steps">{items}</ol></section>'
    )


def _time(step: StepText) -> str:
    return "" if step.seconds is None else f'<span class="time">{format_duration(step.seconds)}</span>'


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and writes the page.

    Raises:
        UserError: If a file cannot be read.
    """
    folder = Path(read_options(__doc__, arguments, {}, places=("folder",))["folder"])
    page = build_page(folder)
    claim(folder, ["index.html"], str(folder))
    write_whole(folder / "index.html", page)
    print(f"page  {folder / 'index.html'} ({len(page) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
