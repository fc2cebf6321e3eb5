"""Error of a configuration."""

from __future__ import annotations

from runtime.errors import UserError


class ConfigError(UserError, ValueError):
    """A configuration that cannot work. The message names the key and what to change."""

    exit_status = 2
