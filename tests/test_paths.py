"""Files named in texts exist, and outputs of the README's commands are ignored by git."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
TOPS = {Path(file).parts[0] for file in TRACKED if "/" in file}
PAGES = [ROOT / file for file in TRACKED if re.fullmatch(r"README\.md|docs/\w+\.md", file)]
MODULES = [ROOT / file for file in TRACKED if file.endswith(".py") and not file.startswith("tests/")]


def docstrings(file: Path) -> str:
    tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return "\n".join(ast.get_docstring(node) or "" for node in tree if isinstance(node, kinds))


def missing(text: str, near: Path) -> set[str]:
    """Returns project files and modules in backticks that do not exist; capitals and stars are placeholders."""
    found = set()
    for name in re.findall(r"[\w./*-]+", " ".join(re.findall(r"`+([^`\n]+)`+", text))):
        path = re.fullmatch(r"(?:[a-z_0-9-]+/)*[a-z_0-9-]+\.(?:py|yaml|sbatch)|[a-z_]+/[a-z_0-9/-]+", name)
        module = re.fullmatch(r"[a-z_]+(?:\.[a-z_]+)+", name)
        if path and (name.endswith(".py") or name.partition("/")[0] in TOPS):
            anywhere = any(file.endswith(f"/{name}") for file in TRACKED)
            if not (anywhere or (ROOT / name).exists() or (near / name).exists()):
                found.add(name)
        elif module and (ROOT / (first := name.split(".")[0]) / "__init__.py").exists() and first not in ("metrics",):
            _, second, *_ = name.split(".")
            if not any((ROOT / first / second).with_suffix(suffix).exists() for suffix in ("", ".py")):
                found.add(name)
    return found


def test_files_and_modules_in_texts_exist():
    texts = {file: file.read_text(encoding="utf-8") for file in PAGES} | {file: docstrings(file) for file in MODULES}
    found = {file: names for file, text in texts.items() if (names := missing(text, file.parent))}
    # docs/adding_*.md name files that the reader creates.
    assert not {file: names for file, names in found.items() if not file.match("docs/adding_*.md")}


def test_a_missing_file_is_found():
    assert missing("``beats.py`` and `tools/nightly/gone.yaml`, `callbacks.gone`", ROOT) == {
        "beats.py", "tools/nightly/gone.yaml", "callbacks.gone",
    }  # fmt: skip
    assert not missing("`runtime/files.py` `files.py` ``callbacks/STEP.py`` `configs.store` `torch.gone`", ROOT)


def ignored(paths: set[str]) -> set[str]:
    command, settings = ["git", "check-ignore", "--no-index", "--stdin"], {"capture_output": True, "text": True}
    return set(subprocess.run(command, cwd=ROOT, input="\n".join(paths), **settings).stdout.splitlines())


@pytest.mark.parametrize("key", ["output", "root", "generated", "vaid", "ethd"])
def test_outputs_of_commands_are_ignored_by_git(key):
    text = "\n".join(file.read_text(encoding="utf-8") for file in [*PAGES, *ROOT.glob("configs/hydra/help/*.yaml")])
    written = set(re.findall(rf"(?:\b{key}=|--{key} )\"?([a-z][\w/-]*(?:\.\w+)?)", text))
    assert written
    written = {name if "." in name else f"{name}/x" for name in written if name != "real"}
    assert written == ignored(written)  # "real" is a folder of the user's videos


def test_no_source_is_ignored_by_git():
    folders = {str(Path(file).parent) for file in TRACKED} | {"configs/data", "tests/data"}
    assert not ignored({*TRACKED, *(f"{folder}/new.py" for folder in folders)})
