"""The form of the web page: one Gradio input for every field of ``VideoRequest``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from configs.models import MAX_GUIDANCE
from generation.examples import ExampleSpeaker
from generation.web.uploads import film, landmarks, picture, sound
from generation.web.video_request import MAX_STEPS, MAX_TEXT
from generation.web.video_service import VideoService
from lightning_modules.ethd.guidance import BRANCHES, guided_parts, trained_guidance

SOURCES = {
    "portrait": "the portrait",
    "label": "a label",
    "text": "text",
    "image": "an image",
    "video": "a video",
}
LEVELS = {1: "slight", 2: "medium", 3: "strong"}
BLINKS: list[tuple[str, str | int]] = [
    ("as predicted", ""),
    ("none", 0),
    ("4, as in reading", 4),
    ("17, as at rest", 17),
    ("26, as in a conversation", 26),
]
INTERNAL_EVENT: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}


def build_form(service: VideoService, example: ExampleSpeaker | None = None) -> dict[str, Any]:
    """Builds the inputs.

    Args:
        service: Service that makes the videos.
        example: Speaker that is filled in at the start.

    Returns:
        The inputs by their names in ``VideoRequest``, in the order of the page.
    """
    return {**_person(service, example), **_emotion(service, example), **_more(service)}


def filled_in(service: VideoService, example: ExampleSpeaker) -> dict[str, Any]:
    """Values of the inputs for an example, by their names in ``VideoRequest``."""
    values: dict[str, Any] = {"portrait": str(example.portrait), "speech": str(example.speech)}
    table = service.pipeline.exported.table
    if table is not None and example.emotion in table.emotions:
        values |= {"source": "label", "label": example.emotion, "level": max(table.levels_of(example.emotion))}
    return values


def _person(service: VideoService, example: ExampleSpeaker | None) -> dict[str, Any]:
    """Inputs of portrait and speech."""
    values = filled_in(service, example) if example is not None else {}
    portrait = picture(
        "Portrait",
        "The face that speaks, seen from the front.",
        value=values.get("portrait"),
        height=240,
        elem_id="portrait",
    )
    with gr.Column(visible=False, elem_id="landmarks") as of_portrait:
        file = landmarks()
    length = f"What the face says: a file or a recording of up to {service.config.max_seconds:g} seconds."
    speech = sound("Speech", length, value=values.get("speech"), elem_id="speech")

    def other_portrait(upload: dict[str, Any] | None) -> list[Any]:
        """Asks for landmarks of a picture that is no example, and forgets those of the one before."""
        return [gr.update(visible=upload is not None and not service.is_example(Path(upload["path"]))), None]

    if service.needs_landmarks:
        portrait.change(other_portrait, portrait, [of_portrait, file], preprocess=False, **INTERNAL_EVENT)
    return {"portrait": portrait, "landmarks": file, "speech": speech}


def _emotion(service: VideoService, example: ExampleSpeaker | None) -> dict[str, Any]:
    """Inputs of the emotion source. Only those of the selected source are visible."""
    table = service.pipeline.exported.table
    labels = list(table.emotions) if table is not None else []
    values = filled_in(service, example) if example is not None else {}
    chosen = values.get("source", "portrait")
    first = values.get("label", labels[0] if labels else None)
    levels = levels_of(service, first) | ({"value": values["level"]} if "level" in values else {})
    names = [(SOURCES[name], name) for name in service.sources]
    source = gr.Radio(
        names, value=chosen, label="Emotion from", info="Where the expression of the face comes from.", elem_id="source"
    )
    with gr.Row(visible=chosen == "label") as by_label:
        label = gr.Dropdown(
            labels, value=first, label="Emotion", info="One of those in the training data.", elem_id="label"
        )
        level = gr.Radio(**levels, label="Level", info="How clearly it is shown.", elem_id="level")
    text = gr.Textbox(
        label="Description of the emotion",
        info="A few English words.",
        placeholder="a warm smile",
        max_length=MAX_TEXT,
        visible=False,
        elem_id="text",
    )
    with gr.Column(visible=False) as by_image:
        image = picture("Image with the expression", "A face that shows the emotion.", height=220, elem_id="image")
    with gr.Column(visible=False) as by_video:
        video = film("Video with the expression", "It is followed frame by frame.", height=220, elem_id="video")
    with gr.Column(visible=False, elem_id="source-landmarks") as of_source:
        file = landmarks()
    scale = "0: expression of the portrait, 1: of the source, 2: exaggerated."
    strength = gr.Slider(
        0, 2, value=1, step=0.1, label="Strength", info=scale, visible=chosen != "portrait", elem_id="strength"
    )

    def shown(chosen: str) -> list[Any]:
        of_file = chosen in ("image", "video")
        parts = [chosen == "label", chosen == "text", chosen == "image", chosen == "video"]
        return [gr.update(visible=v) for v in (*parts, of_file and service.needs_landmarks, chosen != "portrait")]

    def other_label(chosen: str) -> Any:
        return gr.update(**levels_of(service, chosen))

    source.change(shown, source, [by_label, text, by_image, by_video, of_source, strength], **INTERNAL_EVENT)
    label.input(other_label, label, level, **INTERNAL_EVENT)
    return {
        "source": source,
        "label": label,
        "level": level,
        "text": text,
        "image": image,
        "video": video,
        "source_landmarks": file,
        "strength": strength,
    }


def levels_of(service: VideoService, label: str | None) -> dict[str, Any]:
    """Levels that the label table holds for an emotion, with the middle one selected."""
    table = service.pipeline.exported.table
    if table is None or label is None:
        return {"choices": [], "value": None}
    there = table.levels_of(label)
    return {
        "choices": [(LEVELS[level], level) for level in there],
        "value": min(there, key=lambda level: abs(level - 2)),
    }


def _more(service: VideoService) -> dict[str, Any]:
    """Inputs that most visitors leave at their defaults."""
    config = service.pipeline.exported.info.config
    most = min(MAX_STEPS, config.diffusion_steps)
    usual = min(config.sampling_steps, most)
    trained, guided = trained_guidance(config), guided_parts(config)
    with gr.Accordion("More", open=False):
        return {
            "steps": gr.Slider(
                1, most, value=usual, step=1, label="Steps", info="Fewer steps are faster.", elem_id="steps"
            ),
            "seed": gr.Number(0, label="Seed", info="Another seed gives other movements.", precision=0, minimum=0),
            "paste_back": gr.Checkbox(
                label="Paste the face back", info="Into the whole image; otherwise the video is the crop around it."
            ),
            "lips_strength": gr.Slider(
                0,
                2,
                value=1,
                step=0.1,
                label="Strength of the lips",
                info="0: still, 1: as predicted from the speech, 2: exaggerated.",
                visible=config.variant not in BRANCHES["lips"].lacking,
                elem_id="lips-strength",
            ),
            "guidance_lips": _scale("lips", trained.lips, "the lips follow the speech more", guided),
            "guidance_expression": _scale("expression", trained.expression, "the emotion is shown more", guided),
            "blinks": gr.Dropdown(
                BLINKS,
                value="",
                label="Blinks per minute",
                info="In place of the predicted ones.",
                visible=bool(getattr(service.pipeline.encoders.motion, "eyelids", None)),
                elem_id="blinks",
            ),
            "head": gr.Slider(
                0,
                2,
                value=1,
                step=0.1,
                label="Head motion",
                info="0: the head is still, 1: as predicted, 2: twice as much.",
                visible=bool(getattr(service.pipeline.encoders.motion, "pose_dimensions", ())),
                elem_id="head",
            ),
        }


def _scale(part: str, trained: float, effect: str, guided: Sequence[str]) -> gr.Slider:
    """Scale of guidance by a condition, for networks that can be guided by it."""
    return gr.Slider(
        0,
        MAX_GUIDANCE,
        value=trained,
        step=0.1,
        label=f"Guidance of the {part}",
        info=f"Above 1 {effect}, and the video takes longer.",
        visible=part in guided,
        elem_id=f"guidance-{part}",
    )
