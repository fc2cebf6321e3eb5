"""The web page in a real browser: uploads, clicks and downloads, without requests to any other machine."""

import json
import re
import time

import pytest

from configs.app import AppConfig
from media import FrameReader
from runtime.files import below
from tests.helpers.warm import free_port

pytest.importorskip("gradio", reason="gradio is not installed (make setup)")
PATIENCE = 120_000  # milliseconds


@pytest.fixture(scope="module")
def served(pipeline, tmp_path_factory):
    """The page's address, and the folder of its visitors' files."""
    from generation.web.serve import opened

    folder = tmp_path_factory.mktemp("served")
    config = AppConfig(ethd="run", port=free_port(), max_seconds=4, max_megabytes=1)
    with opened(pipeline, config, folder) as address:
        yield address, folder


@pytest.fixture
def page(served, browser):
    """A new visitor, with the page's requests and errors recorded."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.asked, page.problems = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(served[0])
    page.get_by_role("button", name="Make the video").wait_for()
    yield page
    context.close()


def clear(page, name):
    """Empties an input, in which an example may be."""
    page.locator(f"#{name}").get_by_label(re.compile("^(Clear|Remove Image)$")).first.click()
    page.locator(f"#{name} input[type=file]").first.wait_for(state="attached")


def upload(page, **given):
    for name, file in given.items():
        if name in ("portrait", "speech") and page.locator(f"#{name} img, #{name} audio, #{name} #waveform").count():
            clear(page, name)
        with page.expect_response(lambda response: "/upload" in response.url):
            page.locator(f"#{name} input[type=file]").set_input_files(file)
        page.wait_for_timeout(500)


def make(page) -> str:
    # The message of the video before stays until the server has answered the click.
    page.locator("#message").evaluate("it => it.querySelectorAll('[role]').forEach(one => { one.dataset.before = '' })")
    page.get_by_role("button", name="Make the video").click()
    message = page.locator("#message [role]:not([data-before])")
    message.wait_for()
    return message.inner_text()


@pytest.mark.slow
def test_a_portrait_and_speech_become_a_video_that_plays(page, served, files, tmp_path):
    upload(page, portrait=files / "face.png", landmarks=files / "face.csv", speech=files / "voice.wav")
    assert "face_voice.mp4: 13 frames, 64x64" in make(page)
    film = page.locator("#film video")
    film.wait_for()
    film.evaluate("film => film.play()")
    page.wait_for_function("document.querySelector('#film video').currentTime > 0.2")
    assert film.evaluate("film => [film.duration, film.videoWidth, film.error]") == [pytest.approx(0.52), 64, None]
    for button, name in (("Download the video", "face_voice.mp4"), ("Download the record", "face_voice.json")):
        with page.expect_download() as download:
            page.get_by_text(button).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    assert len(FrameReader(tmp_path / "face_voice.mp4")) == 13
    assert json.loads((tmp_path / "face_voice.json").read_text())["settings"]["seed"] == 0
    page.set_viewport_size({"width": 390, "height": 844})  # a phone's
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    here = ("data:", "blob:", served[0])
    assert [url for url in page.asked if not url.startswith(here)] == []
    assert page.problems == []
    page.close()
    until = time.monotonic() + 60
    while left := [file for file in below(served[1]) if "voice" in file.name]:
        assert time.monotonic() < until, f"still there after the page was closed: {left}"
        time.sleep(0.5)


@pytest.mark.slow
def test_errors_are_shown_on_the_page(page, files, tmp_path):
    clear(page, "portrait")
    assert "There is no portrait yet" in make(page)
    words = tmp_path / "words.png"
    words.write_text("no picture at all")
    upload(page, portrait=words, landmarks=files / "face.csv", speech=files / "voice.wav")
    assert "words.png: is not a picture; expected PNG, JPEG or WebP" in make(page)
    assert page.locator("#message [role=alert]").count() == 1
    assert "Traceback" not in page.content()


@pytest.mark.slow
def test_an_example_takes_one_click(page):
    assert page.locator("#portrait img").get_attribute("src").endswith("Cyrus.png")  # filled in
    assert page.locator("#examples img").count() == 3
    page.locator("#examples button").nth(1).click()
    page.locator("#portrait img[src$='Jun.png']").wait_for()
    page.locator("#speech").get_by_text("0:03").first.wait_for()
    assert not page.locator("#landmarks").is_visible()
    assert "Jun_Jun.mp4: 75 frames" in make(page)


@pytest.mark.slow
def test_guidance_has_sliders_for_networks_that_were_trained_for_it(page, browser, guidable, files, tmp_path):
    from generation.web.serve import opened

    def more(page):
        page.get_by_role("button", name="More").click()
        page.locator("#lips-strength").wait_for()
        return [page.locator(f"#guidance-{part}").is_visible() for part in ("lips", "expression")]

    assert more(page) == [False, False]
    config = AppConfig(ethd="run", port=free_port(), max_seconds=4, max_megabytes=1)
    with opened(guidable, config, tmp_path / "served") as address:
        other = browser.new_page()
        other.set_default_timeout(PATIENCE)
        other.goto(address)
        other.get_by_role("button", name="Make the video").wait_for()
        assert more(other) == [True, True]
        other.locator("#guidance-expression input[type=number]").fill("2")
        other.locator("#guidance-expression input[type=number]").blur()
        upload(other, portrait=files / "face.png", landmarks=files / "face.csv", speech=files / "voice.wav")
        assert "face_voice_guided-expression2.mp4: 13 frames" in make(other)
        other.get_by_label("Blinks per minute").click()
        other.get_by_role("option", name="26, as in a conversation").click()
        assert "face_voice_guided-expression2_blinks26.mp4: 13 frames" in make(other)
        other.screenshot(path=tmp_path / "more.png", full_page=True)
        other.close()
