"""The generation pipeline of preset tiny with random weights."""

import pytest

from generation.model_files import ModelFiles
from generation.pipeline import Talker


@pytest.fixture(scope="session")
def talker(runs) -> Talker:
    return ModelFiles(runs / "ethd", device="cpu").load()
