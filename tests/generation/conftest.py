"""A pipeline of preset tiny with random weights."""

import pytest

from generation.model_files import ModelFiles
from generation.pipeline import EmotiveTalkPipeline


@pytest.fixture(scope="session")
def pipeline(runs) -> EmotiveTalkPipeline:
    return ModelFiles(runs / "ethd", device="cpu").load()
