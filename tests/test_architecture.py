"""docs/architecture.md names every package, and imports go the way it says."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]
NAMED = re.findall(r"^(\w+)/ ", TREE, re.MULTILINE)
UPWARDS = {("configs", "datamodules.schema"), ("datamodules/splits/make.py", "preparation.layouts.annotations")}


def imported(file: Path) -> set[str]:
    """Dotted names of all modules a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    direct = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return direct | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_every_package_is_named_once():
    packages = {file.parent.relative_to(ROOT).parts[0] for file in ROOT.glob("[a-z]*/*.py")} - {
        "tests",
        "build",
        "dist",
    }
    assert sorted(NAMED) == sorted(packages)
    scripts = {file.name for file in ROOT.glob("*.py")}
    assert scripts == set(re.findall(r"\w+\.py", TREE.split("configs/")[0].split("demonstration/")[0]))


def test_imports_go_downwards():
    level = {name: number for number, name in enumerate(NAMED)}
    wrong = {
        (str(file.relative_to(ROOT)), module)
        for top in NAMED
        for file in (ROOT / top).rglob("*.py")
        for module in imported(file)
        if level.get(module.partition(".")[0], level[top]) < level[top]
    }
    allowed = {
        (file, module)
        for file, module in wrong
        for place, known in UPWARDS
        if file.startswith(place) and module == known
    }
    assert not wrong - allowed
