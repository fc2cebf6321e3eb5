"""Reading of request bodies from strangers: bytes, time and content are limited before anything is parsed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from generation.errors import GenerationError
from generation.web.visitors import Visitors

MAX_BODY = 64 * 1024  # bytes of a request without files
MAX_NAME = 120  # bytes of an upload's name
IDLE = 30.0  # seconds without a byte after which a request is given up
BODY_SECONDS, UPLOAD_SECONDS = 30.0, 3600.0  # time for a request without and with files
DRAINED = 64_000_000  # bytes of a refused upload that are still read, so that the browser sees the answer
SESSION = re.compile(r"[A-Za-z0-9]{1,64}")
FORWARDED = ("data", "fn_index", "session_hash", "trigger_id", "event_id")  # fields for Gradio
FILE_META = {"_type": "gradio.FileData"}
CHUNK = 1 << 20


class Refused(Exception):
    """A request that is not answered as asked: HTTP status and a message for the visitor."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """Refuses a request whose body takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Refused(408, f"The request took longer than {seconds:.0f} s.") from None


async def next_message(receive: Receive) -> Message:
    """Next part of a request.

    Raises:
        Refused: If none comes for ``IDLE`` seconds.
    """
    try:
        return await asyncio.wait_for(receive(), IDLE)
    except TimeoutError:
        raise Refused(408, "The request stopped coming in.") from None


async def read_json(receive: Receive) -> dict[str, Any]:
    """Reads the body of a request as a JSON object.

    Raises:
        Refused: If it is too long, or no object with finite numbers.
    """
    try:
        found = json.loads(await read_body(receive), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Refused(400, "Expected JSON with finite numbers.") from None
    if not isinstance(found, dict):
        raise Refused(400, "Expected a JSON object.")
    return found


async def read_body(receive: Receive) -> bytes:
    """Reads a small body.

    Raises:
        Refused: If it has more than ``MAX_BODY`` bytes, or takes longer than ``BODY_SECONDS``.
    """
    body = b""
    async with _within(BODY_SECONDS):
        while True:
            message = await next_message(receive)
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > MAX_BODY:
                raise Refused(413, f"The request has more than {MAX_BODY // 1024} kB.")
            if not message.get("more_body"):
                return body


def forwarded(
    found: dict[str, Any], functions: Mapping[int, Sequence[bool]], owns: Callable[[str], bool]
) -> dict[str, Any]:
    """The fields of a request that Gradio gets. Files are only those of the visitor, and no addresses to fetch.

    Args:
        found: Body of the request.
        functions: Number of each function of the page -> for each of its inputs, whether it is a file.
        owns: Whether the visitor may use a file.

    Raises:
        Refused: If a file is another's, or a field has the wrong type.
    """
    kept = {name: found[name] for name in FORWARDED if name in found}
    number, data = kept.get("fn_index"), kept.get("data", [])
    if not isinstance(number, int) or isinstance(number, bool) or number not in functions:
        raise Refused(400, "Expected fn_index as the number of a function of the page.")
    if not isinstance(data, list) or ("data" in kept and len(data) != len(functions[number])):
        raise Refused(400, f"Expected data as a list of {len(functions[number])} values.")
    for value, is_file in zip(data, functions[number], strict=False):
        if not is_file and isinstance(value, dict | list):
            raise Refused(400, "Expected a text, a number or nothing.")
        if is_file and value is not None:
            _check_file(value, owns)
    return kept


def session_of(name: Any) -> str:
    """Checks the name of a session.

    Raises:
        Refused: If it is not letters and digits.
    """
    if not isinstance(name, str) or not SESSION.fullmatch(name):
        raise Refused(400, "Expected a session of letters and digits.")
    return name


def _check_file(value: Any, owns: Callable[[str], bool]) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("path"), str) or value.get("meta") != FILE_META:
        raise Refused(400, "Expected an upload.")
    if not owns(value["path"]):
        raise Refused(403, "This file is not one of your uploads; upload it again.")
    path = value["path"]
    value.clear()  # Gradio would fetch or decode an address in "url"
    value.update(path=path, orig_name=Path(path).name, meta=FILE_META)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


async def receive_uploads(request: Request, visitors: Visitors, visitor: str) -> list[str]:
    """Stores the files of a multipart request in the visitor's folder and returns their paths.

    Raises:
        Refused: If a file, the visitor's files or all files are too large or too many, or the request is damaged or
            takes longer than ``UPLOAD_SECONDS``.
    """
    async with _within(UPLOAD_SECONDS):
        return await _receive_uploads(request, visitors, visitor)


async def _receive_uploads(request: Request, visitors: Visitors, visitor: str) -> list[str]:
    taken, more = 0, True

    async def receive() -> Message:
        nonlocal taken, more
        message = await next_message(request.receive)
        more = message.get("more_body", False)
        size = len(message.get("body", b""))
        visitors.take(visitor, size)
        taken += size
        return message

    stored: list[Path] = []
    try:
        if int(request.headers.get("content-length", 0)) > visitors.config.visitor_megabytes * 1e6 + MAX_BODY:
            raise Refused(413, f"At most {visitors.config.visitor_megabytes:g} MB are taken from you.")
        counted = Request(request.scope, receive)
        async with counted.form(max_files=visitors.config.visitor_files, max_fields=4, max_part_size=MAX_BODY) as form:
            for file in form.getlist("files"):
                if isinstance(file, str):
                    raise Refused(400, "Expected files.")
                stored.append(await asyncio.to_thread(_store, file, visitors, visitor))
    except BaseException as error:
        for path in stored:
            visitors.discard(visitor, path)
        if more and isinstance(error, GenerationError | Refused):
            await _drain(request.receive)
        if isinstance(error, GenerationError):
            raise Refused(413, str(error)) from None
        if isinstance(error, MultiPartException):
            raise Refused(400, error.message) from None
        if isinstance(error, ValueError):  # of the length
            raise Refused(400, "Expected a number as Content-Length.") from None
        raise
    finally:
        visitors.give_back(visitor, taken)
    return [str(path) for path in stored]


def _store(file: Any, visitors: Visitors, visitor: str) -> Path:
    most = visitors.config.max_megabytes
    if file.size > most * 1e6:
        raise Refused(413, f"{file.filename}: has {file.size / 1e6:.0f} MB, at most {most:g} MB are taken here.")
    path = visitors.new_file(visitor, safe_name(file.filename or ""))
    try:
        with path.open("xb") as target:
            while block := file.file.read(CHUNK):
                target.write(block)
    except BaseException:
        visitors.discard(visitor, path)
        raise
    visitors.stored(visitor, path, file.size)
    return path


def safe_name(name: str) -> str:
    """A file name without folders and special characters, whose ending is kept."""
    plain = re.sub(r"[^\w.()+ -]", "_", re.split(r"[\\/]", name)[-1]).strip(". ")
    stem, dot, ending = plain.rpartition(".")
    if not dot:
        stem, ending = plain, ""
    ending = ending[:10]
    short = stem.encode(errors="ignore")[: MAX_NAME - len(ending.encode()) - 1].decode(errors="ignore").strip()
    return f"{short or 'upload'}{dot}{ending}"


async def _drain(receive: Receive) -> None:
    left = DRAINED
    while left > 0:
        message = await next_message(receive)
        left -= len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return
