"""The page behind a company's proxy, under a path of another server, and with a password."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import warm
from tests.helpers.page_client import Visitor, page_server
from tests.helpers.reverse_proxy import reverse_proxy

pytest.importorskip("gradio", reason="gradio is not installed (make setup)")
pytestmark = pytest.mark.slow
NOWHERE = "http://127.0.0.1:9"
# What companies set, without an exception for this machine.
PROXIES = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), NOWHERE)
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def server(runs, tmp_path_factory):
    """Port of a page with a path, a password and a further name, in an environment with proxies."""
    temporary = tmp_path_factory.mktemp("temporary")
    (temporary / "password").write_text(PASSWORD + "\n")
    keys = (f"password_file={temporary / 'password'}", "root_path=/talk", "names=[lab.example.org]")
    with page_server(runs / "ethd", temporary, *keys, env={**PROXIES, "NO_PROXY": "", "no_proxy": ""}) as found:
        process, port, log = found
        yield port
        command = Path(f"/proc/{process.pid}/cmdline")
        assert not command.exists() or PASSWORD.encode() not in command.read_bytes()
        process.terminate()
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0
        assert PASSWORD not in output + log.read_text()
        assert "Traceback" not in log.read_text()


def logged_in(port: int, path: str = "/talk") -> Visitor:
    visitor = Visitor(port, path)
    status, headers, _ = visitor.ask("POST", "/login", f"password={PASSWORD}".encode())
    assert status == 303
    assert headers["location"] == "/talk/"
    visitor.headers["Cookie"] = headers["set-cookie"].partition(";")[0]
    return visitor


def test_the_page_works_in_a_browser_under_a_path(server, browser):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    context.set_default_timeout(120_000)
    page, failed = context.new_page(), []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    with reverse_proxy(server, "/talk", strip=True) as port:
        page.goto(f"http://localhost:{port}/talk/")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.fill("input[type=password]", PASSWORD)
        failed.clear()  # the page that asks for the password has status 401
        page.get_by_role("button", name="Enter").click()
        page.locator("#examples button").first.click()
        page.locator("#speech").get_by_text("0:03").first.wait_for()
        page.get_by_role("button", name="Make the video").click()
        assert "Cyrus_Cyrus.mp4: 75 frames" in page.locator("#message [role]").inner_text()
        page.locator("#film video").wait_for()
        with page.expect_download() as download:
            page.get_by_text("Download the video").click()
        assert Path(download.value.path()).stat().st_size > 1000
        assert page.locator("#film video").evaluate("film => film.error") is None
        assert failed == []
        context.close()


def test_the_proxy_may_keep_the_path(server, files):
    with reverse_proxy(server, "/talk", strip=False) as port:
        visitor = logged_in(port)
        visitor.open()
        assert "face_voice.mp4: 13 frames" in visitor.make(visitor.uploaded(files))[0]
        root = visitor.ask("GET", "/config", X_Forwarded_Host="lab.example.org")[2]
        assert f"http://127.0.0.1:{port}/talk".encode() in root
        visitor.close()


def test_names_that_the_user_gave_are_known(server):
    visitor = logged_in(server)
    assert visitor.ask("GET", "/config", Host="lab.example.org")[0] == 200
    assert visitor.ask("GET", "/config", X_Forwarded_Host="lab.example.org")[0] == 200
    secure = visitor.ask("POST", "/login", f"password={PASSWORD}".encode(), X_Forwarded_Proto="https", Cookie="")
    assert secure[1]["set-cookie"].endswith("; Path=/talk; HttpOnly; SameSite=Lax; Secure")
    assert visitor.upload(("a.txt", b"x"), Origin="https://lab.example.org")[0] == 200
    assert visitor.ask("GET", "/config", Host="example.org")[0] == 400
    assert visitor.ask("GET", "/config", Host="evil.lab.example.org")[0] == 400


def test_nothing_is_served_without_the_password(server, runs):
    stranger = Visitor(server, "/talk")
    status, headers, page = stranger.ask("GET", "/")
    assert status == 401
    assert b'type="password"' in page
    assert "set-cookie" not in headers
    for path in ("/config", "/gradio_api/file=/etc/passwd", "/assets/index.js", "/gradio_api/info", "/theme.css"):
        assert stranger.ask("GET", path)[0] == 401
    assert stranger.upload(("a.png", b"x"))[0] == 401
    assert stranger.post("/gradio_api/queue/join", {})[0] == 401
    stranger.headers["Cookie"] = f"emotivetalk-{server}=" + "0" * 32 + "." + "0" * 64
    assert stranger.ask("GET", "/config")[0] == 401
    assert logged_in(server).ask("GET", "/config")[0] == 200


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["host=0.0.0.0"], "host=0.0.0.0: other machines can reach the page, which needs a password"),
        (["host=::"], "host=::: other machines can reach the page"),
        (["host=0.0.0.0", "password_file=missing"], "password_file=missing: cannot be read (No such file"),
        (["password_file=short"], "password_file=short: has a password of 5 characters, at least 8"),
        (["names=[http://x]"], "names=http://x: expected a name without port"),
        (["root_path=talk/"], "root_path=talk/: expected a path such as /talk"),
    ],
)
def test_a_page_without_protection_does_not_start(runs, tmp_path, keys, words):
    (tmp_path / "short").write_text("12345")
    command = [sys.executable, str(warm.ROOT / "app.py"), f"ethd={runs / 'ethd'}", "port=17861", *keys]
    ended = warm.run(command, cwd=tmp_path)
    assert ended.returncode in (1, 2)
    assert words in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert isinstance(ended, subprocess.CompletedProcess)
