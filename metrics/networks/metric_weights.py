"""Loads checkpoints of the metrics' networks: strictly, with their hash, and without running code from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoders.weight_sources import published_hashes
from runtime.files import sha256_of
from runtime.tensors import TensorFileError, is_torchscript, load_saved, load_torchscript

Weights = str | Path | Mapping[str, Tensor]


@dataclass(frozen=True)
class Provenance:
    """Origin of a network's weights, reported with every value of the metric.

    Attributes:
        network: Name of the network.
        file: File name of the checkpoint, or None for tensors in memory.
        sha256: Hash of the checkpoint, or None for tensors in memory.
    """

    network: str
    file: str | None = None
    sha256: str | None = None


def provenance(network: str, weights: Weights) -> Provenance:
    """Computes the provenance of weights."""
    if isinstance(weights, Mapping):
        return Provenance(network)
    path = Path(weights)
    return Provenance(network, path.name, sha256_of(path))


def read_tensors(weights: Weights, expected: str, part: str | None = None) -> dict[str, Tensor]:
    """Reads the tensors of a checkpoint by name, from a state dict, a dict with one, or a TorchScript archive.

    Args:
        weights: Path, or the tensors themselves.
        expected: Name of the official file, for messages.
        part: Key of the state dict in a larger checkpoint.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file has anything else than tensors by name.
    """
    if isinstance(weights, Mapping):
        return dict(weights)
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected {expected}")
    loaded: Any
    try:
        if is_torchscript(path):
            loaded = load_torchscript(path, published=sha256_of(path) in published_hashes())
        else:
            loaded = load_saved(path)
    except TensorFileError as error:
        raise ValueError(f"{error}; expected {expected}") from None
    if part is not None:
        if not isinstance(loaded, Mapping) or part not in loaded:
            found = ", ".join(map(str, loaded)) if isinstance(loaded, Mapping) else type(loaded).__name__
            raise ValueError(f"{path}: has no entry {part!r} (found {found}); expected {expected}")
        loaded = loaded[part]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(f"{path}: does not have tensors by name; expected {expected}")
    return dict(loaded)


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], expected: str) -> None:
    """Loads tensors into a module; every name and shape must match.

    Only ``num_batches_tracked`` may be missing: old checkpoints lack it, and evaluation does not use it.

    Raises:
        ValueError: If names or shapes differ; the message has the first of each kind.
    """
    own = module.state_dict()
    tensors = dict(tensors)
    for name in own:
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, own[name])
    missing = [name for name in own if name not in tensors]
    surplus = [name for name in tensors if name not in own]
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if missing or surplus or shapes:
        parts = [
            f"{len(found)} {what} (first: {found[0]})"
            for what, found in (("missing", missing), ("unknown", surplus), ("of another shape", shapes))
            if found
        ]
        raise ValueError(
            f"the weights are not those of {type(module).__name__}: {', '.join(parts)}. Expected {expected}"
        )
    module.load_state_dict(tensors, strict=True)


def frozen(module: nn.Module) -> None:
    """Sets a module to evaluation mode, without gradients."""
    module.eval().requires_grad_(False)
