"""Reading the metrics' checkpoints: never pickled code, always strict, always known by hash."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Weights = str | Path | Mapping[str, Tensor]


@dataclass(frozen=True)
class Provenance:
    """Which numbers a network holds; reported beside every value it gives.

    Attributes:
        network: the network's name.
        file: the checkpoint's file name, or None for tensors handed over in memory.
        sha256: the checkpoint's hash, or None likewise; the weight registry says whose it is.
    """

    network: str
    file: str | None = None
    sha256: str | None = None


def provenance(network: str, weights: Weights) -> Provenance:
    """The file and the hash behind a network."""
    if isinstance(weights, Mapping):
        return Provenance(network)
    path = Path(weights)
    with path.open("rb") as file:
        return Provenance(network, path.name, hashlib.file_digest(file, "sha256").hexdigest())


def read_tensors(weights: Weights, expected: str, part: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, from a state dict, a dict around one, or a TorchScript archive.

    Args:
        weights: path, or the tensors themselves.
        expected: the official file's name, for errors.
        part: key of the state dict inside a larger checkpoint.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds something else than tensors by name.
    """
    if isinstance(weights, Mapping):
        return dict(weights)
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected {expected}")
    loaded: Any
    try:
        if _is_torchscript(path):
            loaded = torch.jit.load(str(path), map_location="cpu").state_dict()
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(
            f"{path} is no checkpoint that loads without running code ({error}); expected {expected}"
        ) from None
    if part is not None:
        if not isinstance(loaded, Mapping) or part not in loaded:
            found = ", ".join(map(str, loaded)) if isinstance(loaded, Mapping) else type(loaded).__name__
            raise ValueError(f"{path} has no entry {part!r} (found {found}); expected {expected}")
        loaded = loaded[part]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(f"{path} does not hold tensors by name; expected {expected}")
    return dict(loaded)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], expected: str) -> None:
    """Copies tensors into a module; every name and shape must fit.

    Only ``num_batches_tracked`` may be missing: old checkpoints lack it and evaluation never reads it.

    Raises:
        ValueError: naming the first names and shapes that do not fit.
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
    """Evaluation mode, no gradients."""
    module.eval().requires_grad_(False)
