"""Implements ``app.py``: loads a run, serves the page until Ctrl-C, and deletes the visitors' files."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from configs.app import AppConfig
from generation.errors import GenerationError
from generation.examples import draw_examples, with_face
from generation.model_files import ModelFiles
from generation.pipeline import EmotiveTalkPipeline
from generation.small import SMALL
from generation.web.gate import Gate, is_loopback
from generation.web.http_server import require_free, running
from generation.web.login import VARIABLE, read_password
from generation.web.video_service import VideoService
from runtime.temporary import temporary_folder

LOG = logging.getLogger(__name__)
# Read by Gradio at import: no usage statistics, no downloads.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_SHARE": "False"}
SWEEP_EVERY = 5.0  # seconds between two looks for files to delete
THREADS = 40  # for everything but making videos


def serve(config: AppConfig) -> int:
    """Serves the page until Ctrl-C and returns 0.

    Raises:
        GenerationError: If the address is not available, or others can reach it and there is no password.
        CheckpointError, WeightsError, EncoderError, GenerationError: If the networks cannot be loaded.
    """
    password = read_password(config.password_file)
    if password is None and not is_loopback(config.host):
        raise GenerationError(
            f"host={config.host}: other machines can reach the page, which needs a password then; write one to a file "
            f"and add password_file=FILE, or set {VARIABLE}"
        )
    require_free(config.host, config.port)
    start = time.perf_counter()
    own = config.landmarks, config.audio_model, config.codec_model
    pipeline = ModelFiles(config.ethd or SMALL, config.vaid, config.emotion, config.device, config.face, *own).load()
    print(
        f"ethd  {pipeline.exported.path} on {pipeline.device}, loaded in {time.perf_counter() - start:.0f} s",
        flush=True,
    )
    try:
        with temporary_folder("page") as folder, opened(pipeline, config, folder, password) as address:
            print(f"open  {address}  (Ctrl-C stops it)", flush=True)
            if not is_loopback(config.host):
                print(
                    "note  passwords and videos are sent unencrypted unless a proxy with https is in front",
                    file=sys.stderr,
                    flush=True,
                )
            threading.Event().wait()
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be closed
            print("\nStopped; uploads and videos of this page are deleted.", file=sys.stderr)
    return 0


@contextmanager
def opened(
    pipeline: EmotiveTalkPipeline, config: AppConfig, folder: Path, password: str | None = None
) -> Iterator[str]:
    """Serves the page of a loaded run in the background while the block runs, and yields its address.

    Args:
        pipeline: Loaded pipeline.
        config: Address and limits.
        folder: Folder of the visitors' files; the caller deletes it.
        password: Password of the page, or None.
    """
    os.environ.update(QUIET, GRADIO_TEMP_DIR=str(folder))
    import gradio as gr
    from fastapi import FastAPI

    from generation.web.page import CSS, build_page, functions_of, theme

    service = VideoService(pipeline, config, folder)
    examples = draw_examples(service.visitors.examples)
    faces = with_face(examples, pipeline)
    made = service.make_example(faces[0]) if config.ethd is None and faces else None
    page = build_page(service, examples, faces, made)
    page.queue(max_size=config.max_waiting + 1, api_open=False)
    page.max_threads = config.max_waiting + 1 + THREADS
    # Gradio's own launch sends requests to itself, through the proxy of the environment if there is one.
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        root_path=config.root_path,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        show_error=False,
        max_file_size=round(config.max_megabytes * 1e6),
        theme=theme(),
        css=CSS,
    )
    ended = threading.Event()
    sweeper = threading.Thread(target=_sweep, args=(service, ended), daemon=True)
    try:
        with running(Gate(app, service.visitors, functions_of(page), config, password), config.host, config.port):
            sweeper.start()
            try:
                host = f"[{config.host}]" if ":" in config.host else config.host
                yield f"http://{host}:{config.port}{config.root_path}"
            finally:
                service.close()
    finally:
        ended.set()
        page.close(verbose=False)


def _sweep(service: VideoService, ended: threading.Event) -> None:
    """Deletes files until the page ends."""
    while not ended.wait(SWEEP_EVERY):
        try:
            service.visitors.sweep()
        except Exception:  # e.g. a full disk: the next round tries again
            LOG.exception("files of visitors could not be deleted")
