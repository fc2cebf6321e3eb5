"""When a real server deletes files: closed pages, programs without a page, signals, and after it was killed."""

import os
import signal
import time
from pathlib import Path

import pytest

from runtime.files import below
from tests.helpers.page_client import Visitor, page_server, server_folder

pytest.importorskip("gradio", reason="gradio is not installed (make setup)")
pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="SIGHUP is a signal of POSIX systems"),
]


def files_in(folder: Path, *without: str) -> set[Path]:
    """Files and folders below a folder, apart from those of some visitors or pages."""
    return {file for file in below(folder) if not {*without} & {*file.parts}}


def wait_until(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "still not so"
        time.sleep(0.2)


@pytest.mark.nightly  # test_visitors.py has the rules, with a clock of its own
def test_what_nobody_holds_is_deleted_and_examples_and_open_pages_stay(runs, files, tmp_path):
    keys = ("keep_minutes=1", "visitor_minutes=0.02", "max_megabytes=1")
    with page_server(runs / "ethd", tmp_path, *keys) as (process, port, _):
        folder = server_folder(tmp_path)
        visitors, examples = folder / "visitors", files_in(folder / "examples")
        assert len(examples) == 9
        opened = Visitor(port).open()
        kept = opened.uploaded(files)
        (unused,) = opened.upload(("unused.png", b"x"))[1]
        mine = Path(unused).relative_to(visitors).parts[0]
        program = Visitor(port).open(shows=False)
        assert "13 frames" in program.make(program.uploaded(files))[0]
        stranger, joiner = Visitor(port), Visitor(port).open(shows=False)
        for _ in range(20):
            assert stranger.upload(("a.png", b"x"))[0] == 403
            assert program.upload(("a.png", bytes(2_000_000)))[0] == 413
            assert joiner.join({"seed": "x"})[0] in (200, 503)
        leaver = Visitor(port).open()
        (left,) = leaver.upload(("left.png", b"x"))[1]
        leaver.close()
        wait_until(lambda: not Path(left).exists(), 40)
        assert files_in(visitors, mine), "files of a program stay for keep_minutes"
        wait_until(lambda: not files_in(visitors, mine), 120)
        assert Path(unused).exists()
        assert files_in(folder / "examples") == examples
        assert "Jun_Jun.mp4: 75 frames" in opened.make(opened.example(folder, "Jun"))[0]

        # Who had the device for longer than visitor_minutes is stopped when another waits.
        opened.makes(opened.example(folder, "Jun") | {"steps": 50})
        time.sleep(3)
        other = Visitor(port).open()
        assert "13 frames" in other.make(other.uploaded(files))[0]
        wait_until(lambda: hasattr(opened, "words"))
        assert "Stopped after 0.02 minutes of this hour, since others wait." in opened.words

        # The terminal is closed while pages are open and a video is made.
        opened.makes(kept | {"steps": 50})
        time.sleep(2)
        process.send_signal(signal.SIGHUP)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
        assert not folder.exists()
        assert {file.name for file in tmp_path.glob("*") if not file.name.startswith((".", "log-"))} == set()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_the_next_server_deletes_what_a_killed_one_left(runs, files, tmp_path):
    with page_server(runs / "ethd", tmp_path) as (process, port, _):
        folder = server_folder(tmp_path)
        visitor = Visitor(port).open()
        assert "13 frames" in visitor.make(visitor.uploaded(files))[0]
        assert folder.stat().st_mode & 0o077 == 0
        started = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal() and _parent(entry) == process.pid]
        assert started, "the process that looks at files"
        process.kill()
        process.wait()
        wait_until(lambda: not any(Path(f"/proc/{one}").exists() for one in started), 20)
    assert list(folder.rglob("*.mp4"))
    foreign = tmp_path / f"emotivetalk-page-{os.getpid()}-x"
    foreign.mkdir(mode=0o700)  # of a process that runs
    with page_server(runs / "ethd", tmp_path) as (process, port, _):
        assert not folder.exists()
        assert foreign.exists()
        Visitor(port).open()
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert process.returncode == 0
    assert [file.name for file in tmp_path.glob("emotivetalk-*")] == [foreign.name]


def _parent(process: str) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0
