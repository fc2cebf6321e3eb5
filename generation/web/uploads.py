"""Gradio inputs for files, without buttons that edit them or send them to other servers, each with a line of help."""

from __future__ import annotations

from typing import Any

import gradio as gr

# Gradio's "share" button would send files to an external server.
ONLY_FULLSCREEN: list[Any] = ["fullscreen"]


def explained(text: str) -> None:
    """Adds a line of help above an input that has no room for one."""
    gr.HTML(text, padding=False, elem_classes="help")


def picture(label: str, help_text: str, **look: Any) -> gr.Image:
    """Image input by upload or webcam."""
    explained(help_text)
    return gr.Image(
        label=label, type="filepath", image_mode=None, sources=["upload", "webcam"], buttons=ONLY_FULLSCREEN, **look
    )


def sound(label: str, help_text: str, **look: Any) -> gr.Audio:
    """Sound input by upload or microphone."""
    explained(help_text)
    return gr.Audio(label=label, type="filepath", sources=["upload", "microphone"], buttons=[], editable=False, **look)


def film(label: str, help_text: str, **look: Any) -> gr.Video:
    """Video input by upload or webcam."""
    explained(help_text)
    return gr.Video(label=label, sources=["upload", "webcam"], buttons=[], **look)


def landmarks(**look: Any) -> gr.File:
    """Input of a landmark file, for runs that cannot detect a face."""
    explained("This model finds no face by itself: add the picture's landmarks, as OpenFace writes them.")
    return gr.File(label="Landmarks (.csv)", file_types=[".csv"], **look)
