"""The layout of the web page, and the ``VideoService`` methods that its buttons call."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from generation.web.examples import ExampleSpeaker
from generation.web.form import INTERNAL_EVENT, build_form
from generation.web.video_request import VideoResult
from generation.web.video_service import VideoService

CONSENT = (
    "Use your own face and voice, or those of people who agreed to it. Wherever you show the video, say that it is "
    "generated. Every file carries a mark that says so. Your uploads stay on the machine that serves this page. They "
    "and the video are deleted within a minute after you close the page."
)
# Gradio's spacing is made for wide screens. Errors are marked by more than colour, for colour-blind visitors.
CSS = """
.gradio-container { max-width: 1100px !important; margin: 0 auto !important; }
#title h1 { margin-bottom: 0 }
#message { min-height: 1.5em }
#message p { margin: .2em 0; overflow-wrap: anywhere }
#message .failed { border-left: 4px solid #c2410c; padding-left: .6em }
#examples { overflow-x: auto }
@media (max-width: 600px) { .gradio-container { padding: 8px !important } }
"""
PROGRESS = gr.Progress()


def theme() -> gr.themes.Base:
    """Gradio's default theme with the visitor's system fonts, so that no font is downloaded."""
    fonts = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
    mono = ("ui-monospace", "Menlo", "Consolas", "monospace")
    return gr.themes.Default(font=list(fonts), font_mono=list(mono))


def build_page(
    service: VideoService, examples: Sequence[ExampleSpeaker], examples_with_face: Sequence[ExampleSpeaker]
) -> gr.Blocks:
    """Builds the page of a service.

    Args:
        service: Service that generates the videos.
        examples: Example speakers, all of whose voices can be used.
        examples_with_face: Subset of ``examples`` whose portraits this run can animate.
    """
    with gr.Blocks(title="EmotiveTalk", analytics_enabled=False) as page:
        gr.Markdown(
            f"# EmotiveTalk\nTurns a portrait and speech into a talking video. {_about(service)}", elem_id="title"
        )
        with gr.Row():
            with gr.Column():
                form = build_form(service)
                go = gr.Button("Make the video", variant="primary", elem_id="go")
            with gr.Column():
                film = gr.Video(label="The video", interactive=False, buttons=[], elem_id="film")
                message = gr.HTML(elem_id="message")
                with gr.Row():
                    video = gr.DownloadButton("Download the video", interactive=False, elem_id="download")
                    record = gr.DownloadButton("Download the record", interactive=False, elem_id="record")
                stop = gr.Button("Stop", interactive=False, elem_id="stop")
                gr.Markdown(CONSENT)
        _show_examples(service, form, examples, examples_with_face)
        _wire(service, page, form, go, stop, [film, message, video, record])
    return page


def functions_of(page: gr.Blocks) -> dict[int, list[bool]]:
    """Number of each function of a page -> for each of its inputs, whether it is a file."""
    return {
        number: [getattr(one, "data_model", None) is not None for one in function.inputs]
        for number, function in page.fns.items()
    }


def _about(service: VideoService) -> str:
    exported = service.pipeline.exported
    side = exported.info.frame_side
    size = f"{side} x {side} pixels at 25 frames per second"
    return f"The model was trained for {exported.step:,} steps. Videos have {size}."


def _show_examples(
    service: VideoService, form: dict[str, Any], examples: Sequence[ExampleSpeaker], with_face: Sequence[ExampleSpeaker]
) -> None:
    if with_face:
        names = ["portrait", *(["landmarks"] if service.needs_landmarks else []), "speech"]
        rows, label = with_face, "Examples: synthetic speakers and their voices"
    else:
        names, rows, label = (
            ["speech"],
            examples,
            "Examples: voices of synthetic speakers (this run does not detect their faces)",
        )
    gr.Examples(
        [[str(getattr(example, name)) for name in names] for example in rows],
        [form[name] for name in names],
        label=label,
        example_labels=[example.portrait.stem for example in rows],
        cache_examples=False,
        api_visibility="private",
        elem_id="examples",
    )


def _wire(
    service: VideoService, page: gr.Blocks, form: dict[str, Any], go: gr.Button, stop: gr.Button, shown: list[Any]
) -> None:
    """Connects the buttons, and the closing of the page, to the service."""
    names = list(form)

    def begin(request: gr.Request) -> tuple[Any, str]:
        service.begin(_session(request))
        return gr.update(interactive=True), ""

    def make(request: gr.Request, progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
        wanted = dict(zip(names, values, strict=True))
        return _shown_result(service.make(wanted, _session(request), lambda share, words: progress(share, desc=words)))

    def end() -> Any:
        return gr.update(interactive=False)

    def halt(request: gr.Request) -> None:
        service.stop(_session(request))

    begun = go.click(begin, None, [stop, shown[1]], **INTERNAL_EVENT)
    # There is one device, and the service has a queue for it. Values come as they were sent: the service checks them,
    # and reads every format itself, while Gradio would convert uploads and report a wrong file as a bare "Error".
    made = begun.then(
        make,
        list(form.values()),
        shown,
        preprocess=False,
        show_progress_on=shown[0],
        concurrency_limit=None,
        api_visibility="private",
    )
    made.then(end, None, stop, **INTERNAL_EVENT)
    stop.click(halt, None, None, **INTERNAL_EVENT)
    # The browser opens the connection that shows it is there only for a page with such an event; the gate watches it.
    page.unload(lambda: None)


def _session(request: gr.Request) -> str:
    """Name of the page's session, which the gate has checked and bound to its visitor."""
    return str(request.session_hash)


def _shown_result(result: VideoResult) -> list[Any]:
    """Values of the video, the messages and the two download buttons."""
    role, kind = ("alert", "failed") if result.failed else ("status", "made")
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in result.words)
    video, record = (None if file is None else str(file) for file in (result.video, result.record))
    return [
        video,
        f'<div role="{role}" class="{kind}">{lines}</div>',
        gr.update(value=video, interactive=video is not None),
        gr.update(value=record, interactive=record is not None),
    ]
