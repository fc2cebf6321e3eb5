"""Fixtures of the encoder tests."""

import pytest

from encoders import weights
from tests.helpers.file_server import serving


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """Hides all local weights and disables downloads."""
    for variable in ("EMOTIVETALK_WEIGHTS", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    monkeypatch.setenv("EMOTIVETALK_OFFLINE", "1")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        yield server


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Sets an empty weights folder and cache, and clears the offline switches."""
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("HF_HUB_OFFLINE", "EMOTIVETALK_OFFLINE", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def register(monkeypatch):
    """Replaces the registry by the given networks during a test."""

    def replace(*networks):
        monkeypatch.setattr(weights, "WEIGHTS", {network.name: network for network in networks})

    return replace
