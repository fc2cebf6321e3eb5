"""app.py as people start and end it, and what they get wrong."""

import signal
import socket
import subprocess
import sys

import pytest

from configs.app import AppConfig
from configs.command_line import compose
from tests.helpers import ROOT
from tests.helpers.refusals import refuses

pytest.importorskip("gradio", reason="gradio is not installed (make setup)")


@pytest.mark.slow
def test_it_is_this_machines_alone_unless_told_otherwise():
    from generation.web.serve import is_loopback

    assert is_loopback(compose("app", AppConfig, ["ethd=run"]).host)
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("example.org")


def test_an_address_that_is_taken_says_what_to_do():
    from generation.errors import GenerationError
    from generation.web.serve import require_free

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refuses(GenerationError, f"port={port}: cannot be had .* choose another port", require_free, "127.0.0.1", port)
    require_free("127.0.0.1", port)
    refuses(GenerationError, r"host=not\.a\.host\.invalid: is no address", require_free, "not.a.host.invalid", port)


@pytest.mark.slow
def test_ctrl_c_ends_it_and_leaves_nothing(runs, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    temporary, here = tmp_path / "temporary", tmp_path / "here"
    temporary.mkdir(), here.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), f"ethd={runs / 'ethd'}", f"port={port}", "device=cpu"],
        cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PATH": "/nowhere", "HOME": str(tmp_path / "home"), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert "loaded in" in process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        assert [file.name.startswith("emotivetalk-") for file in temporary.iterdir()].count(True) == 1
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, message
    assert "Stopped; uploads and videos of this page are deleted" in message
    assert "Traceback" not in message
    assert not [file for file in temporary.rglob("*") if file.is_file()]
    assert not list(here.iterdir())
