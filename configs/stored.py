"""Reading of configurations that a run directory holds, which others may have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runtime.errors import first_line
from runtime.yaml_text import check_yaml


def load_stored(path: Path) -> DictConfig:
    """Reads ``config.yaml``; interpolations in it are not resolved.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not a configuration.
    """
    check_yaml(path)
    try:
        loaded: Any = OmegaConf.load(path)
    except OSError:
        raise
    except Exception as error:  # of YAML or OmegaConf, of many types
        raise ValueError(first_line(error)) from error
    if not isinstance(loaded, DictConfig):
        raise ValueError("has no keys and values")
    return loaded
