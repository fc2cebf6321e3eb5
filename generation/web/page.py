"""The layout of the web page, and the ``VideoService`` methods that its buttons call."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from generation.examples import ExampleSpeaker
from generation.pipeline import Generated
from generation.record import record_path
from generation.web.form import INTERNAL_EVENT, build_form, filled_in, levels_of
from generation.web.uploads import explained
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
#message { min-height: 1.5em; padding: 0 }
#message p { margin: .2em 0; overflow-wrap: anywhere }
#message .failed { border-left: 4px solid #c2410c; padding-left: .6em }
.help { margin-bottom: -12px; padding: 0 !important; font-size: .9em; color: var(--block-info-text-color) }
.help > *, #message > * { padding-inline: 0 !important }
#film video { max-height: 340px; object-fit: contain }
#go { position: sticky; bottom: 8px; z-index: 5 }
.gradio-container:has(#go), .gradio-container :has(#go) { overflow: visible !important }  /* or it would not stick */
@media (max-width: 600px) {
  .gradio-container { padding: 8px !important }
  #shown { order: -1 }
}
"""
PROGRESS = gr.Progress()


def theme() -> gr.themes.Base:
    """Gradio's default theme with the visitor's system fonts, so that no font is downloaded, and darker help."""
    fonts = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
    mono = ("ui-monospace", "Menlo", "Consolas", "monospace")
    look = gr.themes.Default(font=list(fonts), font_mono=list(mono))
    return look.set(block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300")


def build_page(
    service: VideoService,
    examples: Sequence[ExampleSpeaker],
    examples_with_face: Sequence[ExampleSpeaker],
    made: Generated | None = None,
) -> gr.Blocks:
    """Builds the page of a service. The first example is filled in.

    Args:
        service: Service that generates the videos.
        examples: Example speakers, all of whose voices can be used.
        examples_with_face: Subset of ``examples`` whose portraits this run can animate.
        made: Video of the first example, if there is one.
    """
    first = next(iter(examples_with_face), None)
    shown = VideoResult(None, None, ()) if made is None or first is None else _example_result(made, first)
    with gr.Blocks(title="EmotiveTalk", analytics_enabled=False) as page:
        gr.Markdown(
            f"# EmotiveTalk\nTurns a portrait and speech into a talking video. {_about(service)}", elem_id="title"
        )
        with gr.Row():
            with gr.Column():
                gallery = _gallery(examples, examples_with_face)
                form = build_form(service, first)
                go = gr.Button("Make the video", variant="primary", elem_id="go")
            with gr.Column(elem_id="shown"):  # on a phone, above the form
                film, message, video, record = _result(shown)
                stop = gr.Button("Stop", interactive=False, elem_id="stop")
                gr.Markdown(CONSENT, elem_id="consent")
        _wire_examples(service, gallery, form, examples, examples_with_face)
        _wire(service, page, form, go, stop, [film, message, video, record])
    return page


def _result(shown: VideoResult) -> list[Any]:
    """The video, the message and the two download buttons."""
    file, words, video, record = _shown_result(shown)
    film = gr.Video(file, label="The video", interactive=False, buttons=[], autoplay=file is not None, elem_id="film")
    message = gr.HTML(words, padding=False, elem_id="message")
    explained("The record (.json) lists every file, setting and weight of the video.")
    with gr.Row():
        found = [
            gr.DownloadButton(f"Download the {name}", elem_id=place, **look)
            for name, place, look in (("video", "download", video), ("record", "record", record))
        ]
    return [film, message, *found]


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


def _gallery(examples: Sequence[ExampleSpeaker], with_face: Sequence[ExampleSpeaker]) -> gr.Dataset:
    """Pictures of the example speakers. Without a face that this run detects, only their voices are used."""
    filled = "portrait, voice and emotion are filled in" if with_face else "voice is filled in"
    return gr.Dataset(
        components=[gr.Image(render=False)],
        samples=[[str(example.portrait)] for example in with_face or examples],
        type="index",
        layout="gallery",
        label=f"Examples: choose a face, and its {filled}",
        elem_id="examples",
    )


def _wire_examples(
    service: VideoService,
    gallery: gr.Dataset,
    form: dict[str, Any],
    examples: Sequence[ExampleSpeaker],
    with_face: Sequence[ExampleSpeaker],
) -> None:
    """Fills in an example when its picture is clicked."""
    names = ["portrait", "speech", "source", "label", "level"] if with_face else ["speech"]

    def choose(number: int) -> list[Any]:
        values = filled_in(service, (with_face or examples)[number])
        if "label" in values:
            values["level"] = gr.update(**{**levels_of(service, values["label"]), "value": values["level"]})
        return [values.get(name, gr.skip()) for name in names]

    gallery.click(choose, gallery, [form[name] for name in names], **INTERNAL_EVENT)


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
        result = service.make(wanted, _session(request), lambda share, words: progress(share, desc=words))
        film, words, *buttons = _shown_result(result)
        return [film, words, *(gr.update(**button) for button in buttons)]

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
        scroll_to_output=True,  # on a phone, the video is far from the button
    )
    made.then(end, None, stop, **INTERNAL_EVENT)
    stop.click(halt, None, None, **INTERNAL_EVENT)
    # The browser opens the connection that shows it is there only for a page with such an event; the gate watches it.
    page.unload(lambda: None)


def _session(request: gr.Request) -> str:
    """Name of the page's session, which the gate has checked and bound to its visitor."""
    return str(request.session_hash)


def _example_result(made: Generated, speaker: ExampleSpeaker) -> VideoResult:
    """The video of the example that is filled in, with what it shows."""
    words = (
        f"{speaker.name}, a synthetic speaker whom the model never saw in training, asked to look {speaker.emotion}."
    )
    return VideoResult(made.path, record_path(made.path), (words, "Change anything and make your own."))


def _shown_result(result: VideoResult) -> list[Any]:
    """Values of the video, the messages, and of the two download buttons as properties."""
    role, kind = ("alert", "failed") if result.failed else ("status", "made")
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in result.words)
    if not lines:
        return [None, "", *[{"value": None, "interactive": False}] * 2]
    video, record = (None if file is None else str(file) for file in (result.video, result.record))
    return [
        video,
        f'<div role="{role}" class="{kind}">{lines}</div>',
        {"value": video, "interactive": video is not None},
        {"value": record, "interactive": record is not None},
    ]
