"""Command line of the figures."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark import figures
from benchmark.figures.compared_frames import case_grid
from benchmark.figures.drift_figure import draw_drift
from benchmark.figures.heatmaps import figure3, figure4
from configs.options import Readers, named_paths, path, paths, read_command, read_options, run_script
from runtime.files import write_whole
from runtime.ownership import claim, require_own_files

FORMATS = {".png": "PNG", ".pdf": "PDF", ".jpg": "JPEG"}


def picture(value: str | Path) -> Path:
    """Parses the file name of a figure."""
    file = Path(value).expanduser()
    if file.suffix.lower() not in FORMATS:
        raise ValueError(f"expected a name that ends in {', '.join(FORMATS)}")
    return file


CASE: Readers = {"clip": str, "system": named_paths, "driving": path, "output": picture}
FIGURES: Mapping[str, Readers] = {
    "3": {"portrait": path, "lips": path, "expression": path, "output": picture},
    "4": {"with_dicte": path, "without_dicte": path, "output": picture},
    "5": CASE,
    "6": CASE,
    "drift": {"files": paths, "output": picture},
}


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and writes the figure.

    Raises:
        UserError: If the figure cannot be drawn.
    """
    options = read_figure(arguments)
    output = options["output"]
    require_own_files(output.parent, [output.name], f"output={output}")
    save(draw(options), output)
    print(f"figure  {output}")


def read_figure(arguments: Sequence[str]) -> dict[str, Any]:
    """Parses the options of a figure.

    Raises:
        ConfigError: If an option is missing or invalid.
    """
    figure = read_command(figures.__doc__, arguments, FIGURES)
    readers = FIGURES[figure]
    return {"figure": figure, **read_options(figures.__doc__, arguments[1:], readers, required=needed(figure))}


def needed(figure: str) -> list[str]:
    """Required options of a figure."""
    return [key for key in FIGURES[figure] if key != "driving"]


def draw(options: Mapping[str, Any]) -> Image.Image | bytes:
    """Draws a figure; returns an image, or the bytes of a file in the output's format.

    Raises:
        UserError: If the figure cannot be drawn.
    """
    output = options["output"]
    if options["figure"] == "3":
        return figure3(options["portrait"], options["lips"], options["expression"])
    if options["figure"] == "4":
        return figure4(options["with_dicte"], options["without_dicte"])
    if options["figure"] == "drift":
        buffer = io.BytesIO()
        draw_drift(options["files"]).savefig(buffer, format=output.suffix[1:].lower(), dpi=150)
        return buffer.getvalue()
    return case_grid(options["clip"], options["system"], options.get("driving"))


def save(figure: Image.Image | bytes, output: Path) -> None:
    """Writes a figure completely or not at all.

    Raises:
        ForeignFileError: If the file was not written by this program.
    """
    claim(output.parent, [output.name], f"output={output}")
    if isinstance(figure, Image.Image):
        buffer = io.BytesIO()
        figure.save(buffer, FORMATS[output.suffix.lower()])
        figure = buffer.getvalue()
    write_whole(output, figure)


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
