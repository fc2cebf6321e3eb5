"""The generation pipeline of preset tiny with random weights."""

from copy import copy
from dataclasses import replace

import pytest

from generation.model_files import ModelFiles
from generation.pipeline import EmotiveTalkPipeline
from lightning_modules.ethd.sampler import Sampler


@pytest.fixture(scope="session")
def pipeline(runs) -> EmotiveTalkPipeline:
    return ModelFiles(runs / "ethd", device="cpu").load()


@pytest.fixture(scope="session")
def guidable(pipeline) -> EmotiveTalkPipeline:
    """The same networks, trained with dropout of lips and expression according to their configuration."""
    info = pipeline.exported.info
    info = replace(info, config=replace(info.config, lip_dropout=0.1, expression_dropout=0.1))
    found = copy(pipeline)
    found.exported = replace(pipeline.exported, info=info)
    found.sampler = Sampler(pipeline.exported.ethd, info, pipeline.encoders.codec, pipeline.device)
    return found
