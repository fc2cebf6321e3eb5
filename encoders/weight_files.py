"""Loads weight files without running code from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.tensors import TensorFileError, load_saved


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
    try:
        return load_saved(path)
    except TensorFileError as error:
        raise WrongWeights(f"{error}. Compare its hash with the publisher's.") from error


def load_tensors(path: str | Path) -> Any:
    """Loads a ``.safetensors`` file, or any other file with ``load_pickle``.

    Raises:
        WrongWeights: If the file is damaged or has objects other than tensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return load_pickle(path)
    from runtime.hashed_tensors import load_hashed

    try:
        return load_hashed(path)[1]
    except TensorFileError as error:
        raise WrongWeights(f"{error}; download it again") from error
