"""The HTTP server of the page: uvicorn in a thread, with limits on slow and on many connections."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from generation.errors import GenerationError

HEAD_SECONDS = 20.0  # time for the head of a request, from the opening of the connection or the previous request
MAX_CONNECTIONS = 500  # an open page holds two; further requests get status 503
START_SECONDS = 60.0


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose request does not begin in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Stops the time while a request is answered; a part of a head does not prolong it."""
        super().data_received(data)
        if self._is_answering():
            self._cancel()
        elif self._deadline is None:
            self._wait_for_head()

    def on_response_complete(self) -> None:
        """Starts the time for the next request."""
        super().on_response_complete()
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the time."""
        self._cancel()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        self._cancel()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._deadline = None
        if not self._is_answering() and not self.transport.is_closing():
            self.transport.close()

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@contextmanager
def running(app: ASGIApp, host: str, port: int) -> Iterator[None]:
    """Serves an application in a thread while the block runs.

    Raises:
        GenerationError: If the server does not start.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # pages that are open at the end are no errors
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=ImpatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > end:
                require_free(host, port)  # another program may have taken the address since it was looked at
                raise GenerationError(f"host={host} port={port}: the server does not start; choose another port")
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def require_free(host: str, port: int) -> None:
    """Checks that an address is available, before anything is loaded.

    Raises:
        GenerationError: If it is not; the message suggests another.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise GenerationError(
            f"host={host}: is not an address of this machine ({error.strerror}); try 127.0.0.1"
        ) from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise GenerationError(
                f"host={host} port={port}: is not available ({error.strerror}); choose another port"
            ) from error
