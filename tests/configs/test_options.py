"""key=value for scripts: what is wrong is one line, --help is the docstring."""

import ast
from pathlib import Path

import pytest

from configs.options import count, counts, read_options, run_script, yes
from media import MediaError

KNOWN = {"pixels": counts, "steps": count, "full": yes}


def test_values_are_read():
    typed = ["RUN", "pixels=256,512", "full=yes"]
    assert read_options("", typed, KNOWN, places=("run",)) == {"run": "RUN", "pixels": [256, 512], "full": True}


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["pixel=512"], "pixel=512: did you mean pixels=? expected pixels=..., steps=..., full=..."),
        (["512"], "512: expected pixels=..."),
        (["pixels=512,"], "pixels=512,: expected a whole number above 0"),
        (["steps=-1"], "steps=-1: expected a whole number above 0"),
        (["full=true"], "full=true: expected yes or no"),
    ],
)
def test_what_is_wrong_is_one_line(typed, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        read_options("", typed, KNOWN)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {told}")
    assert line.endswith("--help shows examples")


def test_what_is_missing_is_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        read_options("", [], KNOWN, required=("steps",))
    with pytest.raises(SystemExit, match="2"):
        read_options("", ["RUN", "steps=1"], KNOWN, places=("run", "shards"))
    assert [line.partition(";")[0] for line in capsys.readouterr().err.splitlines()] == [
        "error: no value for steps: add steps=...",
        "error: no value for shards: expected run shards",
    ]


def test_errors_of_the_input_are_one_line_and_bugs_are_not(capsys):
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


@pytest.mark.parametrize(
    "script", sorted((Path(__file__).parents[2] / "tools" / "profiling").glob("[a-z]*.py")), ids=lambda path: path.stem
)
def test_every_script_reads_its_options_so(script):
    called = {
        node.func.id
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "read_options" in called
