"""The page of the demonstration: its content, and its behaviour in a desktop and a phone browser."""

import json
import re
import shutil
from html import escape
from html.parser import HTMLParser

import pytest

from tools.demo.demo_page import main
from tools.demo.material import mean_clip, metric_scores, read_curves, read_json, read_people, verdicts
from tools.demo.strips import decoupling_rows, motion_rows

PATIENCE = 120_000  # milliseconds
BROKEN_WORDS = """() => {
  const found = [], walker = document.createTreeWalker(document.querySelector("#scores"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) for (const word of walker.currentNode.data.matchAll(/\\p{L}+/gu)) {
    const range = document.createRange();
    range.setStart(walker.currentNode, word.index);
    range.setEnd(walker.currentNode, word.index + word[0].length);
    if (range.getClientRects().length > 1) found.push(word[0]);
  }
  return found;
}"""
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def page(folder):
    main([str(folder)])
    return folder / "index.html"


class Tags(HTMLParser):
    """Collects tags that are not closed, and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "poster")]
        if tag not in ("meta", "img", "br", "input", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.slow
def test_the_page_is_well_formed_and_loads_nothing_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.addresses
    assert all(address.startswith(("data:", "#")) for address in tags.addresses)
    assert not re.search(r"https?://", text)


def test_the_page_shows_commands_scores_and_explanations(page, folder):
    text = page.read_text(encoding="utf-8")
    for step in read_json(folder / "plan.json"):
        assert escape(step["command"]) in text
    for message in (
        *("train.py experiment=vaid/tiny", "at most 100 steps; experiment vaid/tiny takes", "FID proxy", "12.3"),
        *("It started from the small model", "before this training 0.38", "before this training 27.8 dB"),
        *("01234567, not the official network", "not computed: needs syncnet_v2.model"),
        *("follow the speech in part (correlation 0.41)", "chance 2.4\N{NO-BREAK SPACE}%"),
        "about as often as by chance",
        "2 windows that overlap by 3 frames",
    ):
        assert message in text, message


def test_heat_maps_show_changes_and_motion(folder):
    videos, portrait = folder / "videos", folder / "cases" / "portraits" / "a.png"
    lips, expression = decoupling_rows(portrait, videos / "drive" / "lips.mp4", videos / "drive" / "expression.mp4")
    assert 0 < lips.mean < expression.mean  # 16 rows compared with 32
    assert expression.mean / lips.mean == pytest.approx(2, rel=0.15)
    moving, held = motion_rows(videos / "dicte" / "with.mp4", videos / "dicte" / "without.mp4")
    assert moving.mean == held.mean > 0


def test_curves_are_those_of_the_current_run(tmp_path):
    """A run that starts anew renames the table of the previous one."""
    (tmp_path / "csv").mkdir()
    for name, rows in (("metrics-1.csv", "0,9,99\n"), ("metrics.csv", "0,9,3\n0,19,2\n0,19,\n1,29,1\n")):
        (tmp_path / "csv" / name).write_text(f"epoch,step,train/loss\n{rows}")
    assert read_curves(tmp_path) == {"train/loss": [(10, 3), (20, 2), (30, 1)]}


def test_metrics_that_were_not_computed_name_what_they_need():
    (row,) = metric_scores({"metrics": {"efid": {"value": None, "not_computed": "needs i3d.pt\nmore"}}})
    assert (row.name, row.value, row.network) == ("E-FID", "–", "not computed: needs i3d.pt")


@pytest.mark.parametrize(
    ("psnr", "jaw", "message"), [(20, 0.8, "3.0 dB closer"), (15, 0.1, "2.0 dB further"), (15, 0.5, "in part")]
)
def test_verdicts_describe_the_numbers(psnr, jaw, message):
    clips = {
        str(off): {"psnr_first_frame": 17.0 + off, "voice": {"psnr": psnr + off, "jaw": jaw + off / 10}}
        for off in (-1, 1)
    }
    (sentence,) = verdicts(None, clips, None)
    assert message in sentence
    assert sentence.startswith("For training clips")


def test_held_out_people_are_shown_against_the_number_of_people(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "demo")
    (copy / "people").mkdir()
    people = {"held_out": ["a", "b"], "trained": {"2": ["c", "d"], "all": ["c", "d", "e"]}}
    (copy / "people" / "people.json").write_text(json.dumps(people))
    same = {"faces": 1.0, "upper_face": 0.1}
    for part, psnr in (("-2", 17.5), ("", 19.0)):
        clip = {"frames": 50, "psnr_first_frame": 17.0, "codec": {"psnr": 35.0, "jaw": 0.9, **same}}
        clip |= {"voice": {"psnr": psnr, "jaw": 0.1, **same}, "own": {"psnr": psnr + 2, "jaw": 0.2, **same}}
        (copy / f"score_unseen{part}.json").write_text(json.dumps({"one": clip, "two": clip}))
    means = read_people(copy)
    assert {count: clip["own"]["psnr"] for count, clip in means.items()} == {2: 19.5, 3: 21.0}
    main([str(copy)])
    text = (copy / "index.html").read_text(encoding="utf-8")
    assert "People who were held out" in text
    assert "first frame repeated 17.0, with the true motion 21.0" in text


def test_means_are_of_the_clips_with_a_face():
    clips = {name: {"voice": {"psnr": 20.0, "jaw": jaw}} for name, jaw in (("a", 0.5), ("b", None), ("c", 0.7))}
    assert mean_clip(clips) == {"voice": {"psnr": 20.0, "jaw": pytest.approx(0.6)}}
    lost = {"b": {"psnr_first_frame": 17.0, **clips["b"]}}
    assert mean_clip(lost)["voice"]["jaw"] is None
    assert verdicts(None, None, lost)[0].endswith("the mouth is not found.")
    assert verdicts(None, None, {}) == []


@pytest.mark.slow
@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_the_page_in_a_browser(page, browser, size, scheme):
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
    context.set_default_timeout(PATIENCE)
    view = context.new_page()
    problems, asked = [], []
    view.on("pageerror", lambda error: problems.append(str(error)))
    view.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    view.on("request", lambda request: asked.append(request.url))
    view.goto(page.as_uri())
    assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    first = view.locator("header video")
    view.wait_for_function("document.querySelector('header video').currentTime > 0.1")  # plays by itself
    assert first.evaluate("video => video.muted && video.loop")
    place = first.bounding_box()
    assert place["y"] + place["height"] <= size["height"]
    assert view.evaluate(BROKEN_WORDS) == []
    videos = "[...document.querySelectorAll('video')]"
    view.wait_for_function(f"{videos}.every(video => video.readyState > 0 && !video.error)")
    assert view.evaluate(f"{videos}.every(video => video.duration >= 0.99)")
    assert view.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    pair = view.locator("#results .pair").first
    pair.get_by_role("button", name="Play both").click()
    handle = pair.element_handle()
    view.wait_for_function("pair => [...pair.querySelectorAll('video')].every(v => v.currentTime > 0.1)", arg=handle)
    assert pair.locator("video").evaluate_all("videos => videos.map(video => video.muted)") == [True, False]
    view.wait_for_function("pair => [...pair.querySelectorAll('video')].every(v => v.ended)", arg=handle)
    pair.get_by_role("button", name="Play both").wait_for()
    background = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 384) == (scheme == "light")
    context.close()
    assert problems == []
    assert {address.partition(":")[0] for address in asked} <= {"file", "data"}
