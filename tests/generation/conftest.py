"""A pipeline of preset tiny with random weights."""

import pytest

from generation.pipeline import Talker


@pytest.fixture(scope="session")
def talker(runs) -> Talker:
    return Talker.load(runs / "ethd", device="cpu")
