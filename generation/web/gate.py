"""The gate in front of Gradio. Every request passes it, and only what the page needs reaches Gradio.

    name of the server -> origin -> password -> route -> visitor and session -> files

Gradio itself serves any file of its folder to anybody, stores equal uploads once for all visitors, fetches addresses
that a request names, and has routes for programs that this page does not use.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.app import AppConfig
from generation.web.login import Cookies, Login, login_page
from generation.web.request_bodies import (
    Refused,
    forwarded,
    read_body,
    read_json,
    receive_uploads,
    session_of,
)
from generation.web.visitors import Visitors

API = "/gradio_api"
FILE = f"{API}/file="
OPEN = re.compile(r"/(favicon\.ico|robots\.txt)")  # without a password
PLAIN = re.compile(
    r"/|/config|/theme\.css|/manifest\.json|/favicon\.ico|/robots\.txt|/(assets|static|svelte)/.*"
    rf"|{API}/(info|theme\.css|app_id)"
)
CALLS = {f"{API}/queue/join", f"{API}/run/predict", f"{API}/cancel", f"{API}/reset"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Content-Security-Policy": "frame-ancestors 'self'",
    "Referrer-Policy": "same-origin",
}
PORTS = {"http": 80, "https": 443}
# Gradio would take its own address from these, or answer another origin.
HIDDEN = {b"origin", b"x-gradio-server", b"x-gradio-user", b"x-direct-url", b"authorization"}


class Gate:
    """ASGI application that checks each request before another application gets it.

    Args:
        app: Gradio's application.
        visitors: Owners of files and sessions.
        functions: Number of each function of the page -> for each of its inputs, whether it is a file.
        config: Host, port, further names and path of the page.
        password: Password of the page, or None.
    """

    def __init__(
        self,
        app: ASGIApp,
        visitors: Visitors,
        functions: Mapping[int, Sequence[bool]],
        config: AppConfig,
        password: str | None,
    ) -> None:
        self.app, self.visitors, self.functions, self.root_path = app, visitors, functions, config.root_path
        self.login = None if password is None else Login(password)
        self.cookies = Cookies(config.port, config.root_path)
        self._host, self._names = config.host.lower(), {name.lower() for name in config.names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks a request and answers it, or passes it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        new_cookie = ""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out.update(HEADERS)
                if new_cookie:
                    out.append("Set-Cookie", new_cookie)
            await send(message)

        try:
            self._require_known_name(headers)
            self._require_own_origin(scope, headers)
            path = scope["path"].removeprefix(self.root_path) if self.root_path else scope["path"]
            scope = {**scope, "path": path or "/", "raw_path": path.encode(), "root_path": ""}
            visitor = self.cookies.visitor(headers.get("cookie", ""))
            if self.login is not None and visitor is None and not OPEN.fullmatch(scope["path"]):
                response = await self._ask_password(scope, receive, headers)
                await response(scope, receive, send_guarded)
                return
            if visitor is None and scope["method"] == "GET" and scope["path"] == "/":
                visitor, new_cookie = self.cookies.issue(_is_secure(headers))
            await self._answer(scope, receive, send_guarded, visitor)
        except ClientDisconnect:
            return
        except (Refused, HTTPException, PermissionError) as error:
            await _refusal(error)(scope, receive, send_guarded)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, visitor: str | None) -> None:
        """Answers a request whose sender may use the page."""
        path, method = scope["path"], scope["method"]
        if path == "/login":  # again, with a cookie
            await RedirectResponse(f"{self.root_path}/", 303)(scope, receive, send)
            return
        if method in ("GET", "HEAD") and PLAIN.fullmatch(path):
            await self.app({**_cleaned(scope), "query_string": b""}, receive, send)
            return
        if not self._is_route(method, path):
            raise Refused(404, "Not found.")
        if visitor is None:
            raise Refused(403, "Open the page in a browser that accepts its cookie.")
        if path == f"{API}/upload":
            request = Request(scope, receive)
            await JSONResponse(await receive_uploads(request, self.visitors, visitor))(scope, receive, send)
        elif path == f"{API}/upload_progress":
            await PlainTextResponse('data: {"msg": "done"}\n\n', media_type="text/event-stream")(scope, receive, send)
        elif path.startswith(FILE):
            if not path.startswith(f"{FILE}/") or not self.visitors.owns(visitor, path.removeprefix(FILE)):
                raise Refused(403, "This file is not yours, or was deleted.")
            await self.app(_cleaned(scope), receive, send)
        elif path in CALLS:
            await self._call(scope, receive, send, visitor)
        else:
            await self._listen(scope, receive, send, visitor)

    def _is_route(self, method: str, path: str) -> bool:
        if method == "POST":
            return path in CALLS or path == f"{API}/upload"
        listened = path in (f"{API}/queue/data", f"{API}/upload_progress") or path.startswith(f"{API}/heartbeat/")
        return (method == "GET" and listened) or (method in ("GET", "HEAD") and path.startswith(FILE))

    async def _call(self, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        """Passes a click on to Gradio, with the visitor's own files only."""
        found = await read_json(receive)
        found = forwarded(found, self.functions, lambda path: self.visitors.owns(visitor, path))
        self.visitors.bind(visitor, session_of(found.get("session_hash")))
        body = json.dumps(found).encode()
        scope = _cleaned(scope)
        sent = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"content-type")]
        scope["headers"] = [
            *sent, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())
        ]  # fmt: skip
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_checked() -> Message:
            return waiting.pop() if waiting else await receive()

        await self.app(scope, receive_checked, send)

    async def _listen(self, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        """Passes on a connection that stays open: the heartbeat of a page, or the messages of its video."""
        name, query = scope["path"].removeprefix(f"{API}/heartbeat/"), scope["query_string"].decode("latin-1")
        beats = name != scope["path"]
        session = session_of(name if beats else parse_qs(query).get("session_hash", [""])[0])
        self.visitors.bind(visitor, session)
        with self.visitors.connection(session) if beats else nullcontext():
            await self.app({**_cleaned(scope), "query_string": f"session_hash={session}".encode()}, receive, send)

    async def _ask_password(self, scope: Scope, receive: Receive, headers: Headers) -> Response:
        """Answers a sender who has not given the password."""
        assert self.login is not None
        if scope["path"] != "/login" or scope["method"] != "POST":
            if scope["method"] == "GET" and scope["path"] in ("/", "/login"):
                return HTMLResponse(login_page(self.root_path), 401)
            raise Refused(401, "Open the page and give its password.")
        address = (scope.get("client") or ("", 0))[0]
        if self.login.is_limited(address):
            words = "Too many wrong passwords; wait five minutes."
            return HTMLResponse(login_page(self.root_path, words), 429, {"Retry-After": "300"})
        given = parse_qs((await read_body(receive)).decode("utf-8", "replace"))
        if not self.login.is_right(given.get("password", [""])[0], address):
            return HTMLResponse(login_page(self.root_path, "The password is wrong."), 401)
        response = RedirectResponse(f"{self.root_path}/", 303)
        response.headers.append("Set-Cookie", self.cookies.issue(_is_secure(headers))[1])
        return response

    def _require_known_name(self, headers: Headers) -> None:
        """Refuses names that the server does not know: a website can let its own name point to this machine."""
        for name in (headers.get("host", ""), *headers.getlist("x-forwarded-host")):
            for one in name.split(","):
                if not self._is_known(_host_of(one)):
                    raise Refused(400, "This page is not served under this name. Start it with names=[NAME].")

    def _is_known(self, name: str) -> bool:
        if name in {self._host, "localhost"} or name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # An address is no name that somebody else could let point here.
        return address.is_loopback or not is_loopback(self._host)

    def _require_own_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuses what another website sends in the name of its visitor."""
        if scope["method"] in ("GET", "HEAD"):
            return
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "Another website sent this request.")
        if (origin := headers.get("origin")) is not None:
            hosts = {one.strip() for name in ("host", "x-forwarded-host") for one in headers.get(name, "").split(",")}
            scheme, _, sender = origin.partition("://")
            own = {_with_port(scheme, host) for host in hosts if host}
            known = _with_port(scheme, sender) in own or _host_of(sender) in self._names
            if scheme not in PORTS or not known:
                raise Refused(403, "Another website sent this request.")


def _refusal(error: Refused | HTTPException | PermissionError) -> Response:
    """The answer to a request that is refused."""
    if isinstance(error, HTTPException):
        return PlainTextResponse(error.detail, error.status_code)
    status = error.status if isinstance(error, Refused) else 403
    return PlainTextResponse(str(error), status, {"Connection": "close"} if status in (408, 413) else None)


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_of(netloc: str) -> str:
    """Name of ``NAME:PORT`` in lower case, without the brackets of an IPv6 address; empty if it is no such thing."""
    try:
        return urlsplit(f"//{netloc.strip()}").hostname or ""
    except ValueError:
        return ""


def _with_port(scheme: str, netloc: str) -> tuple[str, int | None]:
    """Name and port of ``NAME:PORT``; without one, the port of the scheme."""
    try:
        return _host_of(netloc), urlsplit(f"//{netloc}").port or PORTS.get(scheme)
    except ValueError:
        return "", None


def _is_secure(headers: Headers) -> bool:
    return headers.get("x-forwarded-proto", "").partition(",")[0].strip() == "https"


def _cleaned(scope: Scope) -> dict[str, Any]:
    kept = [(name, value) for name, value in scope["headers"] if name not in HIDDEN]
    return {**scope, "headers": kept}
