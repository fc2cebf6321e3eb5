"""An evaluation imports and builds what it computes with, and no more."""

import json
import subprocess
import sys

import pytest

from tests.helpers.warm import ROOT

# Importing any of these takes longer than torch itself, or as long.
HEAVY = ("torchvision", "torchmetrics", "lightning", "mediapipe", "transformers", "torch._dynamo", "scipy.stats")
PRINT = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
EVALUATE = f"""
import os, sys
from evaluate import EvaluateConfig, evaluate
from configs.command_line import compose
status = evaluate(compose("evaluate", EvaluateConfig, sys.argv[1:]))
children = open(f"/proc/self/task/{{os.getpid()}}/children").read().split() if os.path.isdir("/proc/self") else []
print([name for name in {HEAVY} if name in sys.modules], len(children), status)
"""


def cold(script, *words):
    command = [sys.executable, "-c", script, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_metrics_are_registered_without_what_they_compute_with():
    names = "from configs.registries import METRICS; [METRICS.get(name, 'metrics') for name in METRICS.names()]"
    assert cold(f"import evaluation.evaluate_folders\n{names}\n{PRINT}") == "[]"


@pytest.mark.slow
def test_another_metric_of_an_evaluated_set_builds_no_network_and_opens_no_video(talks, rule_files, tmp_path):
    words = [f"generated={talks}", f"reference={talks}", f"fid.weights={rule_files('inception')}", "device=cpu"]
    words += [f"cache={tmp_path / 'cache'}", "bootstrap=10"]
    first = cold(EVALUATE, *words, "metrics=[fid]", f"output={tmp_path / 'one.json'}")
    assert first == "['torchvision', 'torch._dynamo'] 1 0"  # the child process has looked at the videos
    again = cold(EVALUATE, *words, "metrics=[fid,kid]", f"output={tmp_path / 'two.json'}")
    assert again == "[] 0 0"
    one, two = (json.loads((tmp_path / name).read_text())["metrics"] for name in ("one.json", "two.json"))
    assert {name: two[name] for name in one} == one
    assert two["kid"]["value"] < 0.01
