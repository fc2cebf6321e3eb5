"""Identifiers in docs/glossary.md exist in the code."""

import ast
import re
import subprocess

from tests.helpers import ROOT

TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")


def defined() -> set[str]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = set()
    for file in listed.splitlines():
        if file.startswith("tests/") or not (ROOT / file).exists():
            continue
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
    return names


def test_every_identifier_is_defined():
    rows = [line.split(" | ") for line in TEXT.splitlines() if line.startswith("| ") and "---" not in line]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", " ".join(row[2:]))}
    assert len(named) > 60
    assert named - defined() == set()
