"""Rule weights: tensors computed from their names and shapes, so that networks are compared without checkpoints."""

import importlib.util
import json

import pytest
import torch


@pytest.fixture(scope="session")
def oracle_folder(assets):
    return assets / "oracle"


@pytest.fixture(scope="session")
def rule_weights(oracle_folder):
    """Function from a network's name to tensors with the names, shapes and types of its official checkpoint."""
    spec = importlib.util.spec_from_file_location("rule_weights", oracle_folder / "rule_weights.py")
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)

    def make(name):
        keys = json.loads((oracle_folder / "keys" / f"{name}.json").read_text())["keys"]
        return {
            key: torch.from_numpy(rules.rule_tensor(key, shape).copy()).to(getattr(torch, dtype))
            for key, shape, dtype in keys
        }

    return make
