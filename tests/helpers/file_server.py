"""A real HTTP server of weight files that can misbehave, and a network that is listed for a test."""

import contextlib
import hashlib
import http.server
import threading
import time

from encoders.weight_sources import WeightFile, Weights

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """HTTP server with range requests that can drop connections, delay, refuse and redirect."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/toy.bin": CONTENT}
        self.break_after = {}  # path -> bytes of each coming reply before the connection drops
        self.delay = 0.0  # seconds per 64 KiB
        self.redirects = {}
        self.headers = {}  # path -> further headers of the reply
        self.without_length = set()  # paths whose reply does not state its length
        self.without_ranges = False
        self.sent = 0  # bytes of content
        self.requests = []

    def serve(self, folder):
        """Serves the files of a folder."""
        self.files |= {f"/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        if self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.end_headers()
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        content = server.files[self.path]
        wanted = None if server.without_ranges else self.headers["Range"]
        first, _, last = (wanted or "bytes=0-").removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or len(content)) + 1, len(content))
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        for name, value in server.headers.get(self.path, {}).items():
            self.send_header(name, value)
        if self.path not in server.without_length:
            self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        limits = server.break_after.get(self.path)
        end = min(start + limits.pop(0) if limits else len(content), stop)
        with contextlib.suppress(ConnectionError):  # a killed client
            for at in range(start, end, 65536):
                self.wfile.write(content[at : min(at + 65536, end)])
                server.sent += min(65536, end - at)
                time.sleep(server.delay)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def toy(*urls, sha256=SHA256, **options):
    file = WeightFile("toy.bin", tuple(urls), sha256=sha256, **options)
    return Weights("toy", "a test", "CC0-1.0", (file,), presets=("small",))


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
