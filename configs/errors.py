"""What is wrong with a configuration, for the person who typed it."""

from __future__ import annotations

from runtime.errors import UserError


class ConfigError(UserError, ValueError):
    """A configuration that cannot work; the message names the key and says what to change."""

    exit_status = 2
