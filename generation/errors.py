"""The error of this package. Errors of media files and encoders pass through unchanged."""

from __future__ import annotations

from runtime.errors import UserError


class GenerationError(UserError):
    """Raised if a video cannot be generated or the web page cannot be served.

    The message names the file or key, what was found, and what to do next.
    """
