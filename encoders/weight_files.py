"""Loads weight files without running code from them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from runtime.errors import UserError


class WeightsError(UserError):
    """Raised if weights cannot be used; the message names the file and the next step."""


class MissingWeights(WeightsError):
    """Raised if weights are not found and cannot be downloaded."""


class WrongWeights(WeightsError):
    """Raised if a weight file has unexpected content: a wrong hash, wrong tensors, or objects other than tensors."""


def load_pickle(path: str | Path) -> Any:
    """Loads a PyTorch checkpoint of tensors and plain containers on the CPU, without running code from it.

    Raises:
        WrongWeights: If the file is damaged or has other objects.
    """
    path = Path(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0]
        raise WrongWeights(
            f"{path}: not loaded: it is damaged or has more than tensors, and a pickle can run any code ({first}). "
            "Compare its hash with the publisher's."
        ) from error
    except (RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WrongWeights(f"{path}: cannot be read as a PyTorch checkpoint ({first})") from error


def load_tensors(path: str | Path) -> Any:
    """Loads a ``.safetensors`` file, or any other file with ``load_pickle``.

    Raises:
        WrongWeights: If the file is damaged or has objects other than tensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return load_pickle(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WrongWeights(f"{path}: cannot be read as safetensors ({error}); download it again") from error
