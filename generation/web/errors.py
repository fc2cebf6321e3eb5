"""The errors of this package."""

from __future__ import annotations

from runtime.errors import UserError


class PageError(UserError):
    """A page that cannot be served, or a video that cannot be made from what was filled in; says what to do."""


class Stopped(Exception):
    """The visitor pressed Stop or left."""
