"""Connections that send nothing or slowly, and many passwords, at a real server without Gradio."""

import contextlib
import socket
import time

import pytest

from configs.app import AppConfig
from runtime.files import below
from tests.helpers.page_client import Visitor, multipart
from tests.helpers.warm import free_port

pytest.importorskip("gradio", reason="gradio is not installed (make setup)")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """(port, folder) of a gate in front of an application that answers everything; ``password`` protects it."""
    from starlette.responses import PlainTextResponse

    from generation.web import http_server, request_bodies
    from generation.web.gate import Gate
    from generation.web.visitors import Visitors

    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.4)
    monkeypatch.setattr(request_bodies, "IDLE", 0.4)
    monkeypatch.setattr(request_bodies, "BODY_SECONDS", 1.5)
    monkeypatch.setattr(request_bodies, "UPLOAD_SECONDS", 1.5)

    async def app(scope, receive, send):
        await PlainTextResponse("answered")(scope, receive, send)

    config = AppConfig(ethd="run", port=free_port())
    gate = Gate(app, Visitors(config, tmp_path), {}, config, None)
    with http_server.running(gate, config.host, config.port):
        yield config.port, gate, tmp_path


def closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


HEAD = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize("sent", ["", "GET / HT", HEAD, HEAD + "\r\n", HEAD + "\r\n" + HEAD])
def test_a_connection_without_a_request_is_closed(served, sent):
    with socket.create_connection(("127.0.0.1", served[0])) as connection:
        connection.sendall(sent.encode())
        assert closed_within(connection, 10)


@pytest.mark.slow
def test_a_head_that_comes_a_byte_at_a_time_is_closed(served):
    with socket.create_connection(("127.0.0.1", served[0])) as connection:
        start = time.monotonic()
        with contextlib.suppress(OSError):
            for letter in HEAD * 10:
                connection.sendall(letter.encode())
                time.sleep(0.05)
        assert closed_within(connection, 1)
        assert time.monotonic() - start < 5


@pytest.mark.slow
def test_an_upload_that_stops_is_given_up_and_leaves_nothing(served):
    port, gate, folder = served
    visitor = Visitor(port)
    visitor.headers["Cookie"] = visitor.ask("GET", "/")[1]["set-cookie"].partition(";")[0]
    body, kind = multipart([("a.bin", bytes(100_000))])
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {visitor.headers['Cookie']}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body[:50_000])
        connection.settimeout(10)
        assert b" 408 " in connection.recv(65536)
        assert closed_within(connection, 10)
    with socket.create_connection(("127.0.0.1", port)) as connection:  # and one whose sender goes away
        connection.sendall(head.encode() + body[:50_000])
    until = time.monotonic() + 10
    while any(entry.incoming for entry in gate.visitors._visitors.values()):
        assert time.monotonic() < until, "room is still reserved"
        time.sleep(0.05)
    assert not [path for path in below(folder) if path.is_file()]
    assert visitor.upload(("a.bin", b"x"))[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_body_that_comes_a_byte_at_a_time_is_given_up(served, path):
    port, gate, folder = served
    visitor = Visitor(port)
    cookie = visitor.ask("GET", "/")[1]["set-cookie"].partition(";")[0]
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode())
        start = time.monotonic()
        with contextlib.suppress(OSError):
            for letter in '--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' * 2:
                connection.sendall(letter.encode())
                time.sleep(0.1)
        assert closed_within(connection, 1)
        assert time.monotonic() - start > 1
    assert not [path for path in below(folder) if path.is_file()]
    assert not any(entry.incoming for entry in gate.visitors._visitors.values())


def test_passwords_cannot_be_tried_without_end(served):
    from generation.web.login import Login

    port, gate, _ = served
    gate.login, visitor = Login("correct horse"), Visitor(port)
    assert visitor.ask("POST", "/login", b"x" * 100_000)[0] == 413
    assert visitor.ask("POST", "/login", b"password=correct+horse", Origin="http://evil.example")[0] == 403
    assert visitor.ask("POST", "/login", b"password=correct+horse")[0] == 303
    answers = [visitor.ask("POST", "/login", b"password=guess")[0] for _ in range(12)]
    assert answers == [401] * 10 + [429] * 2
    assert visitor.ask("POST", "/login", b"password=correct+horse")[0] == 429
