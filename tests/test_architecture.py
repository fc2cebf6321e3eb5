"""docs/architecture.md names every package, and imports follow its order."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

TREE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
NAMED = re.findall(r"^(\w+)/ ", TREE, re.MULTILINE)
FILES = [*ROOT.glob("*.py"), *(file for name in NAMED for file in sorted((ROOT / name).rglob("*.py")))]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__").removesuffix(".__main__"): file
    for file in FILES
}
PURE = ("diffusion", "encoders", "media", "metrics", "runtime")
NETWORKS = [f"lightning_modules.{stage}.network" for stage in ("vaid", "ethd")]
FOLDERS = 17


def imported(file: Path) -> set[str]:
    """Returns the project modules that a file imports anywhere; names imported from a package count as the package."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys() or {node.module}
    return {name for name in found if name in MODULES}


def test_every_package_is_named_once():
    packages = {file.parent.relative_to(ROOT).parts[0] for file in ROOT.glob("[a-z]*/**/*.py")}
    assert sorted(NAMED) == sorted(packages - {"tests", "build", "dist"} | {"slurm"})
    assert {file.name for file in ROOT.glob("*.py")} == set(re.findall(r"\w+\.py", TREE.split("tools/")[0]))


def test_the_number_of_folders_is_limited():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    code = {Path(file).parts[0] for file in tracked if file.endswith((".py", ".sbatch")) and "/" in file}
    assert len(code - {"docs", "examples"}) <= FOLDERS


def test_imports_go_downwards():
    level = {name: number for number, name in enumerate(NAMED)}
    wrong = {
        (str(file.relative_to(ROOT)), module)
        for file in FILES
        if (top := file.relative_to(ROOT).parts[0]) in level
        for module in imported(file)
        if level.get(module.partition(".")[0], -1) < level[top]
    }
    assert not wrong


def test_there_are_no_import_cycles():
    graph = {module: imported(file) - {module} for module, file in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.slow
def test_libraries_and_networks_import_neither_lightning_nor_hydra():
    pure = [name for name in MODULES if name.partition(".")[0] in PURE] + NETWORKS
    code = "import importlib, sys\n" + "".join(f"importlib.import_module({name!r})\n" for name in pure)
    code += "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'lightning', 'hydra', 'omegaconf'}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_class_names_are_unique():
    """Each public class name is used once in the project."""
    names = [
        node.name
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert {name for name in names if names.count(name) > 1} == set()
