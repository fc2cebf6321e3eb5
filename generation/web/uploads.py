"""Gradio's inputs for files, handing over what was uploaded as it is.

Gradio's own inputs decode and convert uploads, with FFmpeg's program where there is one, and answer a wrong file with a
bare "Error". The pipeline reads any format by itself and says in words what is wrong with a file.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

# Gradio's own "share" buttons would send files to a server elsewhere.
ONLY_LARGER: list[Any] = ["fullscreen"]


def picture(label: str, **look: Any) -> gr.Image:
    """A picture by upload or webcam, as a path."""
    return _as_uploaded(
        gr.Image(
            label=label, type="filepath", image_mode=None, sources=["upload", "webcam"], buttons=ONLY_LARGER, **look
        )
    )


def sound(label: str, **look: Any) -> gr.Audio:
    """Sound by upload or microphone, as a path."""
    return _as_uploaded(
        gr.Audio(label=label, type="filepath", sources=["upload", "microphone"], buttons=[], editable=False, **look)
    )


def film(label: str, **look: Any) -> gr.Video:
    """A video by upload or webcam, as a path."""
    return _as_uploaded(gr.Video(label=label, sources=["upload", "webcam"], buttons=[], **look))


def _as_uploaded(component: Any) -> Any:
    """Takes an input's own conversion away. A subclass would make Gradio write a stub file beside this one.

    After a click on an example Gradio goes on with a copy that has it back, so inputs are asked for paths as well.
    """
    component.preprocess = lambda payload: None if payload is None else payload.path
    return component
