"""Opens a file of weights safely."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from runtime.errors import UserError


class WeightsError(UserError):
    """Weights that cannot be used; the message names the file and what to do."""


class MissingWeights(WeightsError):
    """A file that is nowhere and could not be fetched."""


class WrongWeights(WeightsError):
    """A file that is not the one its name promises, or holds more than tensors."""


def load_pickle(path: str | Path) -> Any:
    """Loads a PyTorch checkpoint that holds tensors and plain containers, on the CPU; runs no code from it.

    Raises:
        WrongWeights: when the file is damaged or needs more than that.
    """
    path = Path(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0]
        raise WrongWeights(
            f"{path}: is not a plain checkpoint of tensors, or is damaged, and is not loaded because a pickle can run "
            f"any code ({first}). Compare its hash with the publisher's."
        ) from error
    except (RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WrongWeights(f"{path}: cannot be read as a PyTorch checkpoint ({first})") from error


def load_tensors(path: str | Path) -> Any:
    """Loads ``.safetensors`` files as such and everything else with ``load_pickle``.

    Raises:
        WrongWeights: when the file is damaged or holds more than tensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return load_pickle(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WrongWeights(f"{path}: cannot be read as safetensors ({error}); fetch it again") from error
