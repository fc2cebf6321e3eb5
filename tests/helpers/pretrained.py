"""Incomplete copies of pretrained models."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file


def incomplete(model: Path, folder: Path, weights: str, lost: str) -> str:
    """Copies a model to ``folder`` without the tensors whose names end with ``lost``; returns the folder."""
    tensors = {name: value for name, value in load_file(model / weights).items() if not name.endswith(lost)}
    save_file(tensors, folder / weights, {"format": "pt"})
    (folder / "config.json").write_bytes((model / "config.json").read_bytes())
    return str(folder)
