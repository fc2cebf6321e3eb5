"""The seven public repositories' own parsers and loaders read our command lines: stub and adapter share no misreading.

EMOTIVETALK_BASELINES names a folder with checkouts (no weights): SadTalker, AniTalker, AniPortrait, hallo,
PD-FGC-inference, styletalk, dreamtalk, at the commits in ``benchmark/systems``.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from time import strftime

import pytest
from omegaconf import OmegaConf

from benchmark.case_list import read_cases
from benchmark.framing import FaceFinder, Framing
from benchmark.inputs.collect import Inputs, Tools, read_speech
from benchmark.inputs.phonemes import PHONES
from benchmark.installation import commit_of
from benchmark.job import Installation, command_of, given_by, open_job
from benchmark.system import fill, load_system
from encoders.factory import build_landmark_detector

READING = Path(__file__).with_name("reading.py")
FOLDERS = {
    "sadtalker": "SadTalker", "anitalker": "AniTalker", "aniportrait": "AniPortrait", "hallo": "hallo",
    "pdfgc": "PD-FGC-inference", "styletalk": "styletalk", "dreamtalk": "dreamtalk",
}  # fmt: skip
# The script, and the assignment in it that names the result.
NAMED = {
    "sadtalker": ("inference.py", "save_dir"),
    "anitalker": ("code/demo.py", "predicted_video_256_path"),
    "aniportrait": ("scripts/audio2vid.py", "save_path"),
    "pdfgc": ("inference.py", "save_mp4"),
    "dreamtalk": ("inference_for_demo_video.py", "output_video_path"),
}


@pytest.fixture(scope="session")
def checkouts():
    folder = os.environ.get("EMOTIVETALK_BASELINES")
    if not folder:
        pytest.skip("needs checkouts of the seven repositories: set EMOTIVETALK_BASELINES to their folder")
    return Path(folder).resolve()


@pytest.fixture(params=FOLDERS)
def job(request, checkouts, cases, tmp_path):
    """(system, its command in a job's folder, the view it runs in, the placeholders' values)."""
    system = load_system(request.param)
    repository = checkouts / FOLDERS[request.param]
    if not (repository / system.entry).is_file():
        pytest.skip(f"{repository}: no checkout of {system.repository}")
    place = Installation(Path(sys.executable), repository, "cuda", 7, None, tmp_path, 60)
    case = read_cases(cases)[1]
    tools = Tools(FaceFinder(build_landmark_detector("sidecar")))
    framing = Framing(system.portrait, case.portrait, tools.faces)
    given = (Inputs(system, case, tmp_path, tools, framing, read_speech(case)), place, tmp_path / "job")
    view = open_job(*given)
    return system, command_of(*given), view, given_by(*given)


def understood(system, command, view, tmp_path):
    """What the system's own script makes of our command."""
    out = tmp_path / "understood.json"
    mode = "lib.config.config" if system.name == "pdfgc" else "stop"
    arguments = command[2:] if command[1] == "-m" else command[1:]
    env = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, READING, out, mode, *arguments], cwd=view, env=env, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return json.loads(out.read_text())


def test_their_parser_takes_our_command(job, tmp_path):
    system, command, view, given = job
    found = understood(system, command, view, tmp_path)
    values = {str(value) for value in found.values()}
    for name in ("portrait", "speech", "style_mat", "pose_mat", "phonemes", "settings"):
        if f"{{{name}}}" in system.command:
            assert given[name] in values
            assert Path(given[name]).is_file()
    wanted = {
        "sadtalker": {"size": 512, "preprocess": "full", "still": True, "checkpoint_dir": "checkpoints"},
        "anitalker": {"infer_type": "hubert_audio_only", "seed": 7, "device": "cuda:0", "face_sr": False},
        "aniportrait": {"W": 512, "H": 512, "seed": 7, "accelerate": False, "fps": 30, "L": None},
        "hallo": {"output": f"{given['job']}/out/{given['id']}.mp4"},
        "pdfgc": {"all": True, "name": given["id"], "exp_name": "inference"},
        "styletalk": {"output_path": f"{given['job']}/out.mp4"},
        "dreamtalk": {"img_crop": False, "output_name": given["id"], "max_gen_len": 1000, "device": "cuda"},
    }[system.name]
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize("job", [name for name in FOLDERS if name != "pdfgc"], indirect=True)
def test_a_wrong_argument_would_be_refused(job, tmp_path):  # PD-FGC takes whatever follows as settings
    system, command, view, _ = job
    with pytest.raises(AssertionError, match=r"unrecognized arguments: --no_such_thing"):
        understood(system, [*command, "--no_such_thing"], view, tmp_path)


@pytest.mark.parametrize("job", ["aniportrait", "hallo"], indirect=True)
def test_the_settings_file_holds_all_the_script_reads(job):
    system, command, view, given = job
    config = OmegaConf.load(given["settings"])
    if system.name == "hallo":
        config = OmegaConf.merge(config, {"source_image": given["portrait"], "output": "x", "driving_audio": "y"})
        assert config.save_path == f"{given['job']}/cache"
    else:
        assert config["test_cases"] == {given["portrait"]: [given["speech"]]}
    script = view / next(name for name in ("scripts/audio2vid.py", "scripts/inference.py") if name in _script(command))
    read = set(re.findall(r"(?<![\w.])config\.([a-z_0-9]+(?:\.[a-z_0-9]+)*)", script.read_text()))
    assert len(read) > 8
    for key in read:
        assert OmegaConf.select(config, key) is not None, key


def _script(command):
    return command[2].replace(".", "/") + ".py" if command[1] == "-m" else command[1]


@pytest.mark.parametrize("job", NAMED, indirect=True)
def test_their_script_names_the_result_where_we_look_for_it(job):
    system, command, view, given = job
    file, variable = NAMED[system.name]
    parts = {"sadtalker": ["result_dir"], "anitalker": ["result_path"]}.get(system.name, [])
    values = {name: command[command.index(f"--{name}") + 1] for name in parts}
    args = type("Args", (), {**values, "seed": 7, "W": 512, "H": 512, "cfg": 3.5, "output_name": given["id"]})
    known = {
        **dict.fromkeys(("test_image_name", "audio_name", "ref_name"), given["id"]),
        **{"args": args, "os": os, "strftime": strftime, "cfg": type("Cfg", (), {"name": given["id"]})},
        **{"time_str": "1742", "save_dir": f"output/20240702/1742--seed_{args.seed}-512x512"},
    }
    values = [
        node.value
        for node in ast.walk(ast.parse((view / file).read_text()))
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == variable
    ]
    result = str(eval(compile(ast.Expression(values[0]), file, "eval"), known))  # their own expression
    result += ".mp4" if system.name == "sadtalker" else ""
    assert fnmatch(result.replace("_noaudio.mp4", ".mp4"), fill(system.output.path, given))


@pytest.mark.parametrize("job", ["dreamtalk"], indirect=True)
def test_the_watermark_is_gone_and_nothing_else(checkouts, tmp_path, job):
    system, _, view, _ = job
    name = "inference_for_demo_video.py"
    theirs, ours = ((folder / name).read_text() for folder in (checkouts / "dreamtalk", view))
    gone = [line for line in theirs.splitlines() if line not in ours.splitlines()]
    assert len(theirs.splitlines()) - len(ours.splitlines()) == 8  # lines 241 to 248
    assert all("watermark" in line or "os." in line or "shutil" in line or ")" in line for line in gone if line.strip())
    assert "watermark" not in ours
    compile(ours, name, "exec")


def test_the_phonemes_are_numbered_as_styletalk_does(checkouts):
    file = checkouts / "styletalk" / "phindex.json"
    assert json.loads(file.read_text()) == {phone: index for index, phone in enumerate(PHONES)}


def test_the_checkouts_are_those_described(job, checkouts):
    system = job[0]
    found = commit_of(checkouts / FOLDERS[system.name])
    if found is None:
        pytest.skip("an export without .git")
    assert found == system.commit
