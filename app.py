"""Serves a web page that generates talking-head videos: ``python app.py --help``."""

from __future__ import annotations

from configs.app import AppConfig
from configs.command_line import run


def app(config: AppConfig) -> int:
    """Serves the page until Ctrl-C and returns the exit status."""
    from generation.web.serve import serve  # late: errors in the configuration are reported before torch is loaded

    return serve(config)


if __name__ == "__main__":
    run("app", AppConfig, app)
