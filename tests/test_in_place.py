"""The project runs in its checkout: installing it installs only its dependencies."""

import importlib.metadata
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.helpers import ROOT

METRIC = """
import datasets
import evaluate

class Share(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description="d", citation="c", features=features)

    def _compute(self, predictions, references):
        return {"share": sum(p == r for p, r in zip(predictions, references)) / len(references)}

print(evaluate.__file__, Share().compute(predictions=[1, 2, 3, 4], references=[1, 2, 3, 5])["share"], sep="\\n")
"""


def test_no_module_is_installed():
    (installed,) = importlib.metadata.distributions(name="emotivetalk", path=[sysconfig.get_path("purelib")])
    assert {file.parts[0] for file in installed.files or ()} == {f"emotivetalk-{installed.version}.dist-info"}


@pytest.mark.slow
def test_hugging_faces_evaluate_can_be_imported_outside_the_checkout(tmp_path):
    command = [sys.executable, "-c", METRIC]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"HF_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    module, share = done.stdout.split()
    assert not Path(module).is_relative_to(ROOT / "evaluate.py")
    assert "site-packages" in module
    assert float(share) == 0.75


@pytest.mark.parametrize("script", ["train", "prepare", "generate", "evaluate", "app"])
@pytest.mark.slow
def test_every_script_runs_from_another_folder(script, tmp_path):
    command = [sys.executable, str(ROOT / f"{script}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python {script}.py" in done.stdout
