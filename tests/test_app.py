"""app.py from start to end, and its errors."""

import signal
import socket
import subprocess
import sys

import pytest

from configs.app import AppConfig
from configs.command_line import compose
from tests.helpers import ROOT
from tests.helpers.refusals import refuses
from tests.helpers.warm import free_port

pytest.importorskip("gradio", reason="gradio is not installed (make setup)")


@pytest.mark.slow
def test_the_page_is_local_by_default():
    from generation.web.serve import is_loopback

    assert is_loopback(compose("app", AppConfig, []).host)
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("example.org")


def test_an_address_in_use_is_refused_with_advice():
    from generation.errors import GenerationError
    from generation.web.serve import require_free

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refuses(GenerationError, f"port={port}: is not available .* another port", require_free, "127.0.0.1", port)
    require_free("127.0.0.1", port)
    refuses(GenerationError, r"host=not\.a\.host\.invalid: is not an address", require_free, "not.a.host.invalid", port)


@pytest.mark.slow
def test_ctrl_c_ends_the_page_and_deletes_its_files(runs, tmp_path):
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
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "Stopped; uploads and videos of this page are deleted" in errors
    assert "Traceback" not in errors
    assert not [file for file in temporary.rglob("*") if file.is_file()]
    assert not list(here.iterdir())


CLIPPED = """[...document.querySelectorAll('.gradio-container *')].filter(one =>
    one.clientHeight > 0 && ['hidden', 'clip', 'auto', 'scroll'].includes(getComputedStyle(one).overflowY)
    && (one.scrollHeight > one.clientHeight + 2 || one.scrollWidth > one.clientWidth + 2)).map(one => one.outerHTML)"""
HELP = (
    "Examples: choose a face", "The face that speaks", "What the face says", "Where the expression", "One of those in",
    "How clearly it is shown", "0: expression of the portrait", "The record (.json)",
)  # fmt: skip


@pytest.mark.slow
def test_without_a_word_the_page_opens_with_a_video_of_an_example(browser, files, tmp_path):
    from generation.model_files import ModelFiles
    from generation.small import SMALL
    from generation.web.serve import opened

    pipeline, config = ModelFiles(SMALL, device="cpu").load(), AppConfig(port=free_port())
    with opened(pipeline, config, tmp_path / "served") as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(address)
        film = page.locator("#film video")
        film.wait_for()
        page.wait_for_function("document.querySelector('#film video').currentTime > 0.2")
        assert film.evaluate("film => [film.videoWidth, film.error]") == [64, None]
        assert (
            "Cyrus, a synthetic speaker whom the model never saw in training" in page.locator("#message").inner_text()
        )
        for place in ("Download the video", "Download the record"):
            with page.expect_download() as download:
                page.get_by_text(place).click()
            assert download.value.suggested_filename.startswith("talking.")
        assert page.locator("#portrait img").get_attribute("src").endswith("Cyrus.png")
        assert page.locator("#label input").input_value() == "happy"
        assert page.locator("#examples img").count() == 3
        assert not page.locator("#landmarks").is_visible()
        for words in HELP:
            assert page.get_by_text(words).first.is_visible(), words
        assert page.evaluate(CLIPPED) == []
        go = page.get_by_role("button", name="Make the video")
        assert go.bounding_box()["y"] < 900  # in view without scrolling

        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert film.bounding_box()["y"] < page.locator("#examples").bounding_box()["y"]
        assert page.evaluate(CLIPPED) == []

        page.set_viewport_size({"width": 1280, "height": 900})
        page.locator("#examples button").nth(1).click()
        page.locator("#portrait img[src$='Jun.png']").wait_for()
        page.wait_for_function("document.querySelector('#label input').value === 'angry'")
        page.locator("#portrait input[type=file]").set_input_files(files / "face.png")
        page.locator("#landmarks").wait_for()  # of a picture that is no example
        assert page.evaluate(CLIPPED) == []
        page.locator("#examples button").nth(1).click()
        page.locator("#landmarks").wait_for(state="hidden")
        page.close()
