"""What is printed with the values: everything that was changed for the comparison."""

import numpy as np
from rich.console import Console

from evaluation.evaluate_folders import evaluate
from evaluation.report import deviations, print_results
from tests.helpers.synthetic_videos import evaluate_config, write_clip


def test_sizes_and_trims_are_printed_with_the_values(tmp_path):
    for clip, length in (("a", 10), ("b", 12), ("c", 12)):
        write_clip(tmp_path / "made" / f"{clip}.mp4", [np.full((64, 64, 3), 9, np.uint8)] * length)
        write_clip(tmp_path / "real" / f"{clip}.mp4", [np.full((256, 256, 3), 9, np.uint8)] * (12 + (clip == "b")))
    config = evaluate_config(
        tmp_path / "made", tmp_path / "real", tmp_path / "out.json", metrics=["fid"], cache=str(tmp_path / "cache")
    )
    console = Console(record=True, width=200)
    print_results(console, evaluate(config, Console(quiet=True)))
    printed = console.export_text()
    assert "deviates: generated 64 x 64, reference 256 x 256 pixels: 3 of 3 clips" in printed
    assert "deviates: reference trimmed from 12 to 10 frames, and others alike: 2 of 3 clips" in printed
    assert deviations([{"clip": "a"}]) == []
