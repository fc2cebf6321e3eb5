"""Fixtures of the encoder tests."""

import pytest


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """Hides all local weights and disables downloads."""
    for variable in ("EMOTIVETALK_WEIGHTS", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    monkeypatch.setenv("EMOTIVETALK_OFFLINE", "1")
