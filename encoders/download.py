"""Resumable HTTP download of one file, with a progress bar."""

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
    """Raised if a file cannot be downloaded; the message has the URL and the reason."""


def address(url: str) -> str:
    """Returns ``url``; a Hugging Face URL is moved to the mirror ``$HF_ENDPOINT`` if that is set."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return endpoint + url[len(HUB) :] if endpoint and url.startswith(HUB) else url


def download(url: str, part: Path, pause: float = 1.0) -> None:
    """Downloads ``url`` to ``part``, continuing an earlier partial download.

    Args:
        url: HTTP or HTTPS URL.
        part: Temporary file; kept when the connection breaks, so that the next call resumes.
        pause: Seconds before the second attempt; doubled before the third.

    Raises:
        DownloadError: If the server refuses the request, or three attempts fail.
    """
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _fetch(url, part)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the partial file is no prefix of the server's file, so it starts again
                part.unlink(missing_ok=True)
                reason = "the partial download does not match the server's file"
            elif error.code >= 500:
                reason = f"HTTP {error.code} {error.reason}"
            else:
                raise DownloadError(f"{url}: {_refusal(url, error)}") from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error) or type(error).__name__)
    raise DownloadError(f"{url}: {reason} ({TRIES} attempts)")


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403) and url.startswith(address(HUB)):
        return (
            f"HTTP {error.code}: the repository needs an account; open it in a browser, accept its licence, and run "
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
            # Unredirected: the hub redirects to a storage host that must not receive the token.
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
                disable=None,  # no bar without a terminal
            ) as bar,
        ):
            _copy(response, file, bar)
    if total is not None and part.stat().st_size != total:
        raise http.client.HTTPException(f"the connection ended after {part.stat().st_size} of {total} bytes")


def _copy(response: http.client.HTTPResponse, file: FileIO, bar: tqdm) -> None:
    while block := response.read1(BLOCK):  # written as received, so that little is lost if this process is killed
        file.write(block)
        bar.update(len(block))
