"""Folders of pretrained models, damaged."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file


def incomplete(model: Path, folder: Path, weights: str, lost: str) -> str:
    """The folder, into which the model is copied without the tensor whose name ends so."""
    tensors = {name: value for name, value in load_file(model / weights).items() if not name.endswith(lost)}
    save_file(tensors, folder / weights, {"format": "pt"})
    (folder / "config.json").write_bytes((model / "config.json").read_bytes())
    return str(folder)
