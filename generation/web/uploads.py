"""Gradio inputs for files, without buttons that edit them or send them to other servers."""

from __future__ import annotations

from typing import Any

import gradio as gr

# Gradio's "share" button would send files to an external server.
ONLY_FULLSCREEN: list[Any] = ["fullscreen"]


def picture(label: str, **look: Any) -> gr.Image:
    """Image input by upload or webcam."""
    return gr.Image(
        label=label, type="filepath", image_mode=None, sources=["upload", "webcam"], buttons=ONLY_FULLSCREEN, **look
    )


def sound(label: str, **look: Any) -> gr.Audio:
    """Sound input by upload or microphone."""
    return gr.Audio(label=label, type="filepath", sources=["upload", "microphone"], buttons=[], editable=False, **look)


def film(label: str, **look: Any) -> gr.Video:
    """Video input by upload or webcam."""
    return gr.Video(label=label, sources=["upload", "webcam"], buttons=[], **look)
