"""The page attacked by HTTP requests: a real server process, strangers as programs, and what each may not do."""

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from PIL import Image

from runtime.files import below
from tests.helpers.page_client import USUAL, Visitor, file_data, multipart, page_server, server_folder

pytest.importorskip("gradio", reason="gradio is not installed (make setup)")
pytestmark = pytest.mark.slow
KEYS = ("max_megabytes=1", "visitor_megabytes=3", "visitor_files=8", "max_seconds=4", "max_waiting=2")
EVIL = "evil.example"


@pytest.fixture(scope="module")
def server(runs, tmp_path_factory):
    """(port, folder of the server, log)."""
    temporary = tmp_path_factory.mktemp("temporary")
    with page_server(runs / "ethd", temporary, *KEYS) as (process, port, log):
        yield port, server_folder(temporary), log
        assert process.poll() is None, "the server died"
        assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def visitor(server):
    opened = Visitor(server[0]).open()
    yield opened
    opened.close()


@pytest.fixture
def other(server):
    opened = Visitor(server[0]).open()
    yield opened
    opened.close()


def stored(folder):
    return {path for path in below(folder / "visitors") if path.is_file()}


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": f"{EVIL}:80"},
        {"Host": EVIL, "Origin": f"http://{EVIL}"},
        {"X_Forwarded_Host": EVIL},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Host": "[::1"},
    ],
)
def test_a_foreign_name_of_the_server_is_refused(server, visitor, headers):
    for method, path in (("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/upload")):
        assert visitor.ask(method, path, **headers)[0] == 400
    assert visitor.ask("GET", "/config", Host=f"localhost:{server[0]}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": f"http://{EVIL}"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Origin": "file://"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_website_cannot_send_for_a_visitor(server, visitor, headers):
    before = stored(server[1])
    assert visitor.upload(("a.png", b"x"), **headers)[0] == 403
    assert visitor.ask("POST", "/gradio_api/run/predict", b"{}", **headers)[0] == 403
    assert stored(server[1]) == before
    assert visitor.upload(("a.png", b"x"), Origin=f"http://127.0.0.1:{server[0]}")[0] == 200


def test_no_answer_allows_another_origin(visitor):
    for method, path in (("GET", "/config"), ("GET", "/"), ("OPTIONS", "/gradio_api/upload"), ("OPTIONS", "/config")):
        asked = {"Origin": f"http://{EVIL}", "Access_Control_Request_Method": "POST"}
        _, headers, _ = visitor.ask(method, path, **asked)
        assert not [name for name in headers if name.startswith("access-control")]
        assert headers["x-frame-options"] == "SAMEORIGIN"


def test_without_the_cookie_nothing_is_stored_or_read(server, visitor, files):
    (path,) = visitor.upload(("face.png", b"secret"))[1]
    stranger, before = Visitor(server[0]), stored(server[1])
    assert stranger.upload(("a.png", b"x"))[0] == 403
    assert stranger.ask("GET", f"/gradio_api/file={path}")[0] == 403
    forged = Visitor(server[0], Cookie=visitor.headers["Cookie"][:-1] + "0")
    assert forged.ask("GET", f"/gradio_api/file={path}")[0] in (403, 200 if forged.headers == visitor.headers else 403)
    assert visitor.ask("GET", f"/gradio_api/file={path}")[2] == b"secret"
    assert stored(server[1]) == before


def test_two_visitors_with_equal_files_do_not_share_them(server, visitor, other, files):
    mine, theirs = visitor.uploaded(files), other.uploaded(files)
    words, values = visitor.make(mine)
    assert "face_voice.mp4: 13 frames" in words
    assert "face_voice.mp4: 13 frames" in other.make(theirs)[0]
    video = values[0]["path"]
    assert other.ask("GET", f"/gradio_api/file={video}")[0] == 403
    assert other.join(mine)[0] == 403  # another's upload
    other_session, other.session = other.session, visitor.session
    assert other.join(theirs)[0] == 403  # another's page
    assert other.click("halt")[0] == 403
    assert other.ask("GET", f"/gradio_api/queue/data?session_hash={visitor.session}")[0] == 403
    assert other.ask("GET", f"/gradio_api/heartbeat/{visitor.session}")[0] == 403
    other.session = other_session
    other.close()
    until = time.monotonic() + 60
    while [file for file in stored(server[1]) if other_session in file.parts]:
        assert time.monotonic() < until, "files of a closed page are still there"
        time.sleep(0.5)
    assert visitor.ask("GET", f"/gradio_api/file={video}")[0] == 200
    assert visitor.ask("GET", f"/gradio_api/file={mine['portrait']['path']}")[0] == 200
    assert "13 frames" in visitor.make(mine)[0]
    other.open()


def test_examples_are_not_deleted_or_changed_by_visitors(server, other, files):
    example = server[1] / "examples" / "Jun.csv"
    before = example.read_bytes()
    values = other.example(server[1], "Jun")
    assert "Jun_Jun.mp4: 75 frames" in other.make(values)[0]
    # Landmarks of a "portrait" that is a landmark file would take its name.
    junk = other.upload(("junk.csv", b"junk"))[1][0]
    taken = {"portrait": file_data(str(example)), "landmarks": file_data(junk)}
    assert "expected a picture" in other.make(values | taken)[0]
    assert example.read_bytes() == before


def test_uploads_have_totals(server, visitor, other):
    before = stored(server[1])
    status, words = visitor.upload(*((f"{number}.bin", secrets.token_bytes(900_000)) for number in range(10)))
    assert status == 413
    assert "3 MB" in words
    body, kind = multipart([("a.bin", bytes(4_000_000))])
    parts = (body[start : start + 65536] for start in range(0, len(body), 65536))
    chunked = {"Content-Type": kind, "Transfer-Encoding": "chunked"}
    assert visitor.ask("POST", "/gradio_api/upload", parts, **chunked)[0] == 413
    assert visitor.upload(("large.bin", bytes(1_100_000)))[0] == 413
    assert visitor.upload(*((f"{number}.bin", b"x") for number in range(9)))[0] in (400, 413)
    assert stored(server[1]) == before
    for _ in range(3):
        assert visitor.upload(("ok.bin", bytes(900_000)))[0] == 200
    assert visitor.upload(("more.bin", bytes(900_000)))[0] == 413
    assert other.upload(("ok.bin", bytes(900_000)))[0] == 200  # another visitor is not affected


def test_names_of_uploads_do_not_leave_their_folder(server, visitor):
    names = ["../../../etc/x.png", "..", "/etc/passwd", "a" * 250 + ".png", "..\\..\\x.png", "漢" * 100 + ".wav"]
    status, paths = visitor.upload(*((name, b"x") for name in names))
    assert status == 200
    visitors = server[1] / "visitors"
    assert all(visitors in (visitors / path).resolve().parents for path in paths)
    assert all(len(path.rpartition("/")[2].encode()) <= 120 for path in paths)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../etc/passwd",
        "{folder}/visitors/../../../../etc/passwd",
        "{folder}/lock",
        "{folder}/visitors",
        "{folder}/examples/../lock",
        "//etc/passwd",
        "file:///etc/passwd",
        "/proc/self/environ",
        "a\0b",
    ],
)
def test_files_of_the_machine_are_not_served_or_used(server, visitor, path):
    path = path.format(folder=server[1])
    for quoted in (path, path.replace("/", "%2f"), path.replace("..", "%2e%2e")):
        assert visitor.ask("GET", "/gradio_api/file=" + quoted.replace("\0", "%00"))[0] in (403, 404)
    for field in ("portrait", "speech", "landmarks", "image", "video"):
        assert visitor.join(USUAL | {field: file_data(path)})[0] == 403
        assert visitor.join(USUAL | {field: {"path": path}})[0] == 400
        assert visitor.join(USUAL | {field: [file_data(path)]})[0] == 400


def test_the_server_fetches_no_address_of_a_visitor(visitor):
    asked = []

    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_GET

    recorder = HTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=recorder.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{recorder.server_port}/secret.wav"
    assert visitor.join(USUAL | {"speech": file_data(url)})[0] == 403
    assert visitor.join(USUAL | {"portrait": {"url": url}})[0] == 400
    assert visitor.join(USUAL | {"portrait": url})[0] == 400
    for path in (f"/gradio_api/file={url}", f"/gradio_api/proxy={url}", f"/gradio_api/file/{url}"):
        assert visitor.ask("GET", path)[0] in (403, 404)
    recorder.shutdown()
    recorder.server_close()
    assert asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"[" * 60_000,
        b'{"data": ' + b"[" * 900 + b"]" * 900 + b"}",
        b"\xff\xfe",
        b'{"data": [], "fn_index": "x", "session_hash": "a"}',
        b'{"data": [], "fn_index": 1e400, "session_hash": "a"}',
        b'{"data": [NaN], "fn_index": 4, "session_hash": "a"}',
        b'{"data": {}, "fn_index": 4, "session_hash": "a"}',
        b'{"data": [], "fn_index": 4}',
        b'{"data": [], "fn_index": 4, "session_hash": "../../x"}',
        b'{"data": [], "fn_index": 4, "session_hash": ["a"]}',
        b'{"data": [{"path": 7}], "fn_index": 4, "session_hash": "a"}',
        b'{"data": [], "fn_index": 999, "session_hash": "SESSION"}',
        b'{"data": [], "fn_index": -1, "session_hash": "SESSION"}',
        b'{"data": ["a", 7], "fn_index": 0, "session_hash": "SESSION"}',
        b'{"data": [{"a": 1}], "fn_index": 0, "session_hash": "SESSION"}',
        b'{"data": [null, "x", 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "fn_index": 4, "session_hash": "SESSION"}',
        b'{"data": [' + b"1," * 30_000 + b'1], "fn_index": 4, "session_hash": "SESSION"}',
        b'{"data": ["' + b"x" * 1_000_000 + b'"], "fn_index": 4, "session_hash": "SESSION"}',
    ],
)
def test_junk_is_refused_in_a_line(visitor, body):
    body = body.replace(b"SESSION", visitor.session.encode())
    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
        status, answer = visitor.post(path, body)
        assert 400 <= status < 500, answer
        assert answer.count(b"\n") == 0
        assert len(answer) < 300


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seed": 2**70}, "seed=1180591620717411303424: expected a number from 0"),
        ({"seed": -1}, "seed=-1: expected"),
        ({"seed": "x"}, "seed: expected a number"),
        ({"seed": True}, "seed: expected a number"),
        ({"steps": 1000}, "steps=1000: at most 50"),
        ({"steps": 0}, "steps=0: expected"),
        ({"strength": 1e300}, "strength=1e+300: expected"),
        ({"strength": "much"}, "strength: expected a number"),
        ({"blinks": -1}, "blinks=-1: expected"),
        ({"blinks": "often"}, "blinks: expected a number"),
        ({"head": 3}, "head=3: expected a number from 0 to 2"),
        (
            {"head": 0.5},
            "motion.head=0.5: the expression latent of the motion encoder landmarks has no pose of the head",
        ),
        ({"lips_strength": 3}, "lips_strength=3: expected a number from 0 to 2"),
        ({"guidance_lips": 1e300}, "guidance_lips=1e+300: expected a number from 0 to 10"),
        ({"guidance_expression": "much"}, "guidance_expression: expected a number"),
        ({"guidance_lips": 2}, "guidance.lips=2: this network was trained with model.lip_dropout=0"),
        ({"text": "a" * 10_000}, "has 10000 characters, at most 200"),
        ({"text": 7}, "text: expected a text"),
        ({"source": "nowhere"}, "source: expected one of"),
        ({"source": "label", "label": "happy"}, "emotion.label: needs a label table"),
        ({"source": "label", "label": 1, "level": "x"}, "label: expected a text"),
    ],
)
def test_values_are_checked_on_the_server(server, visitor, files, values, words):
    answer = visitor.make(visitor.uploaded(files) | values)[0]
    assert words in answer
    assert "frames" not in answer
    assert "nexpected" not in answer  # no bug
    assert str(server[1]) not in answer


HOSTILE = {
    "playlist.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:5.0,\n{secret}\n#EXT-X-ENDLIST\n",
    "itself.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nitself.m3u8\n",
    "list.wav": "ffconcat version 1.0\nfile {secret}\n",
    "session.wav": "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 96\na=rtpmap:96 L16/16000\n",
    "page.wav": "<html>no sound</html>",
    "empty.wav": "",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_speech_reads_nothing_and_gets_a_line(server, visitor, files, tmp_path, name):
    content = HOSTILE[name].format(secret=files / "voice.wav")
    (tmp_path / name).write_text(content)
    given = visitor.uploaded(files)
    (path,) = visitor.upload((name, content.encode()))[1]
    start = time.monotonic()
    answer = visitor.make(given | {"speech": file_data(path)})[0]
    assert 'role="alert"' in answer
    assert name in answer
    assert str(server[1]) not in answer
    assert time.monotonic() - start < 30


def test_a_picture_of_177_megapixels_is_refused(server, visitor, files, tmp_path):
    Image.new("P", (13_300, 13_300)).save(tmp_path / "huge.png", optimize=True)
    given = visitor.uploaded(files)
    (path,) = visitor.upload(("huge.png", (tmp_path / "huge.png").read_bytes()))[1]
    answer = visitor.make(given | {"portrait": file_data(path)})[0]
    assert "huge.png: has 13300x13300 pixels, more than 40 megapixels" in answer


def test_one_visitor_cannot_fill_the_queue(server, visitor, other, files):
    given = visitor.uploaded(files)
    working = visitor.makes(given | {"steps": 20})
    for _ in range(6):
        status, answer = visitor.join(given)  # more from the same page
        assert status in (200, 503), answer
    assert "13 frames" in other.make(other.uploaded(files))[0]
    working.join(120)


def test_stop_ends_a_request_that_waits_and_not_the_one_that_runs(server, visitor, other, files):
    seen = []
    running = visitor.makes(visitor.example(server[1], "Jun") | {"steps": 4})
    time.sleep(1.5)

    def stop_when_waiting(message):
        seen.append(json.dumps(message))
        if "Waiting; 1 video is made first" in seen[-1]:
            assert other.click("halt")[0] == 200

    assert "Stopped." in other.make(other.uploaded(files), stop_when_waiting)[0]
    running.join(120)
    assert "75 frames" in visitor.words
    assert not [file for file in stored(server[1]) if other.session in file.parts]


def test_other_routes_of_gradio_are_closed(visitor):
    for path in ("/monitoring", "/gradio_api/startup-events", "/gradio_api/openapi.json", "/gradio_api/queue/status",
                 "/gradio_api/dev/reload", "/gradio_api/vibe-code/", "/gradio_api/deep_link", "/gradio_api/token",
                 "/gradio_api/stream/a/b/1/playlist.m3u8", "/login_check", "/gradio_api/runs"):  # fmt: skip
        assert visitor.ask("GET", path)[0] == 404, path
    for path in ("/gradio_api/component_server", "/gradio_api/process_recording", "/gradio_api/call/make",
                 "/gradio_api/api/make", "/gradio_api/vibe-edit", "/"):  # fmt: skip
        assert visitor.ask("POST", path, b"{}")[0] == 404, path
    assert visitor.ask("GET", "/?deep_link=x&page=y")[0] == 200
    assert visitor.ask("GET", "/assets/../../../../../../etc/passwd")[0] in (403, 404)
