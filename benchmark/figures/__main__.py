"""The command line of the figures."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmark.figures.compared_frames import case_grid
from benchmark.figures.drift import draw_drift
from benchmark.figures.frames import FigureError
from benchmark.figures.heatmaps import figure3, figure4
from runtime.files import write_whole

FORMATS = {".png": "PNG", ".pdf": "PDF", ".jpg": "JPEG"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line; returns the exit status."""
    keys = parser().parse_args(arguments)
    try:
        save(draw(keys), keys.output)
    except FigureError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: --output {keys.output}: cannot be written ({error.strerror})", file=sys.stderr)
        return 1
    print(f"figure  {keys.output}")
    return 0


def parser(kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The figures and their options."""
    parser = kind(prog="python -m benchmark.figures", description="The paper's figures.")
    figures = parser.add_subparsers(dest="figure", required=True)
    three = figures.add_parser("3", help="what lips and expression move")
    three.add_argument(
        "--portrait", type=Path, required=True, help="as cropped for the videos, or a video's first frame"
    )
    three.add_argument("--lips", type=Path, required=True, help="generated with drive=lips")
    three.add_argument("--expression", type=Path, required=True, help="generated with drive=expression")
    four = figures.add_parser("4", help="with and without Di-CTE")
    four.add_argument("--with-dicte", type=Path, required=True)
    four.add_argument("--without-dicte", type=Path, required=True)
    for number, what in (("5", "one case across systems driven by audio"), ("6", "one case of emotion control")):
        case = figures.add_parser(number, help=what)
        case.add_argument("--clip", required=True, help="name of the videos, without ending")
        case.add_argument("--system", action="append", required=True, metavar="NAME=DIR", help="its videos, or one")
        case.add_argument("--driving", type=Path, help="the video whose emotion is taken over")
    drift = figures.add_parser("drift", help="metrics over minutes")
    drift.add_argument("files", type=Path, nargs="+", help="results files made with drift=5")
    for figure in figures.choices.values():
        figure.add_argument("--output", type=Path, required=True, help=".png, .pdf or .jpg")
    return parser


def draw(keys: argparse.Namespace) -> Image.Image | bytes:
    """A figure as a picture, or as a file of the output's format.

    Raises:
        FigureError: if it cannot be made.
    """
    if keys.output.suffix.lower() not in FORMATS:
        raise FigureError(f"{keys.output}: expected a name that ends in {', '.join(FORMATS)}")
    if keys.figure == "3":
        return figure3(keys.portrait, keys.lips, keys.expression)
    if keys.figure == "4":
        return figure4(keys.with_dicte, keys.without_dicte)
    if keys.figure == "drift":
        buffer = io.BytesIO()
        draw_drift(keys.files).savefig(buffer, format=keys.output.suffix[1:].lower(), dpi=150)
        return buffer.getvalue()
    systems = {}
    for text in keys.system:
        name, equals, place = text.partition("=")
        if not (name and equals and place) or name in systems:
            raise FigureError(f"--system {text}: expected NAME=DIR, each name once")
        systems[name] = Path(place).expanduser()
    return case_grid(keys.clip, systems, keys.driving)


def save(drawn: Image.Image | bytes, output: Path) -> None:
    """Writes a figure; the file appears when it is whole."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(drawn, Image.Image):
        buffer = io.BytesIO()
        drawn.save(buffer, FORMATS[output.suffix.lower()])
        drawn = buffer.getvalue()
    write_whole(output, drawn)


if __name__ == "__main__":
    sys.exit(main())
