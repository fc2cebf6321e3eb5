"""Slow checks of a machine: the GPU, the libraries that read videos and faces, and the proxy."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from encoders.weights import offline, roots
from runtime.devices import device_name, has_bfloat16, resolve_device
from runtime.errors import UserError, first_line, message_of
from runtime.health import GIB, Finding, fine, machine_findings, note, problem, without_password
from runtime.platforms import usable_cores

EGL = ("libEGL.so.1", "libGLESv2.so.2")  # that MediaPipe loads on Linux
WAIT = 3.0  # seconds for a proxy to answer
LEAST_PYTHON = (3, 11)


def all_findings(folder: Path) -> Iterator[Finding]:
    """Checks the machine for jobs that write to ``folder``."""
    yield _system()
    yield _gpu()
    yield from _readers()
    yield from _egl()
    yield from machine_findings(folder)
    yield from _proxy_answers()
    yield _weights()


def _system() -> Finding:
    memory = ""
    with contextlib.suppress(ValueError, OSError, AttributeError):
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.0f} GiB of memory"
    python = platform.python_version()
    text = f"{platform.system()} {platform.machine()}, Python {python}, {usable_cores()} core(s){memory}"
    if sys.version_info < LEAST_PYTHON:
        return problem("system", text, "install Python 3.11 or newer (make setup)")
    return fine("system", text)


def _gpu() -> Finding:
    import torch

    version = f"torch {torch.__version__}"
    try:
        device = resolve_device("auto")
        if device == "cpu":
            if shutil.which("nvidia-smi"):
                remedy = "check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES"
                return note("GPU", f"{version} finds none, but nvidia-smi is installed", remedy)
            return fine("GPU", f"none; {version} uses the CPU")
        text = f"{torch.cuda.device_count() or 1} x {device_name(device)}, {version}"
        if not has_bfloat16(device):
            return note("GPU", f"{text}, without bfloat16", "train with trainer.precision=32-true")
    except Exception as error:  # a broken driver makes torch raise errors of any type
        return problem("GPU", f"{version}: {first_line(error)}", "update the driver, or use device=cpu")
    return fine("GPU", text)


def _readers() -> Iterator[Finding]:
    try:
        import av

        yield fine("PyAV", f"{av.__version__} with FFmpeg {'.'.join(map(str, av.library_versions['libavformat']))}")
    except (ImportError, OSError, KeyError) as error:
        yield problem("PyAV", f"cannot be loaded ({first_line(error)})", "run make setup again")
    for name in ("mediapipe", "decord"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield fine(name, importlib.metadata.version(name))


def _egl() -> Iterator[Finding]:
    if platform.system() != "Linux":
        return
    missing = []
    for name in EGL:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    if missing:
        remedy = "apt-get install libegl1 libgles2 (on a cluster: in the container)"
        yield note("EGL", f"{' and '.join(missing)} not found, which MediaPipe needs for faces", remedy)
    else:
        yield fine("EGL", "libraries are here")


def _proxy_answers() -> Iterator[Finding]:
    for scheme, url in sorted(urllib.request.getproxies().items()):
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if scheme not in ("http", "https") or not parts.hostname:
            continue
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), WAIT).close()
        except (OSError, ValueError) as error:
            remedy = f"correct or unset {scheme}_proxy; without it nothing can be downloaded"
            yield problem(f"{scheme}_proxy", f"{without_password(url)} does not answer ({message_of(error)})", remedy)


def _weights() -> Finding:
    try:
        places = ", ".join(str(root) for root in roots(create=False))
    except UserError as error:
        return problem("weights", message_of(error), "set XDG_CACHE_HOME to a folder of your own")
    switch = offline()
    return fine("weights", f"in {places}; " + (f"{switch} is set: no downloads" if switch else "downloads are on"))
