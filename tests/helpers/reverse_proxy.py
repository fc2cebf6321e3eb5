"""A reverse proxy as nginx is used: it serves another server under a path and sets the headers of a proxy."""

from __future__ import annotations

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP = {"connection", "keep-alive", "transfer-encoding", "host"}


@contextlib.contextmanager
def reverse_proxy(port: int, path: str, strip: bool):
    """Yields the port of a proxy that passes requests under ``path`` to a port of this machine.

    Args:
        port: Port of the server behind it.
        path: Path such as ``/talk``; others get status 404.
        strip: Whether the server gets paths without it.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self):
            if not self.path.startswith(path + "/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
            headers |= {"X-Forwarded-Host": self.headers["Host"], "X-Forwarded-Proto": "http"}
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            with contextlib.closing(upstream), contextlib.suppress(BrokenPipeError, ConnectionResetError):
                upstream.request(self.command, self.path[len(path) if strip else 0 :], body or None, headers)
                answer = upstream.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP | {"content-length"}:
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                while block := answer.read1(65536):
                    self.wfile.write(block)
                    self.wfile.flush()
            self.close_connection = True

        do_GET = do_POST = do_HEAD = do_OPTIONS = pass_on

        def log_message(self, *_):
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield proxy.server_port
    finally:
        proxy.shutdown()
        proxy.server_close()
