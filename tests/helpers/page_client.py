"""A real server of the page, and visitors that talk to it over HTTP as a program does, without a browser."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tests.helpers.warm import ROOT, Popen, free_port

FIELDS = (
    "portrait", "landmarks", "speech", "source", "label", "level", "text", "image", "video", "source_landmarks",
    "strength", "steps", "seed", "paste_back", "lips_strength", "guidance_lips", "guidance_expression", "blinks",
    "head",
)  # fmt: skip
USUAL = {"source": "portrait", "strength": 1, "steps": 2, "seed": 0, "paste_back": False, "lips_strength": 1, "head": 1}
FILES = {"portrait": "face.png", "landmarks": "face.csv", "speech": "voice.wav"}


@contextlib.contextmanager
def page_server(ethd: Path, temporary: Path, *keys: str, env: dict[str, str] | None = None):
    """Starts app.py and yields (process, port, log file) when it answers; it is killed after the block."""
    port, log = free_port(), temporary / f"log-{secrets.token_hex(4)}"
    command = [sys.executable, str(ROOT / "app.py"), f"ethd={ethd}", f"port={port}", "device=cpu", *keys]
    variables = {"PATH": os.defpath, "HOME": str(temporary), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    with log.open("w") as errors:
        process = Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, env=variables | (env or {})
        )
    try:
        assert "loaded in" in (line := process.stdout.readline()), line + log.read_text()
        assert "open" in (line := process.stdout.readline()), line + log.read_text()
        yield process, port, log
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


def server_folder(temporary: Path) -> Path:
    """The folder of the server that runs."""
    (folder,) = temporary.glob("emotivetalk-page-*")
    return folder


class Visitor:
    """A browser without a window: it keeps its cookie and has one open page."""

    def __init__(self, port: int, path: str = "", **headers: str) -> None:
        self.port, self.path, self.headers, self.session = port, path, headers, secrets.token_hex(6)
        self.heart: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body=None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Sends a request and returns status, headers and body; a name such as ``Sec_Fetch_Site`` is a header."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            names = {name.replace("_", "-"): value for name, value in (self.headers | headers).items()}
            chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, self.path + path, body, names, encode_chunked=chunked)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def open(self, shows: bool = True) -> Visitor:
        """Opens the page and, as browsers do, the connection that shows that it is open."""
        status, headers, _ = self.ask("GET", "/")
        assert status == 200
        if "set-cookie" in headers:
            self.headers["Cookie"] = headers["set-cookie"].partition(";")[0]
        config = json.loads(self.ask("GET", "/config")[2])
        self.functions = {one["api_name"]: one["id"] for one in config["dependencies"]}
        if not shows:
            return self
        self.heart = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        self.heart.request("GET", f"{self.path}/gradio_api/heartbeat/{self.session}", headers=self.headers)
        self.socket = self.heart.sock  # the answer takes it over if the server will close the connection
        self.stream = self.heart.getresponse()
        assert self.stream.status == 200
        return self

    def close(self) -> None:
        """Closes the page, if it is still open."""
        if self.heart.sock is None and self.stream.closed:
            return
        self.socket.shutdown(socket.SHUT_RDWR)
        self.stream.close()
        self.heart.close()

    def upload(self, *files: tuple[str, bytes], **headers: str) -> tuple[int, object]:
        """Uploads files and returns the status and their paths, or the message."""
        body, content_type = multipart(files)
        status, _, answer = self.ask("POST", "/gradio_api/upload", body, **{"Content-Type": content_type} | headers)
        return status, json.loads(answer) if status == 200 else answer.decode()

    def uploaded(self, folder: Path, **names: str) -> dict[str, object]:
        """Uploads files of a folder, and returns the values of a form with them."""
        given = FILES | names
        status, paths = self.upload(*((name, (folder / name).read_bytes()) for name in given.values()))
        assert status == 200, paths
        return USUAL | {field: file_data(path) for field, path in zip(given, paths, strict=True)}

    def example(self, folder: Path, name: str) -> dict[str, object]:
        """The values of a form with an example of a server's folder."""
        ends = {"portrait": ".png", "landmarks": ".csv", "speech": ".wav"}
        return USUAL | {field: file_data(str(folder / "examples" / f"{name}{end}")) for field, end in ends.items()}

    def post(self, path: str, content: object) -> tuple[int, bytes]:
        """Posts JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        status, _, answer = self.ask("POST", path, body, **{"Content-Type": "application/json"})
        return status, answer

    def click(self, name: str, data: list[object] | None = None) -> tuple[int, bytes]:
        """Runs a function of the page that needs no queue."""
        call = {"data": data or [], "fn_index": self.functions[name], "session_hash": self.session}
        return self.post("/gradio_api/run/predict", call)

    def join(self, values: dict[str, object]) -> tuple[int, bytes]:
        """Asks for a video."""
        data = [values.get(field) for field in FIELDS]
        call = {"data": data, "fn_index": self.functions["make"], "session_hash": self.session}
        return self.post("/gradio_api/queue/join", call)

    def make(self, values: dict[str, object], during=lambda message: None) -> tuple[str, list[object]]:
        """Makes a video and returns the words for the visitor, and all values of the page."""
        assert self.click("begin")[0] == 200
        status, answer = self.join(values)
        assert status == 200, answer
        return self.wait(during)

    def wait(self, during=lambda message: None) -> tuple[str, list[object]]:
        """Reads the messages of the page until its video is done."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            path = f"{self.path}/gradio_api/queue/data?session_hash={self.session}"
            connection.request("GET", path, headers=self.headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            for line in answer:
                if line.startswith(b"data: "):
                    message = json.loads(line[6:])
                    during(message)
                    if message["msg"] == "process_completed":
                        if not message["success"]:
                            return str(message["output"]), []
                        return message["output"]["data"][1], message["output"]["data"]
        raise AssertionError("the server closed the connection")

    def makes(self, values: dict[str, object]) -> threading.Thread:
        """Makes a video in a thread; its words become ``self.words``."""

        def work() -> None:
            self.words = self.make(values)[0]

        thread = threading.Thread(target=work)
        thread.start()
        return thread


def file_data(path: str) -> dict[str, object]:
    """A file as the page sends it."""
    return {"path": path, "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}


def multipart(files) -> tuple[bytes, str]:
    """Body and content type of an upload."""
    mark, body = secrets.token_hex(8), b""
    for name, content in files:
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
        body += head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n"
    return body + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"
