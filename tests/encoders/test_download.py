"""Downloads are bounded, keep to https, and recognise proxies and login pages; with real servers."""

import contextlib
import hashlib
import http.server
import ssl
import subprocess
import threading

import pytest

from encoders import weights
from encoders.download import DownloadError, download
from encoders.recorded_hashes import record_of
from encoders.weight_sources import WeightFile, Weights
from tests.helpers.file_server import CONTENT, SHA256, put, serving, toy
from tests.helpers.refusals import refuses

pytestmark = pytest.mark.usefixtures("folders")
PAGE = b"<!DOCTYPE html><html><title>Hotel Wi-Fi</title>Please accept the terms</html>"
REVISION = "a" * 40


def git_blob(content):
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


@pytest.mark.parametrize("announced", [True, False])
def test_a_download_stops_at_its_size(server, register, folders, announced):
    server.files["/toy.bin"] = CONTENT * 40
    if not announced:
        server.without_length.add("/toy.bin")
    register(toy(f"{server.url}/toy.bin", size=1000))
    words = "announces 41943040 bytes, expected 1000" if announced else "more than the 1000 bytes of the file; stopped"
    refuses(weights.MissingWeights, words, weights.locate, "toy")
    assert not list((folders / "weights").glob("*.part"))


def test_no_more_than_one_byte_too_many_is_written(server, tmp_path, monkeypatch):
    server.files["/toy.bin"] = CONTENT
    server.without_length.add("/toy.bin")
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
    refuses(DownloadError, "stopped", download, f"{server.url}/toy.bin", tmp_path / "part", 1000)
    assert (tmp_path / "part").stat().st_size == 1001


@pytest.mark.parametrize("typed", [True, False])
def test_a_login_page_is_named_and_not_kept(server, register, folders, typed):
    server.files["/toy.bin"] = PAGE
    server.headers["/toy.bin"] = {"Content-Type": "text/html; charset=utf-8"} if typed else {}
    register(toy(f"{server.url}/toy.bin"))
    refuses(weights.MissingWeights, "sends a web page in place of the file.*captive portal", weights.locate, "toy")
    assert [path.suffix for path in (folders / "weights").iterdir()] == [".lock"]


@contextlib.contextmanager
def secure(tmp_path, monkeypatch, location):
    """An HTTPS server with its own certificate, which redirects every request."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        + ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True,
        capture_output=True,
    )
    with serving() as redirecting:
        redirecting.redirects["/toy.bin"] = location
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        redirecting.socket = context.wrap_socket(redirecting.socket, server_side=True)
        yield redirecting.url.replace("http", "https")


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_https_is_not_redirected_to_another_protocol(server, tmp_path, monkeypatch, scheme):
    with secure(tmp_path, monkeypatch, f"{scheme}://127.0.0.1:{server.server_port}/toy.bin") as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        words = f"is redirected from https to {scheme}, which is not followed"
        refuses(DownloadError, words, download, f"{url}/toy.bin", tmp_path / "part")
    assert not server.requests
    assert not (tmp_path / "part").exists()


def test_an_unknown_certificate_has_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with secure(tmp_path, monkeypatch, "https://127.0.0.1/") as url, pytest.raises(DownloadError) as caught:
        download(f"{url}/toy.bin", tmp_path / "part", pause=0.0)
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)
    assert "name its certificate with SSL_CERT_FILE" in str(caught.value)


class Proxy(http.server.BaseHTTPRequestHandler):
    """Answers in place of the server, or asks for a password."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def proxy(monkeypatch, status):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.asked, server.status = [], status
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{server.server_port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.shutdown()


def test_downloads_go_through_a_proxy(monkeypatch, register):
    with proxy(monkeypatch, 200) as server:
        register(toy("http://weights.example/toy.bin", size=len(CONTENT)))
        assert weights.locate("toy").read_bytes() == CONTENT
    assert server.asked == ["http://weights.example/toy.bin"]


@pytest.mark.parametrize(("status", "words"), [(407, "asks for a password"), (502, "HTTP 502")])
def test_a_proxy_that_refuses_is_named_without_its_password(monkeypatch, tmp_path, status, words):
    with proxy(monkeypatch, status), pytest.raises(DownloadError, match=words) as caught:
        download("http://weights.example/toy.bin", tmp_path / "part", pause=0.0)
    assert "secret" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_named(monkeypatch, tmp_path):
    with proxy(monkeypatch, 200) as server:
        port = server.server_port
    with pytest.raises(DownloadError, match=rf"refused \(through the proxy 127\.0\.0\.1:{port}\)"):
        download("http://weights.example/toy.bin", tmp_path / "part", pause=0.0)


@pytest.fixture
def unlisted(register):
    """A hub model whose list has no hash of its configuration."""
    files = (WeightFile("config.json"), WeightFile("model.safetensors", size=len(CONTENT), sha256=SHA256))
    register(Weights("hub", "a test", "MIT", files, (), "org/name", REVISION, folder="name"))
    return {"/config.json": b'{"a": 1}', "/model.safetensors": CONTENT}


def publish(server, unlisted, blob=None, commit=REVISION):
    for name, content in unlisted.items():
        path = f"/org/name/resolve/{REVISION}{name}"
        server.files[path] = content
        server.headers[path] = {"ETag": f'"{blob or git_blob(content)}"', "X-Repo-Commit": commit}


def test_a_file_without_a_listed_hash_is_compared_with_that_of_the_hub(server, unlisted, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    publish(server, unlisted)
    folder = weights.locate("hub")
    assert (folder / "config.json").read_bytes() == b'{"a": 1}'
    put(folder / "config.json", b'{"a": 2}')  # changed later
    refuses(weights.WrongWeights, r"config\.json: has changed: sha256 .* on 20.*remove .*recorded", weights.find, "hub")
    record_of(folder / "config.json").unlink()
    assert weights.find("hub") == folder


@pytest.mark.parametrize(
    ("changes", "content", "words"),
    [
        ({"blob": "0" * 40}, b'{"a": 1}', "expected git blob id 0000"),
        ({"commit": "b" * 40}, b'{"a": 1}', "does not come from Hugging Face"),
        ({"blob": "x"}, PAGE, "captive portal"),
    ],
)
def test_what_the_hub_does_not_publish_is_not_kept(server, unlisted, monkeypatch, folders, changes, content, words):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    publish(server, {**unlisted, "/config.json": content}, **changes)
    refuses((weights.WrongWeights, weights.MissingWeights), words, weights.locate, "hub")
    assert not (folders / "weights" / "name" / "config.json").exists()


def test_a_page_kept_by_an_earlier_version_is_refused(unlisted, folders):
    put(folders / "weights" / "name" / "config.json", PAGE)
    put(folders / "weights" / "name" / "model.safetensors")
    refuses(weights.WrongWeights, r"config\.json: is a web page, not hub; delete it", weights.find, "hub")


def test_manual_weights_are_recorded_and_compared(folders, register):
    register(Weights("by_hand", "a test", "MIT", (WeightFile("hand.pth"),), manual="copy it"))
    file = put(folders / "weights" / "hand.pth")
    assert weights.locate("by_hand") == file
    assert weights.locate("by_hand") == file
    put(file, CONTENT[:-1] + b"x")
    refuses(weights.WrongWeights, rf"has changed: sha256 .*on 20.* it was {SHA256}", weights.locate, "by_hand")
    assert str(record_of(file)).startswith(str(folders / "cache" / "emotivetalk" / "recorded"))
    record_of(file).write_text("[" * 100_000)
    refuses(weights.WrongWeights, "the record of .* cannot be read .*remove it", weights.locate, "by_hand")
