"""Resumable HTTP download of one file of a known size, with a progress bar.

Proxies are those of the environment (``https_proxy``, ``http_proxy``, ``no_proxy``).
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from runtime.errors import UserError, first_line

HUB = "https://huggingface.co"
BLOCK = 1 << 20
TIMEOUT = 60.0
TRIES = 3
MOST = 1 << 30  # bytes of a file whose size is not published
_PAGE = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)


class DownloadError(UserError, OSError):
    """Raised if a file cannot be downloaded; the message has the URL and the reason."""


@dataclass(frozen=True)
class Published:
    """What the hub states about a file: size in bytes, and its SHA-256 or its git blob id."""

    size: int
    sha256: str | None = None
    git_blob: str | None = None


def address(url: str) -> str:
    """Returns ``url``; a Hugging Face URL is moved to the mirror ``$HF_ENDPOINT`` if that is set."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return endpoint + url[len(HUB) :] if endpoint and url.startswith(HUB) else url


def is_page(path: Path) -> bool:
    """Whether a file is a web page. Networks that ask for a login answer every address with one."""
    with path.open("rb") as file:
        return _PAGE.match(file.read(512)) is not None


def published(url: str, revision: str) -> Published:
    """Asks the hub for size and hash of one of its files.

    Args:
        url: URL of the file on the hub or its mirror.
        revision: Commit that the URL names. The answer must be about this commit.

    Raises:
        DownloadError: If the hub cannot be reached, or something else answers in its place.
    """
    from huggingface_hub import get_hf_file_metadata, get_token
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = get_hf_file_metadata(url, token=get_token(), timeout=TIMEOUT)
    except HfHubHTTPError as error:
        raise DownloadError(f"{url}: {first_line(error)}") from error
    except Exception as error:  # of whichever HTTP library the hub's client uses
        raise DownloadError(f"{url}: {_explained(url, error)}") from error
    etag = found.etag or ""
    if found.commit_hash != revision or found.size is None or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", etag):
        raise DownloadError(
            f"{url}: the answer does not come from Hugging Face: it has no hash of this file. A network that asks for "
            "a login (captive portal) or a proxy may have answered: open the address in a browser"
        )
    return Published(found.size, etag if len(etag) == 64 else None, etag if len(etag) == 40 else None)


def download(url: str, part: Path, size: int | None = None, pause: float = 1.0) -> None:
    """Downloads ``url`` to ``part``, continuing an earlier partial download.

    Args:
        url: HTTP or HTTPS URL. HTTPS is never redirected to another protocol.
        part: Temporary file; kept when the connection breaks, so that the next call resumes. Removed if the server
            sends another file.
        size: Size of the file in bytes; the download stops after one byte more. None if it is not known: it then stops
            after 1 GiB.
        pause: Seconds before the second attempt; doubled before the third.

    Raises:
        DownloadError: If the server refuses the request or sends another file, or three attempts fail.
    """
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _fetch(url, part, size)
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
            reason = _explained(url, error)
    raise DownloadError(f"{url}: {reason} ({TRIES} attempts)")


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403) and url.startswith(address(HUB)):
        return (
            f"HTTP {error.code}: the repository needs an account; open it in a browser, accept its licence, and run "
            "`hf auth login` (or set HF_TOKEN)"
        )
    if error.code == 407:
        return f"HTTP 407: the proxy{_proxy(url)} asks for a password; set it as https_proxy=http://USER:PASSWORD@HOST"
    return f"HTTP {error.code} {error.reason}"


def _explained(url: str, error: BaseException) -> str:
    """Reason of a failed connection, with the proxy that was used."""
    reason = getattr(error, "reason", error)
    text = str(reason or type(error).__name__)
    if isinstance(reason, ssl.SSLError):
        text += "; if a proxy of your network replaces certificates, name its certificate with SSL_CERT_FILE"
    return f"{text} (through the proxy{proxy})" if (proxy := _proxy(url)) else text


def _proxy(url: str) -> str:
    """Host of the proxy that is used for a URL, without its password; empty if there is none."""
    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return ""
    found = urllib.request.getproxies().get(parts.scheme, "")
    return f" {found.rpartition('@')[2].removeprefix('http://')}" if found else ""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTPS, and to HTTP only from HTTP."""

    def redirect_request(self, req: urllib.request.Request, *args: Any) -> urllib.request.Request | None:
        target = args[-1]
        allowed = ("https",) if req.type == "https" else ("https", "http")
        if (scheme := urlsplit(target).scheme) not in allowed:
            raise DownloadError(f"{req.full_url}: is redirected from {req.type} to {scheme}, which is not followed")
        return super().redirect_request(req, *args)


def _fetch(url: str, part: Path, size: int | None) -> None:
    begun = part.stat().st_size if part.exists() else 0
    if size is not None and begun > size:
        part.unlink()  # of another file
        begun = 0
    request = urllib.request.Request(url, headers={"User-Agent": "emotivetalk"})
    if begun:
        request.add_header("Range", f"bytes={begun}-")
    if url.startswith(address(HUB)):
        from huggingface_hub import get_token

        if token := get_token():
            # Unredirected: the hub redirects to a storage host that must not receive the token.
            request.add_unredirected_header("Authorization", f"Bearer {token}")
    with urllib.request.build_opener(_SafeRedirects).open(request, timeout=TIMEOUT) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
        length = response.headers.get("Content-Length", "")
        total = int(length) + (begun if resumed else 0) if length.isdecimal() else None
        _check_answer(url, part, response, total, size)
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
            _copy(response, file, bar, MOST if size is None else size)
    found = part.stat().st_size
    if found > (MOST if size is None else size):
        part.unlink()
        raise DownloadError(f"{url}: sends more than the {MOST if size is None else size} bytes of the file; stopped")
    if is_page(part):
        part.unlink()
        raise _not_the_file(url)
    if total is not None and found != total:
        raise http.client.HTTPException(f"the connection ended after {found} of {total} bytes")


def _check_answer(
    url: str, part: Path, response: http.client.HTTPResponse, total: int | None, size: int | None
) -> None:
    """Refuses a web page, and a file of another size, before it is read."""
    if response.headers.get_content_type() == "text/html":
        part.unlink(missing_ok=True)
        raise _not_the_file(url)
    if total is not None and total > (MOST if size is None else size):
        part.unlink(missing_ok=True)
        raise DownloadError(f"{url}: the server announces {total} bytes, expected {size or f'at most {MOST}'}")


def _not_the_file(url: str) -> DownloadError:
    return DownloadError(
        f"{url}: the server sends a web page in place of the file. If the network asks for a login (captive portal) or "
        f"has a proxy{_proxy(url)}, open the address in a browser"
    )


def _copy(response: http.client.HTTPResponse, file: FileIO, bar: tqdm, most: int) -> None:
    """Writes blocks as they are received, so that little is lost if this process is killed."""
    room = most + 1 - file.tell()
    while room > 0 and (block := response.read1(min(BLOCK, room))):
        file.write(block)
        bar.update(len(block))
        room -= len(block)
