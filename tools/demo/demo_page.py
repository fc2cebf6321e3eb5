"""The page of the demonstration: one HTML file with videos, pictures, curves, scores and commands inside.

    python -m tools.demo.demo_page demo

It is made from what the chain wrote into the folder and nothing else; ``page.html`` holds its looks.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from configs.options import read_options, run_script
from runtime.files import write_whole
from tools.demo.chart import Line, chart
from tools.demo.demo_plan import RUN
from tools.demo.material import (
    Curves,
    Score,
    StepText,
    metric_scores,
    read_curves,
    read_json,
    read_steps,
    real_scores,
    synthetic_scores,
    vaid_scores,
    verdicts,
)
from tools.demo.sections import decoupling_section, dicte_section, long_section, results_section
from tools.demo.strips import file_picture, top_of
from tools.pipeline.clock import format_duration

SHEET_ROWS = 608  # pixels of the contact sheet that are shown: four rows of clips
RETRIEVAL = {"train/lip_near1": "training", "val/lip_near1": "held-out"}
NEXT = """<section id="next"><h2>Where to go from here</h2>
<p>Everything on this page grows by configuration. Each file in <code>configs/experiment/</code> opens with what an
experiment costs, what it gave and its exact command: <code>tiny</code> for synthetic speakers, <code>small</code>
for real faces on a laptop, <code>paper</code> for the published setting. The README leads through HDTF, MEAD and a
cluster.</p>
<p>Show only people who agreed to it, and say that it is generated: files from <code>generate.py</code> carry a mark
that does.</p></section>"""


def build_page(folder: Path) -> str:
    """The page of a folder the chain has filled.

    Raises:
        UserError: if a video cannot be read.
        OSError: if something the page shows is missing.
    """
    steps, asked = read_steps(folder), read_json(folder / "cases" / "cases.json")
    results, synthetic = read_json(folder / "results.json"), read_json(folder / "score_ethd.json")
    seen, unseen = (read_json(folder / f"score_{name}.json") for name in ("seen", "unseen"))
    scores = [*vaid_scores(read_json(folder / "score_vaid.json"))]
    scores += synthetic_scores(synthetic) if synthetic else []
    scores += [row for report, who in ((seen, "seen clip"), (unseen, "unseen person")) if report
               for row in real_scores(report, who)]  # fmt: skip
    scores += metric_scores(results) if results else []
    parts = [
        _header(steps, asked, real=seen is not None),
        "<main>",
        _overview(),
        _data(folder),
        results_section(folder, asked, verdicts(synthetic, seen, unseen)),
        long_section(folder, asked),
        decoupling_section(folder, asked),
        dicte_section(folder),
        _training_curves(folder),
        _scores(scores),
        _steps(steps),
        NEXT,
        "</main>",
        f"<footer>Made {datetime.now(UTC):%d %B %Y} by EmotiveTalk, an independent implementation of Wang et al., "
        "<i>EmotiveTalk</i>, CVPR 2025. The generated videos are no recordings.</footer>",
    ]
    template = (resources.files(__package__) / "page.html").read_text(encoding="utf-8")
    return template.replace("<!--BODY-->", "\n".join(parts))


def _header(steps: Sequence[StepText], asked: Mapping[str, Any], real: bool) -> str:
    spent = sum(step.seconds or 0 for step in steps)
    busy = sum(step.processor_seconds or 0 for step in steps)
    who = "real people" if real else "people who exist only as drawings"
    faces = "distorted, most of all those it never saw" if real else "rough"
    lead = (
        f"On {asked['train']} clips of {who}, this computer learned to turn one portrait and a voice into a talking "
        f"face. It took minutes instead of days, so the faces are {faces}. "
        "Every step, its command and its time are below."
    )
    facts = {
        "From nothing to this page": f"{spent / 60:.0f} minutes",
        "Processor time": f"{busy / 60:.0f} minutes on {os.cpu_count()} cores",
        "Clips to learn from": f"{asked['train']}",
        "People held out": f"{len(asked['unseen'])}",
        "Made with": f"torch {importlib.metadata.version('torch')}, {platform.machine()}",
    }
    listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    links = {
        "data": "The data",
        "results": "What came out",
        "long": "A longer clip",
        "decoupling": "Lips and expression",
        "dicte": "A living face",
        "learning": "How it learned",
        "scores": "Scores",
        "steps": "Every step",
    }
    nav = "".join(f'<a href="#{name}">{escape(words)}</a>' for name, words in links.items())
    return (
        '<header><p class="eyebrow">EmotiveTalk, the demonstration</p><h1>Talking heads this machine trained '
        "itself</h1>"
        f'<p class="lead">{escape(lead)}</p><dl class="facts">{listed}</dl><nav>{nav}</nav></header>'
    )


def _overview() -> str:
    boxes = (
        ("A voice", "sixteen thousand numbers a second"),
        ("V-AID", "hears how the lips move, and how the speaker feels"),
        ("ETHD", "draws the face of the portrait, moving so"),
        ("A video", "25 frames a second, with the voice"),
    )
    shown = "<i>→</i>".join(f"<div><b>{name}</b><span>{words}</span></div>" for name, words in boxes)
    return (
        "<section><h2>The idea in one line</h2><p>Lips and expression are taken apart, so that the mouth can "
        "follow the "
        "sound while the rest of the face shows whatever emotion one asks for.</p><div "
        f'class="idea">{shown}</div></section>'
    )


def _data(folder: Path) -> str:
    sheet = top_of(folder / "data" / "contact_sheet.png", SHEET_ROWS)
    return (
        '<section id="data"><h2>What it learned from</h2><p>Some of the prepared clips, four moments of '
        "each. Red is the "
        "box of the lips, green that of the face: inside green and outside red is where an expression may act.</p>"
        f'<div class="cards"><div class="card wide"><img src="{sheet}" alt="prepared clips with their '
        'boxes"></div></div>'
        "</section>"
    )


def _training_curves(folder: Path) -> str:
    vaid, ethd = (folder / "runs" / stage / RUN for stage in ("vaid", "ethd"))
    heard, drawn = read_curves(vaid), read_curves(ethd)
    report = read_json(folder / "score_vaid.json")
    chance = (report.get("lip") or report["lip_train"])["chance"]
    retrieval = _lines(heard, RETRIEVAL)
    if retrieval:
        end = max(x for line in retrieval for x, _ in line.points)
        retrieval.append(Line("chance", [(0, chance), (end, chance)], dashed=True))
    charts = (
        chart("V-AID: lips told from those of other frames, share of frames", retrieval, "steps"),
        chart("V-AID: error of expressions",
              _lines(heard, {"train/expression_mse": "training", "val/expression_mse": "held-out",
                             "val/expression_mse_repeated": "repeating one expression"}), "steps", logarithmic=True),
        chart("V-AID: error of lips", _lines(heard, {"train/lip_mse": "training", "val/lip_mse": "held-out"}),
              "steps", logarithmic=True),
        chart("ETHD: loss", _lines(drawn, {"train/loss": "training", "val/loss": "held-out"}), "steps",
              logarithmic=True),
    )  # fmt: skip
    cards = "".join(f'<div class="card">{one}</div>' for one in charts)
    plots = sorted((vaid / "plots").glob("*.png"))
    plot = (
        '<div class="card wide"><h3>What V-AID hears in one clip</h3><p class="hint">Black is true, coloured '
        "is heard: lips "
        f'on the left, two inventions of the expression on the right.</p><img src="{file_picture(plots[-1])}" '
        'alt="true and predicted latents over time"></div>'
        if plots
        else ""
    )
    return (
        '<section id="learning"><h2>How it learned</h2><p>A training is going well when its curves fall, or '
        "rise where more "
        "is better, and the held-out one follows. Where the held-out curve turns back, the network has begun "
        "to learn its "
        f'examples by heart.</p><div class="cards">{cards}{plot}</div></section>'
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
        '<section id="scores"><h2>Scores</h2><p>A number says little without what it may be held against, '
        "and nothing at "
        "all when another network computed it than the one people expect. So every row names both.</p>"
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
        '<section id="steps"><h2>Every step and its command</h2><p>These are the very commands that ran, in '
        "this order, "
        f'from the repository\'s root. Each can be typed by hand.</p><ol class="steps">{items}</ol></section>'
    )


def _time(step: StepText) -> str:
    return "" if step.seconds is None else f'<span class="time">{format_duration(step.seconds)}</span>'


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and writes the page.

    Raises:
        UserError: if something it shows cannot be read.
    """
    folder = Path(read_options(__doc__, arguments, {}, places=("folder",))["folder"])
    page = build_page(folder)
    write_whole(folder / "index.html", page)
    print(f"page  {folder / 'index.html'} ({len(page) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
