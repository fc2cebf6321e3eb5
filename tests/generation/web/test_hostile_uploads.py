"""The page is handed over a hundred hostile files by HTTP, as portrait, speech, emotion and landmarks."""

import json
import re
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.hostile_media import fill, make_video
from tests.helpers.page_client import Visitor, file_data, page_server, server_folder
from tests.helpers.watching import Watch, listening

pytest.importorskip("gradio", reason="gradio is not installed (make setup)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the watch and /proc are Linux's"),
]
KEYS = ("max_megabytes=3", "visitor_megabytes=300", "visitor_files=1000", "max_seconds=4", "visitor_minutes=1000")
PICTURES = (".png", ".jpg", ".gif", ".bmp", ".webp", ".ppm", ".svg")
POINTS = [f"{axis}_{index}" for axis in "xy" for index in range(68)]
HEAD = ",".join(["timestamp", "face_id", *POINTS])


@pytest.fixture(scope="module")
def server(runs, tmp_path_factory):
    """(process, port, folder of the server, log)."""
    temporary = tmp_path_factory.mktemp("temporary")
    with page_server(runs / "ethd", temporary, *KEYS) as (process, port, log):
        yield process, port, server_folder(temporary), log
        assert process.poll() is None, "the server died"
        assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def visitor(server):
    opened = Visitor(server[1]).open()
    yield opened
    opened.close()


def memory_of(process) -> int:
    """Peak memory of a process, bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def require_plain(answer: str, server, name: str) -> None:
    """A video, or one line that says what is wrong, without an internal name or folder of the server."""
    lines = re.findall("<p>(.*?)</p>", answer, re.DOTALL)
    assert lines, answer
    assert not any("\n" in line for line in lines), answer
    assert "nexpected error" not in answer, (name, answer)
    assert str(server[2]) not in answer
    assert "/" not in re.sub(r"</?\w+.*?>", "", answer).replace("m/s", ""), answer


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.nightly)])
def test_no_file_is_followed_and_each_gets_a_line(server, visitor, files, tmp_path, every):
    canary = make_video(tmp_path / "canary.mp4")
    given, seen = visitor.uploaded(files), {}
    with listening() as (address, asked):
        _, hostile = fill(tmp_path, canary, address)
        small = [path for path in hostile if "\0" not in str(path) and len(path.name) < 200 and path.is_file()]
        small = [path for path in small if not path.is_symlink() and path.stat().st_size < 3_000_000]
        assert len(small) >= 110
        small = small[::every]
        watch, before = Watch(canary), memory_of(server[0])
        for path in small:
            status, uploaded = visitor.upload((path.name, path.read_bytes()))
            assert status in (200, 400), uploaded
            watch.count()
            if status == 400:
                continue
            fields = [{"speech": file_data(uploaded[0])}]
            if path.suffix in PICTURES:
                fields = [{"portrait": file_data(uploaded[0])}]
            elif path.name.startswith(("playlist", "concat", "pixels", "jump")):
                film = {"source": "video", "video": file_data(uploaded[0]), "source_landmarks": given["landmarks"]}
                fields.append(film)
            for field in fields:
                start = time.monotonic()
                answer = seen[path.name] = visitor.make(given | {"steps": 1} | field)[0]
                require_plain(answer, server, path.name)
                assert watch.count() == 0, path
                assert time.monotonic() - start < 60, path
        assert asked == []
    assert memory_of(server[0]) - before < 700e6
    refused = [name for name, answer in seen.items() if 'role="alert"' in answer]
    assert len(refused) >= 90 / every  # sound with some damage is read, and its repair is a note
    for name in seen:
        if name.startswith(("playlist", "remote", "itself", "mapped", "concat", "described", "dash", "redirect")):
            assert name in refused


def face(x=128.0, y=128.0) -> str:
    points = [str(round(x + 40 * (n % 17 - 8) / 8, 1)) for n in range(68)]
    return ",".join([*points, *(str(round(y + 40 * (n // 17 - 2) / 2, 1)) for n in range(68))])


def lines(*rows: str, head: str = HEAD) -> bytes:
    return "\n".join([head, *rows, ""]).encode()


LANDMARKS = {
    "empty": b"",
    "no text": bytes(range(256)),
    "zeros": bytes(100_000),
    "utf-16": lines(f"0,0,{face()}").decode().encode("utf-16"),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "no rows": lines(),
    "no columns": b"a,b\n1,2\n",
    "half": lines(f"0,0,{face()}")[:-200],
    "words": lines(f"0,0,{face()}").replace(b"128.0", b"word"),
    "formula": lines(f"0,0,{face()}").replace(b"128.0", b"=1+1"),
    "nan": lines(f"0,0,{','.join(['nan'] * 136)}"),
    "infinite": lines(f"0,0,{','.join(['inf'] * 136)}"),
    "huge": lines(f"0,0,{','.join(['1e308'] * 136)}"),
    "one huge": lines(f"0,0,1e308,{face().partition(',')[2]}"),
    "large": lines(f"0,0,999999,{face().partition(',')[2]}"),
    "negative": lines(f"0,0,{','.join(['-5'] * 136)}"),
    "a point": lines(f"0,0,{','.join(['100'] * 136)}"),
    "timestamp": lines(f"nan,0,{face()}"),
    "later": lines(f"1e9,0,{face()}"),
    "id": lines(f"0,nan,{face()}"),
    "large id": lines(f"0,1e300,{face()}"),
    "many faces": lines(*[f"0,{n},{face()}" for n in range(2000)]),
    "a long field": lines("0,0," + "9" * 1_000_000),
    "a long line": lines("0," * 500_000),
    "many lines": lines(*["0,"] * 500_000),
    "many rows": lines(*[f"{n / 1000},0,{face()}" for n in range(2500)]),
    "columns twice": lines(f"0,0,{face()},{face()}", head=f"{HEAD},{','.join(POINTS)}"),
    "quotes": lines('"' * 100_001),
    "nul": lines(f"0,0,{face()}\0"),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.nightly] if n % 3 else []) for n, name in enumerate(LANDMARKS)],
)
def test_landmark_files_are_text_that_is_checked(server, visitor, files, name):
    content = LANDMARKS[name]
    given = visitor.uploaded(files) | {"steps": 1}
    (path,) = visitor.upload(("face.csv", content))[1]
    for values in (
        {"landmarks": file_data(path)},
        {"source": "image", "image": given["portrait"], "source_landmarks": file_data(path)},
    ):
        start = time.monotonic()
        require_plain(visitor.make(given | values)[0], server, name)
        assert time.monotonic() - start < 30


def test_a_text_of_a_megabyte_is_not_worked_on(server, visitor, files):
    given = visitor.uploaded(files) | {"source": "text"}
    start = time.monotonic()
    status, answer = visitor.join(given | {"text": "a" * 1_000_000})
    assert (status, answer) == (413, b"The request has more than 64 kB.")
    assert "at most 200 are taken" in visitor.make(given | {"text": "smile " * 10_000})[0]
    assert time.monotonic() - start < 20
    assert json.loads(visitor.ask("GET", "/config")[2])
