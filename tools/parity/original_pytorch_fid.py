"""Runs an unmodified checkout of pytorch-fid on two folders of pictures and prints what its steps found, as JSON.

Run as a script in a process of its own; it imports nothing of this project. The weights come from a file instead of the
network.

    python original_pytorch_fid.py CHECKOUT FOLDER_1 FOLDER_2 WEIGHTS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch


def main(checkout: str, one: str, two: str, weights: str) -> None:
    """Computes the statistics of both folders and their distance."""
    sys.path.insert(0, str(Path(checkout, "src") if Path(checkout, "src").is_dir() else Path(checkout)))
    from pytorch_fid import fid_score, inception

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights, map_location="cpu", weights_only=True)
    model = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    sides = [
        fid_score.compute_statistics_of_path(folder, model, 50, 2048, torch.device("cpu"), num_workers=0)
        for folder in (one, two)
    ]
    value = fid_score.calculate_frechet_distance(*sides[0], *sides[1])
    means = [mean.tolist() for mean, _ in sides]
    traces = [float(covariance.trace()) for _, covariance in sides]
    print("RESULT " + json.dumps({"means": means, "traces": traces, "fid": float(value)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
