"""Behind ``app.py``: loads a run, serves the page until Ctrl-C, and deletes everybody's files."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from configs.app import AppConfig
from generation.errors import GenerationError
from generation.model_files import ModelFiles
from generation.pipeline import EmotiveTalkPipeline
from generation.web.video_service import VideoService

# Gradio reads these when it is imported: it must neither count its users nor fetch anything.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_SHARE": "False"}


def serve(config: AppConfig) -> int:
    """Serves the page until Ctrl-C; returns 0.

    Raises:
        GenerationError: when the address cannot be had.
        CheckpointError, WeightsError, EncoderError, GenerationError: when the networks cannot be loaded.
    """
    require_free(config.host, config.port)
    start = time.perf_counter()
    own = config.landmarks, config.audio_model, config.codec_model
    pipeline = ModelFiles(config.ethd, config.vaid, config.emotion, config.device, config.face, *own).load()
    print(
        f"ethd  {pipeline.exported.path} on {pipeline.device}, loaded in {time.perf_counter() - start:.0f} s",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="emotivetalk-") as folder:
        serve_pipeline(pipeline, config, Path(folder))
    return 0


def serve_pipeline(pipeline: EmotiveTalkPipeline, config: AppConfig, folder: Path) -> None:
    """Serves the page of a loaded run until Ctrl-C or a polite kill.

    Args:
        pipeline: the loaded run.
        config: address and limits.
        folder: for everybody's files; the caller deletes it.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with opened(pipeline, config, folder) as address:
            print(f"open  {address}  (Ctrl-C ends it)", flush=True)
            if not is_loopback(config.host):
                message = "everybody who can reach this machine can use the page, without a password"
                print(f"note  host={config.host}: {message}", file=sys.stderr, flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("\nStopped; uploads and videos of this page are deleted.", file=sys.stderr)


@contextmanager
def opened(pipeline: EmotiveTalkPipeline, config: AppConfig, folder: Path) -> Iterator[str]:
    """The page of a loaded run, served in the background while the block runs; gives its address."""
    os.environ.update(QUIET, GRADIO_TEMP_DIR=str(folder))
    from generation.web.examples import draw_examples, with_face
    from generation.web.page import CSS, build_page, theme

    drawn = draw_examples(folder / "examples")
    page = build_page(VideoService(pipeline, config, folder), drawn, with_face(drawn, pipeline))
    page.queue(max_size=config.max_waiting, api_open=False)
    try:
        page.launch(
            server_name=config.host,
            server_port=config.port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            inline=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=round(config.max_megabytes * 1e6),
            theme=theme(),
            css=CSS,
        )
        yield f"http://{config.host}:{config.port}"
    finally:
        page.close(verbose=False)


def require_free(host: str, port: int) -> None:
    """Refuses an address that cannot be had, before anything is loaded.

    Raises:
        GenerationError: with what to choose instead.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise GenerationError(
            f"host={host}: is no address of this machine ({error.strerror}); try 127.0.0.1"
        ) from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise GenerationError(
                f"host={host} port={port}: cannot be had ({error.strerror}); choose another port"
            ) from error


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
