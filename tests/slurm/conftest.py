"""Environment of the jobs on the tests' SLURM cluster: a ``python`` that needs no GPU."""

from __future__ import annotations

import stat
import sys

import pytest

from tests.helpers import ROOT


@pytest.fixture(scope="session")
def job_environment(tmp_path_factory) -> dict[str, str]:
    """Variables for ``sbatch``: in jobs, ``python`` runs ``tests/helpers/job_python.py``."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "python"
    python.write_text(f'#!/bin/bash\nexec {sys.executable} {ROOT}/tests/helpers/job_python.py "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (folder / "activate").write_text(f'export PATH="{folder}:$PATH"\n')
    return {"EMOTIVETALK_ENV": str(folder / "activate"), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
