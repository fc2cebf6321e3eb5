"""The notebooks run from their first cell to their last, show what they describe, and are stored without outputs."""

import base64
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from lightning_modules.emotion.emotion_table import TABLE_FILE
from lightning_modules.ethd.export import export
from tests.helpers import ROOT
from tests.helpers.emotion import synthetic_table
from tests.helpers.ethd_run import write_ethd
from tests.helpers.synthetic_videos import untrained, write_speakers

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
KINDS = {"fid": "image", "fvd": "video", "sync": "sync", "efid": "expression"}


def read(name: str):
    return nbformat.read(ROOT / "examples" / name, as_version=4)


def parameters_of(notebook):
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    return cell


def run(name: str, **parameters):
    """Runs a notebook in its folder, with other values after the cell of its parameters."""
    notebook = read(name)
    assert set(re.findall(r"^(\w+) = ", parameters_of(notebook).source, re.MULTILINE)) >= set(parameters)
    lines = [f"{key} = {value!r}" for key, value in parameters.items()]
    place = notebook.cells.index(parameters_of(notebook)) + 1
    notebook.cells.insert(place, nbformat.v4.new_code_cell("\n".join(lines)))
    folder = str(ROOT / "examples")
    NotebookClient(notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return notebook


def pictures(notebook) -> list[np.ndarray]:
    """(H, W, 3) uint8 of every picture it shows."""
    shown = [output["data"]["image/png"] for cell in notebook.cells for output in cell.get("outputs", ())
             if "image/png" in output.get("data", {})]  # fmt: skip
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")) for picture in shown]


def printed(notebook) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


@pytest.fixture(scope="module")
def labelled(runs, encoders, once) -> Path:
    """An exported ETHD of preset tiny with a label table."""

    def write(folder: Path) -> None:
        synthetic_table(1).save(folder / "words" / TABLE_FILE)
        export(write_ethd(folder / "ethd", runs / "vaid", *encoders), emotion=folder / "words")

    return once("labelled", write) / "ethd"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_valid_and_stored_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    for cell in notebook["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_its_first_cell_says_what_it_does_needs_and_takes(path):
    first, second, *_ = read(path.name).cells
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    for opening in ("This notebook ", "**It needs**", "**It takes**"):
        assert opening in first.source
    assert second == parameters_of(read(path.name))


def test_there_are_three_and_the_folders_page_names_them():
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS] == ["generate.ipynb", "lips_and_expression.ipynb", "scores.ipynb"]
    assert re.findall(r"\]\((\w+\.ipynb)\)", page) == [path.name for path in NOTEBOOKS]


@pytest.mark.slow
def test_generate(labelled, files, tmp_path):
    places = {"ETHD": str(labelled), "SPEECH": str(files / "voice.wav"), "OUTPUT": str(tmp_path)}
    ran = run("generate.ipynb", **places, DEVICE="cpu", COMPARED=["neutral", "happy"])
    assert (tmp_path / "video.mp4").exists()
    assert (tmp_path / "happy.json").exists()
    assert "13 frames at 25 fps, 64 x 64 pixels" in printed(ran)
    assert any("<video" in output.get("data", {}).get("text/html", "") for cell in ran.cells
               for output in cell.get("outputs", ()))  # fmt: skip
    assert len(pictures(ran)) == 2


@pytest.mark.nightly
def test_lips_and_expression(labelled, files, tmp_path):
    places = {"ETHD": str(labelled), "SPEECH": str(files / "voice.wav"), "OUTPUT": str(tmp_path)}
    ran = run("lips_and_expression.ipynb", **places, DEVICE="cpu")
    lips, expression = (
        float(number) for number in re.findall(r"largest difference of .* latents: +(\S+)", printed(ran))
    )
    assert lips == 0
    assert expression > 0.01
    assert len(pictures(ran)) == 4
    sheet = np.asarray(Image.open(tmp_path / "one_at_a_time.png"))
    strengths = np.asarray(Image.open(tmp_path / "strength.png"))
    assert sheet.shape == (26 + 7 * 196, 150 + 5 * 196, 3)
    rows = [sheet[26 + 196 * row : 26 + 196 * (row + 1), 150:] for row in (1, 3, 5)]
    assert all((one != other).any() for one, other in zip(rows, [*rows[1:], rows[0]], strict=True))
    assert (strengths[26:222, 150:] != strengths[26 + 3 * 196 : 26 + 4 * 196, 150:]).any()


@pytest.mark.slow
def test_scores(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = untrained(tmp_path)
    ran = run(
        "scores.ipynb", OUTPUT=str(tmp_path / "out"), DEVICE="cpu", PROXIES={kind: files[KINDS[kind]] for kind in KINDS}
    )
    text = printed(ran)
    results = json.loads((tmp_path / "out" / "still_image.json").read_text(encoding="utf-8"))["metrics"]
    assert len(results) == 5
    assert all(result["value"] is not None and not result["official"] for result in results.values())
    assert text.count("is better, 6 clips") == 5 * 3
    swapped = json.loads((tmp_path / "out" / "swapped_speech.json").read_text(encoding="utf-8"))["metrics"]
    assert swapped["fid"]["value"] < results["fid"]["value"]
    in_python = float(re.search(r"^FID.*\) ([\d.e-]+)$", text, re.MULTILINE)[1])
    assert in_python == pytest.approx(swapped["fid"]["value"], rel=1e-3)
    gaussians = float(text.splitlines()[-1])
    assert gaussians == pytest.approx(4, abs=0.15)


@pytest.mark.nightly
def test_scores_of_own_videos_without_networks_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    videos = str(write_speakers(tmp_path / "real", 2))
    places = {"REFERENCE": videos, "SYSTEMS": {"mine": videos}, "OUTPUT": str(tmp_path / "out")}
    text = printed(run("scores.ipynb", **places, DEVICE="cpu"))
    assert "mine: 2 videos" in text
    for metric in KINDS:
        assert f"{metric}: not computed, its network is missing" in text
    assert "task=weights preset=metrics" in text
