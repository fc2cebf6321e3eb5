"""Descriptions of systems and lists of cases: valid ones are read, errors name file and key."""

from __future__ import annotations

import re

import pytest
import yaml

from benchmark.case_list import read_cases
from benchmark.system import FOLDER, described, fill, load_system
from benchmark.workspace import open_view
from runtime.errors import UserError
from tests.helpers.files import touch
from tests.helpers.refusals import refuses

SEVEN = {"sadtalker", "anitalker", "aniportrait", "hallo", "pdfgc", "styletalk", "dreamtalk"}


def test_every_system_of_the_table_has_a_description():
    own = {f"emotivetalk_{how}" for how in ("a", "av", "wo_lip", "wo_exp")}
    assert set(described()) == SEVEN | own | {"ground_truth", "folder"}
    for name in SEVEN:
        system = load_system(name)
        assert len(system.commit) == 40
        assert system.licence
        assert system.weights
        assert system.requires
        assert ("driving" in "".join(system.needs()) or "style_mat" in system.needs()) == (system.driven == "A+V")


def test_a_description_is_loaded_by_its_path(tmp_path):
    content = yaml.safe_load((FOLDER / "sadtalker.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**content, "title": "Mine"}))
    system = load_system(str(tmp_path / "mine.yaml"))
    assert (system.name, system.title, system.output.fps) == ("mine", "Mine", 25.0)


def test_variables_of_the_environment_do_not_get_into_titles_and_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    texts = ["${oc.env:SECRET}", "\\\\${oc.env:SECRET}", "a\\\\\\${oc.env:SECRET}", "C:\\\\dir", "$HOME"]
    content = yaml.safe_load((FOLDER / "sadtalker.yaml").read_text())
    for text in texts:
        argument = text.replace("{", "{{").replace("}", "}}")  # no placeholder
        changed = {**content, "title": text, "command": [*content["command"], argument]}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changed))
        system = load_system(str(tmp_path / "mine.yaml"))
        assert (system.title, system.command[-1]) == (text, argument)
        assert "hunter2" not in str(system)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"tilte": "x"}, "unknown key 'tilte'; did you mean title?"),
        ({"title": None}, "title"),
        ({"kind": "program"}, "kind: 'program': expected one of 'command', 'reference', 'folder'"),
        ({"command": []}, "command: is empty"),
        ({"command": ["{python}", "{picture}"]}, "unknown placeholder {picture}; expected one of python, job"),
        ({"command": ["{python"]}, "expected '}'"),
        ({"output": {"fps": 25}}, "output.path: is empty"),
        ({"output": {"path": "/tmp/x.mp4"}}, "output.path: /tmp/x.mp4: expected a path in the repository"),
        ({"output": {"path": "a", "panel": [0, 0, 512]}}, "output.panel: [0, 0, 512]: expected [x, y, width, height]"),
        ({"output": {"path": "a", "frame_rate": 25}}, "frame_rate"),
        ({"portrait": {"framing": "face"}}, "portrait.framing: 'face'"),
        ({"portrait": {"size": "large"}}, "large"),
        ({"writes": ["../out"]}, "expected a path inside the repository"),
        ({"writes": ["test/mp4s"]}, "expected a top-level name, e.g. test"),
        ({"command": ["{python}", "{pose_mat}"]}, "mat_rate: is missing"),
    ],
)
def test_an_invalid_description_names_its_key(tmp_path, change, wanted):
    content = yaml.safe_load((FOLDER / "sadtalker.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(UserError) as error:
        load_system(str(path))
    assert wanted in str(error.value)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value) or "expected '}'" in wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("sadtaker", "did you mean sadtalker"), ("/nowhere/x.yaml", "no such file"), ("list.yaml", "expected keys")],
)
def test_an_unknown_system_is_refused(tmp_path, monkeypatch, name, wanted):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("[1, 2]")
    refuses(UserError, wanted, load_system, name)


def test_placeholders_are_replaced_in_keys_and_values():
    given = {"portrait": "a {speech}.png", "speech": "b"}
    assert fill({"{portrait}": ["{speech}", 3]}, given) == {"a {speech}.png": ["b", 3]}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "has no column clip, portrait, speech; found nothing"),
        ("clip,portrait\na,b\n", "has no column speech"),
        ("clip,portrait,speech,vidoe\na,b,c,d\n", "column 'vidoe': did you mean video?"),
        ("clip,portrait,speech\n", "has no cases"),
        ("clip,portrait,speech\na,b\n", "line 2: has another number of fields"),
        ("clip,portrait,speech\na,b,c,d\n", "line 2: has another number of fields"),
        ("clip,portrait,speech\na,,c\n", "line 2: portrait is empty"),
        ("clip,portrait,speech\n../a,b,c\n", "clip='../a': expected a name"),
        ("clip,portrait,speech\na,b,c\nA,b,c\n", "two rows name the clip 'A' ('a')"),
    ],
)
def test_an_invalid_list_of_cases_names_the_line(tmp_path, text, wanted):
    path = tmp_path / "cases.csv"
    path.write_text(text)
    refuses(UserError, re.escape(wanted), read_cases, path)


def test_paths_of_cases_are_relative_to_their_file(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text(
        '\ufeffclip,portrait,speech,emotion.video,extra\n"a, (1)",p.png,/s.wav,,1\nä,"q, r.png",t.wav,v.mp4,2\n'
    )
    one, other = read_cases(path)
    assert (one.portrait, str(one.speech), one.driving_video, one.video) == (tmp_path / "p.png", "/s.wav", None, None)
    assert (other.portrait, other.driving_video) == (tmp_path / "q, r.png", tmp_path / "v.mp4")
    assert one.slug != other.slug
    assert one.slug.replace("-", "").replace("_", "").isalnum()
    assert one.slug.isascii()


def test_a_view_links_everything_except_written_files(tmp_path):
    repository, view = tmp_path / "repo", tmp_path / "view"
    names = ("lib/deep/a.py", "output/old.mp4", "tmp.mp4", ".cache/x")
    touch(repository, *names)
    for name in names:
        (repository / name).write_text("old")
    open_view(repository, view, ["output", "tmp.mp4", ".cache", "made_anew"], [])
    assert (view / "lib" / "deep" / "a.py").read_text() == "old"
    assert not list((view / "output").iterdir())
    assert not (view / "tmp.mp4").exists()
    assert not list((view / ".cache").iterdir())
    (view / "output" / "old.mp4").write_text("new")
    (view / "tmp.mp4").write_text("new")
    assert (repository / "output" / "old.mp4").read_text() == (repository / "tmp.mp4").read_text() == "old"
