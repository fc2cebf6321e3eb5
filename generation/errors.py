"""The one error of this package that is its own; what files and encoders say goes through as it is."""

from __future__ import annotations

from runtime.errors import UserError


class GenerationError(UserError):
    """A video that cannot be made, or a page that cannot be served.

    The message names the file or key, what was found, and what to do.
    """
