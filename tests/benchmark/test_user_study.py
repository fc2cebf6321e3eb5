"""The user study: designs by their definition, alpha by its inventor's example, the page in a browser."""

import json
import random
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from scipy import stats

from benchmark.tables.rebuild_tables import make_tables
from benchmark.user_study.__main__ import main
from benchmark.user_study.agreement import (
    alpha_interval,
    krippendorff_alpha,
    two_way_interval,
    within_systems,
)
from benchmark.user_study.answers import checksum, collect_study, read_key
from benchmark.user_study.build import build_study
from benchmark.user_study.design import QUESTIONS, make_trials, orders, williams
from configs.tables import TableConfig
from runtime.errors import UserError
from tests.helpers.videos import write_video
from tools.quality.user_study import SETTINGS, coverage

SYSTEMS = ("ground_truth", "hallo", "emotivetalk")
SAMPLES = ("happy", "sad")
FRAMES = 10
PATIENCE = 120_000  # milliseconds
GAPS = np.nan
# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: four observers, twelve units.
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, GAPS, GAPS, GAPS],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAPS, 3],
        [GAPS, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAPS],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAPS],
    ]
)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_every_system_follows_every_other_equally_often(count):
    rows = williams(count)
    assert all(sorted(row) == list(range(count)) for row in rows)
    pairs = Counter(pair for row in rows for pair in zip(row, row[1:], strict=False))
    assert len(pairs) == count * (count - 1)
    assert len(set(pairs.values())) == 1
    assert len(set(Counter((place, item) for row in rows for place, item in enumerate(row)).values())) == 1


def test_raters_see_every_trial_once_and_each_round_every_system():
    systems, samples = [f"system{n}" for n in range(8)], [f"sample{n}" for n in range(10)]
    trials = make_trials(systems, samples, checks=3, seed=1)
    by_name = {trial.name: trial for trial in trials}
    plan = orders(trials, raters=26, seed=1)
    assert len({tuple(order) for order in plan}) == 26
    for order in plan:
        assert Counter(order) == Counter(list(by_name))
        shown = [by_name[name] for name in order if by_name[name].system]
        for start in range(0, 80, 8):
            assert {trial.system for trial in shown[start : start + 8]} == set(systems)
            assert len({trial.sample for trial in shown[start : start + 8]}) == 8
    assert orders(trials, 26, 1) == plan != orders(trials, 26, 2)
    assert not any(system in name for system in systems for name in by_name)


def test_alpha_of_the_published_example():
    assert krippendorff_alpha(KRIPPENDORFF) == pytest.approx(0.849, abs=5e-4)


def test_alpha_equals_the_coincidence_matrix_formula():
    draw = np.random.default_rng(0)
    ratings = draw.integers(1, 6, (5, 40)).astype(float)
    ratings[draw.random(ratings.shape) < 0.1] = np.nan
    matrix = np.zeros((6, 6))  # coincidences of values, an independent way to compute it
    for unit in ratings.T:
        values = unit[~np.isnan(unit)].astype(int)
        for i, one in enumerate(values):
            for j, other in enumerate(values):
                matrix[one, other] += (i != j) / (len(values) - 1)
    level = np.arange(6)
    squares = (level[:, None] - level) ** 2
    totals = matrix.sum(axis=0)
    chance = np.outer(totals, totals) - np.diag(totals)
    want = 1 - (totals.sum() - 1) * (matrix * squares).sum() / (chance * squares).sum()
    assert krippendorff_alpha(ratings) == pytest.approx(want, abs=1e-12)
    assert abs(krippendorff_alpha(draw.integers(1, 6, (20, 400)).astype(float))) < 0.02
    assert krippendorff_alpha(np.tile([1.0, 5.0, 3.0], (4, 1))) == 1
    assert np.isnan(krippendorff_alpha(np.full((3, 3), 4.0)))
    low, high = alpha_interval(ratings, 100, 0)
    assert low < want < high


def test_agreement_within_systems_is_not_raised_by_their_difference():
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 2, (20, 40)).astype(float)  # raters who agree on nothing
    systems = ["good"] * 20 + ["bad"] * 20
    rated = noise + np.repeat([4.0, 1.0], 20)
    assert krippendorff_alpha(rated) > 0.85
    assert abs(krippendorff_alpha(within_systems(rated, systems))) < 0.05


def test_the_interval_is_students_if_only_raters_or_only_clips_vary():
    draw = np.random.default_rng(3)
    raters = draw.normal(3, 1, (26, 1)) + np.zeros((1, 10))
    for ratings, values in ((raters, raters[:, 0]), (raters.T, raters[:, 0])):
        want = stats.t.interval(0.95, 25, values.mean(), stats.sem(values))
        assert two_way_interval(ratings) == pytest.approx(want)
    assert two_way_interval(np.full((5, 4), 3.0)) == (3.0, 3.0)
    assert two_way_interval(np.ones((1, 4))) is None


def test_intervals_cover_new_raters_and_clips():
    """The setting in which an interval over raters alone covers 73 % of the means of new clips."""
    found = coverage(SETTINGS["review"], trials=300, seed=0)
    assert found.mean >= 0.92
    assert found.difference >= 0.92


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder per system with short clips of grey frames and a tone."""
    root = tmp_path_factory.mktemp("videos")
    for number, system in enumerate(SYSTEMS):
        for sample in SAMPLES:
            frames = [np.full((96, 96, 3), 60 + 60 * number + frame, np.uint8) for frame in range(FRAMES)]
            tone = 0.1 * np.sin(np.arange(FRAMES * 640) / 8).astype(np.float32)
            write_video(root / system / f"{sample}.mp4", frames, sound=tone, metadata={"title": system})
    return root


def build(videos, output, **keys):
    return build_study({system: videos / system for system in SYSTEMS}, output, samples=2, raters=4, checks=2, **keys)


@pytest.fixture(scope="module")
def study(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "made"
    build(videos, folder)
    return folder


TRUE_LEVEL = {"ground_truth": 5, "hallo": 2, "emotivetalk": 4}


def answer(study, rater, levels=None, wrong_checks=0):
    """A rater's answer file, written by the page's rule."""
    key = json.loads((study / "key.json").read_text())
    trials = {trial["name"]: trial for trial in key["trials"]}
    answers = {}
    for name in key["orders"][rater - 1]:
        trial = trials[name]
        level = trial["demanded"]
        if level is None:
            level = (levels or TRUE_LEVEL)[trial["system"]]
        elif wrong_checks:
            level, wrong_checks = 6 - level, wrong_checks - 1
        answers[name] = dict.fromkeys(QUESTIONS, level)
    rows = [":".join(str(level) for level in answers[name].values()) for name in key["orders"][rater - 1]]
    mark = checksum(key["study"], f"{rater}|" + "|".join(rows))
    content = {"schema": "user_study.answers/1", "study": key["study"], "rater": rater}
    return {**content, "answers": answers, "checksum": mark}


def test_the_checksum_is_fnv_1a():
    assert checksum("", "") == "811c9dc5"  # the published test vectors
    assert checksum("foo", "bar") == "bf9cf968"


def test_incomplete_careless_or_edited_answers_are_excluded(study, tmp_path):
    fourth = answer(study, 4)
    (name, given), *rest = fourth["answers"].items()
    edited = {**given, "v_q": 3 if given["v_q"] != 3 else 4}
    excluded = {
        "asleep.json": (answer(study, 3, wrong_checks=2), "failed 2 of 2 attention checks"),
        "copy.json": (answer(study, 1), "is a copy of 1.json"),
        "edited.json": ({**fourth, "answers": {name: edited, **dict(rest)}}, "do not match its checksum"),
        "short.json": ({**fourth, "answers": dict(rest)}, "7 of 8 videos are rated"),
        "six.json": (
            {**fourth, "answers": {name: dict.fromkeys(QUESTIONS, 6), **dict(rest)}}, "6 is not one of 1 to 5"
        ),
        "other.json": ({**fourth, "study": "another"}, "another study"),
        "who.json": ({**fourth, "rater": 9}, "expected 1 to 4"),
        "null.json": (None, "is not an answer file"),
    }  # fmt: skip
    counted = answer(study, 2, {"ground_truth": 4, "hallo": 1, "emotivetalk": 5}, wrong_checks=1)
    files = {name: content for name, (content, _) in excluded.items()}
    for file, content in {"1.json": answer(study, 1), "2.json": counted, **files}.items():
        (tmp_path / file).write_text(json.dumps(content))
    results = collect_study(tmp_path, study / "key.json")
    assert results["raters"] == 2
    reasons = {row["file"]: row["reason"] for row in results["excluded"]}
    assert set(reasons) == set(excluded)
    for file, (_, reason) in excluded.items():
        assert reason in reasons[file]
    values = {system: entry["lip_sync"]["value"] for system, entry in results["systems"].items()}
    assert values == {"ground_truth": 4.5, "hallo": 1.5, "emotivetalk": 4.5}
    entry = results["systems"]["hallo"]["v_q"]
    assert (entry["n"], entry["expected"], entry["interval"]["over"]) == (2, 9, "raters and clips")
    assert entry["differences"]["ground_truth"]["value"] == -3.0
    ratings = np.array([[5, 5, 2, 2, 4, 4], [4, 4, 1, 1, 5, 5]], float)
    centred = within_systems(ratings, [name for name in SYSTEMS for _ in SAMPLES])
    assert results["agreement"]["v_q"]["alpha"] == pytest.approx(krippendorff_alpha(centred))


def test_two_different_answers_of_a_rater_are_excluded(study, tmp_path):
    given = {"a": answer(study, 1), "b": answer(study, 1, dict.fromkeys(SYSTEMS, 3)), "c": answer(study, 2)}
    for name, content in given.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    results = collect_study(tmp_path, study / "key.json")
    assert results["raters"] == 1
    assert {row["reason"] for row in results["excluded"]} == {"rater 1 gave two different answers"}


def test_table_4_shows_the_study(study, tmp_path, capsys):
    answers = tmp_path / "answers"
    answers.mkdir()
    for rater in (1, 2):
        (answers / f"{rater}.json").write_text(json.dumps(answer(study, rater)))
    (answers / "3.json").write_text(json.dumps(answer(study, 3, wrong_checks=2)))
    output = tmp_path / "results" / "user_study.json"
    main(["collect", f"answers={answers}", f"key={study / 'key.json'}", f"output={output}"])
    assert "excluded: 3.json failed 2 of 2" in capsys.readouterr().out
    assert make_tables(TableConfig("4", str(output.parent), str(tmp_path / "tables"))) == 0
    text = (tmp_path / "tables" / "table4.md").read_text()
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "**4.00** <sup>2</sup> | 4.15 | -0.15" in lines["EmotiveTalk"]
    assert "5.00 <sup>2</sup> | 4.51 | +0.49" in lines["Ground Truth"]
    assert "2 of 3 raters" in text
    assert "within each system, Krippendorff's alpha for intervals is not defined" in text
    assert "no user study in the results folder includes it" in text


def test_the_page_does_not_reveal_the_systems(study):
    page = study / "page"
    names = [path.name for path in page.rglob("*")]
    assert len(list((page / "clips").iterdir())) == 8
    words = [*SYSTEMS, *SAMPLES]
    assert not any(word in name for word in words for name in names)
    for path in page.rglob("*.*"):
        assert not any(word.encode() in path.read_bytes() for word in words)
    text = (page / "index.html").read_text()
    assert not any(address in text for address in ("http://", "https://", "//cdn", 'src="/'))
    assert len(read_key(study / "key.json").orders) == 4


def test_impossible_studies_are_refused(videos, study, tmp_path):
    def message(*systems, output=tmp_path / "new", samples=2):
        with pytest.raises(UserError) as refused:
            main(["build", f"system={','.join(systems)}", f"output={output}", f"samples={samples}"])
        return str(refused.value)

    truth, hallo = (f"{name}={videos / name}" for name in ("ground_truth", "hallo"))
    assert "expected system=ground_truth=DIR" in message(hallo)
    assert "expected NAME=PATH" in message("hallo")
    assert "only 2 clips exist for every system (ground_truth 2, hallo 2)" in message(truth, hallo, samples=3)
    assert "already exists" in message(truth, hallo, output=study)
    mute = tmp_path / "mute"
    for sample in SAMPLES:
        write_video(mute / f"{sample}.mp4", [np.zeros((96, 96, 3), np.uint8)])
    assert "has h264 pictures and no sound" in message(truth, f"mute={mute}")
    assert {path.name for path in tmp_path.iterdir()} == {"mute"}  # no partial study is left
    with pytest.raises(UserError, match=r"has no \.json"):
        main(["collect", f"answers={tmp_path}", f"key={study / 'key.json'}", "output=x.json"])


def rate(page, level):
    """Plays the video to its end and answers every question."""
    button = page.get_by_role("button", name="Next")
    assert button.is_disabled()
    page.evaluate("() => { const v = document.querySelector('video'); v.playbackRate = 8; v.play(); }")
    page.get_by_text("questions have no answer yet").wait_for()
    for question in QUESTIONS:
        assert button.is_disabled()
        page.locator(f"input[name={question}][value='{level}']").check()
    source = page.locator("video").get_attribute("src")
    button.click()
    return source


@pytest.mark.slow
def test_a_rater_on_a_phone_offline_interrupts_resumes_and_downloads(study, browser, tmp_path):
    key = json.loads((study / "key.json").read_text())
    trials = {trial["name"]: trial for trial in key["trials"]}
    draw = random.Random(0)
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    context.set_default_timeout(PATIENCE)
    context.set_offline(True)
    page = context.new_page()
    problems, asked = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((study / "page" / "index.html").as_uri())
    page.get_by_label("Your number").fill("9")
    page.get_by_role("button", name="Start").click()
    assert page.get_by_text("from 1 to 4").is_visible()

    def begin():
        page.get_by_label("Your number").fill("2")
        page.get_by_role("button", name="Start").click()

    begin()
    given = {}
    for place, name in enumerate(key["orders"][1]):
        if place == 3:  # the browser is closed and opened again
            page.reload()
            begin()
        assert page.get_by_text(f"Video {place + 1} of 8").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        given[name] = trials[name]["demanded"] or draw.randint(1, 5)
        assert rate(page, given[name]) == f"clips/{name}.mp4"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download my answers").click()
    answers = tmp_path / "answers"
    answers.mkdir()
    assert download.value.suggested_filename == "answers_2.json"
    download.value.save_as(answers / "answers_2.json")
    context.close()
    assert problems == []
    assert {url.partition(":")[0] for url in asked} <= {"file", "blob"}
    results = collect_study(answers, study / "key.json")
    assert (results["raters"], results["excluded"]) == (1, [])
    for system in SYSTEMS:
        own = [level for name, level in given.items() if trials[name]["system"] == system]
        assert results["systems"][system]["realness"]["value"] == pytest.approx(np.mean(own))


@pytest.mark.slow
def test_one_file_with_the_clips_inside_plays_from_a_server(videos, browser, tmp_path):
    page_file = build(videos, tmp_path / "study", embed=True)
    assert [path.name for path in page_file.parent.iterdir()] == ["index.html"]
    handler = partial(SimpleHTTPRequestHandler, directory=str(page_file.parent))
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        page.get_by_label("Your number").fill("1")
        page.get_by_role("button", name="Start").click()
        assert rate(page, 3).startswith("data:video/mp4;base64,")
        assert page.get_by_text("Video 2 of 8").is_visible()
        page.close()
        server.shutdown()
