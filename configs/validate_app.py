"""Rules of ``app.py``'s configuration that no single field can express."""

from __future__ import annotations

import importlib.util

from configs.app import AppConfig
from configs.errors import ConfigError
from configs.rules import positive
from configs.validate_generate import check_choice

SHORTEST = 1.0  # minutes a file is kept at least: a page that was opened a moment ago still needs its pictures


def validate_app(config: AppConfig) -> None:
    """Checks ``app.py``'s configuration as a whole.

    Raises:
        ConfigError: naming the key, its value, and what is expected; when Gradio is not installed.
    """
    check_choice("device", config.device)
    if config.landmarks is not None:
        check_choice("landmarks", config.landmarks)
    if not config.host.strip():
        raise ConfigError("host is empty: expected an address, e.g. 127.0.0.1 for this machine alone")
    if not 1 <= config.port <= 65535:
        raise ConfigError(f"port={config.port}: expected a number from 1 to 65535, e.g. 7860")
    for key in ("max_seconds", "max_megabytes", "max_waiting"):
        positive(key, getattr(config, key))
    if not config.keep_minutes >= SHORTEST:
        raise ConfigError(f"keep_minutes={config.keep_minutes}: expected {SHORTEST:g} or more")
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("app.py needs Gradio, which is not installed; run: pip install 'gradio>=6'")
