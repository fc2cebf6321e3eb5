"""Fetches one file over HTTP: resumable, with a progress bar, and never under its final name before it is whole."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from io import FileIO
from pathlib import Path

from tqdm import tqdm

from runtime.errors import UserError

HUB = "https://huggingface.co"
BLOCK = 1 << 20
TIMEOUT = 60.0
TRIES = 3


class DownloadError(UserError, OSError):
    """A file could not be fetched; the message says from where and why."""


def address(url: str) -> str:
    """The URL to ask: Hugging Face's own, or its mirror where ``$HF_ENDPOINT`` names one."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return endpoint + url[len(HUB) :] if endpoint and url.startswith(HUB) else url


def download(url: str, part: Path, pause: float = 1.0) -> None:
    """Fetches ``url`` into ``part``, going on where an earlier try stopped.

    Args:
        url: http or https address.
        part: temporary file; kept when the connection breaks, so that the next try resumes.
        pause: seconds before a second try at a broken connection, doubled for the third.

    Raises:
        DownloadError: when the server refuses, cannot be reached, or keeps breaking off.
    """
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _fetch(url, part)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what is there does not fit what the server has: from the start
                part.unlink(missing_ok=True)
                reason = "the server has another file than the one begun"
            elif error.code >= 500:
                reason = f"HTTP {error.code} {error.reason}"
            else:
                raise DownloadError(f"{url}: {_refusal(url, error)}") from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error) or type(error).__name__)
    raise DownloadError(f"{url}: {reason} ({TRIES} tries)")


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403) and url.startswith(address(HUB)):
        return (
            f"HTTP {error.code}: the repository asks for an account; open it in a browser, accept its licence, and run "
            "`hf auth login` (or set HF_TOKEN)"
        )
    return f"HTTP {error.code} {error.reason}"


def _fetch(url: str, part: Path) -> None:
    begun = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "emotivetalk"})
    if begun:
        request.add_header("Range", f"bytes={begun}-")
    if url.startswith(address(HUB)):
        from huggingface_hub import get_token

        if token := get_token():
            # Unredirected: the hub sends us on to a storage host that must not see the token.
            request.add_unredirected_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
        length = response.headers.get("Content-Length")
        total = int(length) + (begun if resumed else 0) if length else None
        with (
            part.open("ab" if resumed else "wb", buffering=0) as file,
            tqdm(
                desc=part.name.removesuffix(".part"),
                total=total,
                initial=begun if resumed else 0,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                disable=None,  # no bar in log files
            ) as bar,
        ):
            _copy(response, file, bar)
    if total is not None and part.stat().st_size != total:
        raise http.client.HTTPException(f"broke off after {part.stat().st_size} of {total} bytes")


def _copy(response: http.client.HTTPResponse, file: FileIO, bar: tqdm) -> None:
    while block := response.read1(BLOCK):  # as it comes, so that little is lost when this process is killed
        file.write(block)
        bar.update(len(block))
