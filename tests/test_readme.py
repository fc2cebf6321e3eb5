"""README and docs/: commands compose, cheap ones run, and the keys, files and licences that they name exist."""

import contextlib
import itertools
import re
import runpy
import shlex
import shutil
from collections import Counter

import pytest

from configs import rules
from configs.app import AppConfig
from configs.command_line import all_keys, compose, names_key
from configs.evaluation import EvaluateConfig
from configs.experiments import require_experiment
from configs.generation import ExportConfig, GenerateConfig
from configs.preparation import PrepareConfig
from configs.tables import TableConfig
from configs.training import TrainConfig
from tests.helpers import ROOT

# docs/adding_a_*.md have a test of their own, test_lab.py.
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{page}.md" for page in ("data", "generation", "evaluation", "costs", "tracking")),
]
COMMAND = re.compile(r"^python (prepare|train|generate|evaluate|app)\.py (.*?)(?:  +#.*)?$", re.MULTILINE)
FIRST, REST = PAGES[0].read_text(encoding="utf-8"), "\n".join(page.read_text(encoding="utf-8") for page in PAGES[1:])
FOUND = dict.fromkeys(COMMAND.findall(f"{FIRST}\n{REST}".replace("\\\n", " ")))
COMMANDS = [(script, words) for script, words in FOUND if not words.startswith("-")]  # test_tracking.py runs the others
README = FIRST + REST


def test_the_pages_have_commands():
    least = {"prepare": 6, "train": 6, "evaluate": 3, "generate": 4, "app": 2}
    assert Counter(script for script, _ in COMMANDS) >= Counter(least)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders and files that the commands name."""
    monkeypatch.chdir(tmp_path)
    names = ("my_videos", "hdtf_videos", "MEAD", "results/mine", "data/real", "out", "real", "pseudo/still_image")
    for folder in names:
        (tmp_path / folder).mkdir(parents=True)
    for name in ("cases.csv", "clips.csv"):
        (tmp_path / name).touch()


SCHEMAS = {
    "prepare": PrepareConfig, "train": TrainConfig, "export": ExportConfig, "generate": GenerateConfig,
    "evaluate": EvaluateConfig, "tables": TableConfig, "app": AppConfig,
}  # fmt: skip


def check(script: str, typed: list[str]) -> None:
    """Composes the configuration of a command and checks it as the script does."""
    name = "tables" if names_key(typed, "table") else "export" if "task=export" in typed else script
    rules.check(compose(name, SCHEMAS[name], [word for word in typed if word != "task=rehearse"]))


@pytest.mark.slow
@pytest.mark.parametrize(("script", "command"), COMMANDS)
def test_each_command_is_a_valid_configuration(folders, script, command):
    if script == "app":
        pytest.importorskip("gradio", reason="gradio is not installed (make setup)")
    words = shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "3"))
    typed = list(itertools.takewhile(lambda word: word not in ("|", "&"), words))  # what the shell gives to the command
    if typed == ["experiment="]:
        with pytest.raises(SystemExit):
            require_experiment(typed)
    else:
        check(script, typed)


# command of the README -> keys that make it short enough for a test; in the order of the README
RUN = {
    "prepare.py dataset=synthetic preset=tiny output=data/synthetic": (
        "dataset.identities=4 dataset.clips_per_identity=2 dataset.seconds=1 dataset.size=64 workers=1 store_video=none"
    ),
    "prepare.py task=check output=data/mine": "output=data/synthetic",
    "train.py experiment=": "",
    "train.py experiment=vaid/tiny data.root=data/synthetic run_id=first": (
        "trainer.max_steps=2 trainer.validate_every=2 data.batch_size=2 trainer.progress_bar=false"
    ),
    "generate.py portrait=face.png speech=voice.wav output=out.mp4 ethd=outputs/ethd/first emotion.label=happy": (
        "emotion.label=null device=cpu steps=1"
    ),
}
ENDS_WITH = {"train.py experiment=": 2}


@pytest.mark.slow
def test_cheap_commands_run_in_sequence(tmp_path, monkeypatch, runs, files, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path / "none"))
    for file in files.iterdir():
        shutil.copy(file, tmp_path)
    shutil.copytree(runs / "ethd", tmp_path / "outputs" / "ethd" / "first")
    for command, changes in RUN.items():
        assert f"python {command}" in FIRST
        script, *typed = shlex.split(command)
        changed = {argument.partition("=")[0] for argument in shlex.split(changes)}
        kept = [argument for argument in typed if argument.partition("=")[0] not in changed]
        monkeypatch.setattr("sys.argv", [script, *kept, *shlex.split(changes)])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        assert (left.value.code or 0) == ENDS_WITH.get(command, 0), f"{command}\n{capfd.readouterr().err}"
    there = ("data/synthetic/index.json", "outputs/vaid/first/checkpoints/last.ckpt", "out.mp4")
    assert [name for name in there if not (tmp_path / name).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("script", ["prepare", "train", "generate", "evaluate", "app"])
def test_help_has_a_summary_three_commands_and_the_groups(script, folders, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [f"{script}.py", "--help"])
    with contextlib.suppress(SystemExit):
        runpy.run_path(str(ROOT / f"{script}.py"), run_name="__main__")
    message = capsys.readouterr().out
    assert message.startswith(f"{script}.py - ")
    head = message[: message.index("All keys and their defaults:")]
    assert "Examples:" in head
    commands = re.findall(rf"^    python {script}\.py (.+)$|^  python {script}\.py (.+)$", head, re.MULTILINE)
    assert len(commands) >= 3
    assert re.search(r"[Cc]hoose one of each|There are no config groups|Choose a protocol", head)
    assert re.search(r"[Ss]et any key", head)
    assert "Exit status:" in head
    assert max(map(len, head.splitlines())) <= 140
    for command in commands[:3]:
        typed = shlex.split("".join(command))
        if not ("source=my_videos" in typed or "task=check" in typed):
            assert all("=" in argument for argument in typed)  # a missing run is not a configuration error
            check(script, typed)


@pytest.mark.parametrize("page", [PAGES[0], *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_have_targets(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_pictures_are_local_and_small():
    names = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", FIRST)
    assert len(names) == 2
    for name in names:
        assert (ROOT / name).stat().st_size < 400_000
    assert "http" not in re.sub(r'xmlns="[^"]+"', "", (ROOT / "docs" / "pipeline.svg").read_text(encoding="utf-8"))


def test_keys_in_the_pages_exist():
    keys = all_keys(PrepareConfig)
    named = set(re.findall(r"`((?:face|audio|dataset)\.[a-z_]+|max_rejected|workers|clip_timeout)", README))
    assert named
    assert {key for key in named if key not in keys} == set()
    of_generate = set(re.findall(r"`?(emotion\.[a-z]+|drive|window|overlap|landmarks|paste_back)=", README))
    assert of_generate <= all_keys(GenerateConfig)
    of_app = set(re.findall(r"`(max_waiting|max_seconds|max_megabytes|keep_minutes|host)", README))
    assert len(of_app) == 5
    assert of_app <= all_keys(AppConfig)


def test_licences_match_the_registry():
    from encoders.weights import WEIGHTS

    table = FIRST[FIRST.index("## Weights and licences") : FIRST.index("## Responsible use")]
    for licence in {weights.licence for weights in WEIGHTS.values()}:
        assert licence.split("(")[0].split(" ")[0] in table, f"{licence} is in the registry and not in the README"


def test_docker_commands_give_the_loader_its_shared_memory():
    needed = 560e6  # bytes: 11 blocks of a batch of vaid/paper; Docker's default is 64 MB
    commands = re.findall(r"docker run [^\n]+", FIRST + (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    sizes = [re.search(r" --shm-size=(\d+)g ", command) for command in commands]
    assert len(commands) == 2
    assert all(size and int(size[1]) * 2**30 > needed for size in sizes)
