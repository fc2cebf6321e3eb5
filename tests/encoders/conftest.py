"""What tests of several encoders need."""

import pytest


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """No weights anywhere, and no network to fetch them from."""
    for variable in ("EMOTIVETALK_WEIGHTS", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    monkeypatch.setenv("EMOTIVETALK_OFFLINE", "1")
