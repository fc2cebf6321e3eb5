"""Old names and unclear phrases are found in planted texts; the tree holds none."""

import subprocess
import sys

import pytest

from tests.helpers import ROOT
from tools.check_words import found_in, read_rules, tracked

RULES = read_rules()


@pytest.mark.parametrize(
    ("name", "line", "found"),
    [
        ("metrics/fid.py", "    network = load_stand_in(path)", "stand_in"),
        ("docs/data.md", "Metrics with stand-ins, trained on drawn people.", "stand-ins"),
        ("docs/data.md", "Metrics with proxies, trained on drawn people.", "drawn people"),
        ("generation/pipeline.py", "from lightning_modules.ethd.network import Drive", "Drive"),
        ("generation/pipeline.py", "    talker = models.load()", "talker"),
        ("lightning_modules/ethd/export.py", "        scale = self.card.latents", ".card"),
        ("training/resume.py", "def _deciding(config):", "_deciding"),
        ("README.md", "`make prove` runs the long checks.", "make prove"),
        ("callbacks/watchdog.py", '        """What a process is at."""', "What a process is at"),
        ("callbacks/watchdog.py", "        heard: dict[int, float] = {}", "heard"),
        ("evaluation/pairs.py", "    told = str(error)", "told"),
        ("evaluation/pairs.py", "        seed: of the noise.", "seed: of"),
        ("docs/cluster.md", "The index says how many.", "index says"),
        ("docs/cluster.md", "A record lies beside each video.", "beside"),
    ],
)
def test_a_planted_word_is_found(name, line, found):
    places = list(found_in(name, f"first line\n{line}\n", RULES))
    assert any(place.startswith(f"{name}:2: ") and repr(found)[1:-1] in place for place in places), places


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("metrics/fid.py", '    """A small network stands in for the official one."""'),
        ("metrics/networks/proxy.py", 'HEADER = "emotivetalk.standin"'),
        ("benchmark/systems/pdfgc.yaml", "weights: Google Drive (see its readme)"),
        ("training/loggers.py", '        artifact = wandb.Artifact("run-export")'),
        ("generation/batch.py", '    if case.drive != "both":'),
        ("callbacks/run_log.py", "from callbacks.run_log import provenance"),
        ("docs/costs.md", "59 GiB on one GPU; no notwithstanding."),
        ("evaluation/pairs.py", "        seed: Seed of the sampling noise."),
    ],
)
def test_other_lines_pass(name, line):
    assert not list(found_in(name, line, RULES))


def test_the_tree_holds_none():
    places = [place for name in tracked() for place in found_in(name, (ROOT / name).read_text(encoding="utf-8"), RULES)]
    assert not places


def test_the_exit_status_follows_what_is_found():
    done = subprocess.run([sys.executable, "-m", "tools.check_words"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == bool(done.stdout)
