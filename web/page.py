"""The page: what is shown, and which part of the ``Studio`` a click reaches."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from web.examples import Example
from web.studio import Outcome, Studio, Wish
from web.uploads import Film, Picture, Sound

SOURCES = {
    "portrait": "the portrait itself",
    "label": "a label",
    "text": "words",
    "image": "a picture",
    "video": "a video",
}
LEVELS = {1: "slight", 2: "medium", 3: "strong"}
MOST_STEPS = 50
CONSENT = (
    "Use your own face and voice, or those of people who agreed to it, and wherever you show the video, say that it is "
    "generated. Every file carries a mark that says so. What you upload stays on the machine that serves this page and "
    "is deleted when you close it."
)
# Gradio's spacing is made for wide screens; the mark of an error must not hang on colour alone.
CSS = """
.gradio-container { max-width: 1100px !important; margin: 0 auto !important; }
#title h1 { margin-bottom: 0 }
#said { min-height: 1.5em }
#said p { margin: .2em 0; overflow-wrap: anywhere }
#said .failed { border-left: 4px solid #c2410c; padding-left: .6em }
#examples { overflow-x: auto }
@media (max-width: 600px) { .gradio-container { padding: 8px !important } }
"""


def theme() -> gr.themes.Base:
    """Gradio's plain theme in the fonts the visitor's machine has: none is fetched."""
    fonts = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
    mono = ("ui-monospace", "Menlo", "Consolas", "monospace")
    return gr.themes.Default(font=list(fonts), font_mono=list(mono))


def build_page(studio: Studio, examples: Sequence[Example], examples_with_face: Sequence[Example]) -> gr.Blocks:
    """The page of a studio.

    Args:
        studio: what makes the videos.
        examples: speakers whose voices can be tried.
        examples_with_face: those of them whose portraits this run can drive.
    """
    keep = round(studio.config.keep_minutes * 60)
    with gr.Blocks(title="EmotiveTalk", analytics_enabled=False, delete_cache=(60, keep)) as page:
        gr.Markdown(
            f"# EmotiveTalk\nA picture and a voice become a talking video. {html.escape(_about(studio))}",
            elem_id="title",
        )
        with gr.Row():
            with gr.Column():
                wish = _inputs(studio)
                go = gr.Button("Make the video", variant="primary", elem_id="go")
            with gr.Column():
                film = Film(label="The video", interactive=False, buttons=[], elem_id="film")
                said = gr.HTML(elem_id="said")
                with gr.Row():
                    video = gr.DownloadButton("Download the video", interactive=False, elem_id="download")
                    record = gr.DownloadButton("Download its record", interactive=False, elem_id="record")
                stop = gr.Button("Stop", interactive=False, elem_id="stop")
                gr.Markdown(CONSENT)
        _show_examples(studio, wish, examples, examples_with_face)
        _wire(studio, page, wish, go, stop, [film, said, video, record])
    studio.kept = frozenset(
        Path(file) for block in page.blocks.values() for file in getattr(block, "keep_in_cache", ())
    )
    return page


def _about(studio: Studio) -> str:
    artifact = studio.talker.artifact
    side = artifact.card.frame_side
    return f"This one was trained for {artifact.step:,} steps; videos are {side}x{side} pixels, 25 frames a second."


def _inputs(studio: Studio) -> dict[str, Any]:
    """Everything a visitor fills in, by its name in ``Wish``."""
    config = studio.config
    asked = studio.needs_landmarks
    card = studio.talker.artifact.card.config
    wish: dict[str, Any] = {
        "portrait": Picture(
            label="Portrait", sources=["upload", "webcam"], type="filepath", height=260, elem_id="portrait"
        ),
        "landmarks": gr.File(label="Its landmarks (OpenFace's .csv)", visible=asked, height=90, elem_id="landmarks"),
        "speech": Sound(
            label=f"Speech (up to {config.max_seconds:g} s)",
            sources=["upload", "microphone"],
            type="filepath",
            editable=False,
            buttons=[],  # Gradio's "share" would send it to a server elsewhere
            elem_id="speech",
        ),
    }
    wish["source"] = gr.Radio(
        [(SOURCES[name], name) for name in studio.sources], value="portrait", label="Emotion from", elem_id="source"
    )
    table = studio.talker.artifact.table
    labels = list(table.emotions) if table is not None else []
    with gr.Row(visible=False) as by_label:
        wish["label"] = gr.Dropdown(labels, value=labels[0] if labels else None, label="Emotion", elem_id="label")
        wish["level"] = gr.Radio(_levels(studio, labels[0]) if labels else [], label="Level", elem_id="level")
    wish["text"] = gr.Textbox(
        label="How to speak", placeholder="a warm smile", max_length=200, visible=False, elem_id="text"
    )
    wish["image"] = Picture(
        label="Whose expression",
        sources=["upload", "webcam"],
        type="filepath",
        height=220,
        visible=False,
        elem_id="image",
    )
    wish["video"] = Film(
        label="Whose expression, frame by frame",
        sources=["upload", "webcam"],
        height=220,
        visible=False,
        elem_id="video",
    )
    wish["source_landmarks"] = gr.File(
        label="Its landmarks (OpenFace's .csv)", visible=False, height=90, elem_id="source-landmarks"
    )
    wish["strength"] = gr.Slider(
        0, 2, value=1, step=0.1, label="Strength", info="0: the portrait's own, 2: exaggerated", visible=False,
        elem_id="strength",
    )  # fmt: skip
    with gr.Accordion("More", open=False):
        most = min(MOST_STEPS, card.diffusion_steps)
        wish["steps"] = gr.Slider(
            1, most, value=min(card.sampling_steps, most), step=1, label="Steps", info="fewer are quicker",
            elem_id="steps",
        )  # fmt: skip
        wish["seed"] = gr.Number(0, label="Seed", info="another one, another performance", precision=0, minimum=0)
        wish["paste_back"] = gr.Checkbox(label="Put the face back into the whole picture")

    def shown(source: str) -> list[Any]:
        of_file = source in ("image", "video")
        return [
            gr.update(visible=source == "label"),
            gr.update(visible=source == "text"),
            gr.update(visible=source == "image"),
            gr.update(visible=source == "video"),
            gr.update(visible=of_file and asked),
            gr.update(visible=source != "portrait"),
        ]

    parts = [by_label, *(wish[name] for name in ("text", "image", "video", "source_landmarks", "strength"))]
    wish["source"].change(shown, wish["source"], parts, queue=False, api_visibility="private", show_progress="hidden")
    wish["label"].change(
        lambda label: gr.update(**_levels_of(studio, label)), wish["label"], wish["level"], queue=False,
        api_visibility="private", show_progress="hidden",
    )  # fmt: skip
    if labels:
        wish["level"].value = _levels_of(studio, labels[0])["value"]
    return wish


def _levels(studio: Studio, label: str) -> list[tuple[str, int]]:
    table = studio.talker.artifact.table
    return [] if table is None else [(LEVELS[level], level) for level in table.levels_of(label)]


def _levels_of(studio: Studio, label: str) -> dict[str, Any]:
    """The levels an emotion was learned at, the middle one chosen."""
    choices = _levels(studio, label)
    return {"choices": choices, "value": min(choices, key=lambda choice: abs(choice[1] - 2))[1]}


def _show_examples(
    studio: Studio, wish: dict[str, Any], examples: Sequence[Example], with_face: Sequence[Example]
) -> None:
    if with_face:
        names = ["portrait", *(["landmarks"] if studio.needs_landmarks else []), "speech"]
        rows, label = with_face, "Examples: drawn people, and their voices"
    else:
        names, rows, label = (
            ["speech"],
            examples,
            "Examples: voices of drawn people, whose faces this run does not find",
        )
    gr.Examples(
        [[str(getattr(example, name)) for name in names] for example in rows],
        [wish[name] for name in names],
        label=label,
        cache_examples=False,
        api_visibility="private",
        elem_id="examples",
    )


def _wire(
    studio: Studio, page: gr.Blocks, wish: dict[str, Any], go: gr.Button, stop: gr.Button, shown: list[Any]
) -> None:
    """Clicks and leaving."""
    names = list(wish)
    hidden = {"api_visibility": "private"}

    def begin(request: gr.Request) -> tuple[Any, str]:
        studio.begin(_visitor(request))
        return gr.update(interactive=True), ""

    def make(request: gr.Request, progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
        given = dict(zip(names, values, strict=True))
        given["seed"] = int(given["seed"] or 0)
        given["steps"] = int(given["steps"])
        given["level"] = given["level"] if given["label"] else None
        tell = lambda share, words: progress(share, desc=words)  # noqa: E731
        return _told(studio.make(Wish(**given), _visitor(request), tell))

    def halt(request: gr.Request) -> None:
        studio.stop(_visitor(request))

    def leave(request: gr.Request) -> None:
        studio.leave(_visitor(request))

    begun = go.click(begin, None, [stop, shown[1]], queue=False, show_progress="hidden", **hidden)
    made = begun.then(
        make,
        list(wish.values()),
        shown,
        show_progress_on=shown[0],
        concurrency_limit=1,
        concurrency_id="device",
        **hidden,
    )
    made.then(lambda: gr.update(interactive=False), None, stop, queue=False, show_progress="hidden", **hidden)
    stop.click(halt, None, None, queue=False, **hidden)
    page.unload(leave)


PROGRESS = gr.Progress()


def _visitor(request: gr.Request) -> str:
    """A visitor's name: letters and digits of the session, so that it can be a folder's."""
    return "visitor-" + "".join(filter(str.isalnum, str(request.session_hash)))


def _told(outcome: Outcome) -> list[Any]:
    """An outcome as the values of film, words and downloads."""
    first = "alert" if outcome.failed else "status"
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in outcome.words)
    words = f'<div role="{first}" class="{"failed" if outcome.failed else "made"}">{lines}</div>'
    video, record = (None if file is None else str(file) for file in (outcome.video, outcome.record))
    return [
        video,
        words,
        gr.update(value=video, interactive=video is not None),
        gr.update(value=record, interactive=record is not None),
    ]
