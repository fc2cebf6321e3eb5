"""Gradio's inputs for files, handing over what was uploaded as it is.

Gradio's own decode and convert uploads, with FFmpeg's program where it is there, and answer a wrong file with a bare
"Error". The pipeline reads any format by itself and says in words what is wrong with a file.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

def _path(payload: Any) -> str | None:
    return None if payload is None else payload.path

from gradio.events import Dependency

class Picture(gr.Image):
    """A picture by upload or webcam, as a path."""

    is_template = True

    def preprocess(self, payload: Any) -> str | None:
        """The upload's path."""
        return _path(payload)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

class Sound(gr.Audio):
    """Sound by upload or microphone, as a path."""

    is_template = True

    def preprocess(self, payload: Any) -> str | None:
        """The upload's path."""
        return _path(payload)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

class Film(gr.Video):
    """A video by upload or webcam, as a path; a made one is shown as it is."""

    is_template = True

    def preprocess(self, payload: Any) -> str | None:
        """The upload's path."""
        return _path(payload)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component
