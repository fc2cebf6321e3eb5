"""Gradio inputs for files that pass uploads on unchanged.

Gradio's own inputs decode and convert uploads, with the FFmpeg program if there is one, and report a wrong file as a
bare "Error". The pipeline reads every format itself and its errors name the problem.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

# Gradio's "share" button would send files to an external server.
ONLY_FULLSCREEN: list[Any] = ["fullscreen"]


def picture(label: str, **look: Any) -> gr.Image:
    """Image input by upload or webcam; its value is a path."""
    return _as_uploaded(
        gr.Image(
            label=label, type="filepath", image_mode=None, sources=["upload", "webcam"], buttons=ONLY_FULLSCREEN, **look
        )
    )


def sound(label: str, **look: Any) -> gr.Audio:
    """Sound input by upload or microphone; its value is a path."""
    return _as_uploaded(
        gr.Audio(label=label, type="filepath", sources=["upload", "microphone"], buttons=[], editable=False, **look)
    )


def film(label: str, **look: Any) -> gr.Video:
    """Video input by upload or webcam; its value is a path."""
    return _as_uploaded(gr.Video(label=label, sources=["upload", "webcam"], buttons=[], **look))


def _as_uploaded(component: Any) -> Any:
    """Removes an input's conversion, without a subclass: for one, Gradio would write a stub file into this folder.

    After a click on an example Gradio uses a copy whose conversion is back, so the inputs also use type="filepath".
    """
    component.preprocess = lambda payload: None if payload is None else payload.path
    return component
