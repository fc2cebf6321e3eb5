"""key=value for scripts: a wrong argument gives one line, --help prints the docstring."""

import ast
import re
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.options import (
    chosen,
    count,
    counts,
    each,
    folder,
    named_paths,
    read_command,
    read_options,
    run_script,
    seconds,
    yes,
)
from media import MediaError

ROOT = Path(__file__).parents[2]
KNOWN = {"pixels": counts, "steps": count, "full": yes}


def test_values_are_read():
    typed = ["RUN", "pixels=256,512", "full=yes"]
    assert read_options("", typed, KNOWN, places=("run",)) == {"run": "RUN", "pixels": [256, 512], "full": True}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["pixel=512"], "pixel=512: did you mean pixels=? expected pixels=..., steps=..., full=..."),
        (["512"], "512: expected pixels=..."),
        (["pixels=512,"], "pixels=512,: expected a whole number above 0"),
        (["steps=-1"], "steps=-1: expected a whole number above 0"),
        (["full=true"], "full=true: expected yes or no"),
        (["--pixels", "512"], "--pixels 512: is written pixels=512 here"),
        (["--pixels=512"], "--pixels=512: is written pixels=512 here"),
        (["--full", "steps=1"], "--full: is written full=VALUE here"),
        (["steps", "3"], "steps 3: is written steps=3 here"),
    ],
)
def test_wrong_arguments_give_one_line(typed, message):
    with pytest.raises(ConfigError) as refused:
        read_options("", typed, KNOWN)
    assert str(refused.value).startswith(message)
    assert str(refused.value).endswith("--help shows examples")
    assert refused.value.exit_status == 2


def test_missing_arguments_are_named():
    with pytest.raises(ConfigError, match="no value for steps: add steps=..."):
        read_options("", [], KNOWN, required=("steps",))
    with pytest.raises(ConfigError, match="no value for shards: expected run shards"):
        read_options("", ["RUN", "steps=1"], KNOWN, places=("run", "shards"))
    with pytest.raises(ConfigError, match="draw: expected one of build, collect"):
        read_command("", ["draw"], ("build", "collect"))


def test_named_and_multiple_values(tmp_path):
    known = {"system": named_paths, "device": chosen("cpu", "cuda"), "parts": each(seconds), "root": folder}
    typed = ["system=a=~/x,b=/y", "device=cpu", "parts=1,2.5", f"root={tmp_path}"]
    found = read_options("", typed, known)
    assert found == {
        "system": {"a": Path.home() / "x", "b": Path("/y")}, "device": "cpu", "parts": [1, 2.5], "root": tmp_path
    }  # fmt: skip
    for wrong in ("system=a", "system=a=x,a=y", "device=tpu", "parts=1,nan", f"root={tmp_path / 'none'}"):
        with pytest.raises(ConfigError, match=re.escape(wrong)):
            read_options("", [wrong], known)


def test_input_errors_are_one_line_and_bugs_tracebacks(capsys):
    def wrong():
        raise MediaError("clip.mp4: is empty")

    with pytest.raises(SystemExit, match="1"):
        run_script(wrong)
    assert capsys.readouterr().err == "error: clip.mp4: is empty\n"
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 / 0)


def test_help_is_the_docstring(capsys):
    with pytest.raises(SystemExit, match="0"):
        read_options("What it measures.\n", ["--help"], KNOWN)
    assert capsys.readouterr().out == "What it measures.\n"


SCRIPTS = [
    script
    for room in ("tools", "benchmark")
    for script in sorted((ROOT / room).rglob("*.py"))
    if '__name__ == "__main__"' in script.read_text(encoding="utf-8")
    and not script.name.startswith("original_")  # started by tools.parity in a process without this project
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_script_uses_this_grammar(script):
    called = {
        node.func.id
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert {"read_options", "run_script"} <= called or "run" in called
