"""Every built-in entry can be imported; packages export their main names lazily."""

import subprocess
import sys
from importlib import import_module

import pytest

from configs import registries  # noqa: F401, fills REGISTRIES
from runtime.errors import UserError
from runtime.registry import REGISTRIES, Registry

PACKAGES = ("metrics", "datamodules", "diffusion", "lightning_modules", "generation")


class Mine:
    name = "mine"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in REGISTRIES for name in REGISTRIES[kind].names()])
def test_every_entry_can_be_imported(kind, name):
    entry = REGISTRIES[kind].get(name)
    assert isinstance(entry, type)
    assert getattr(entry, "name", name) == name or kind == "logger"  # Lightning's loggers name their runs by it


@pytest.mark.parametrize(("package", "name"), [(p, name) for p in PACKAGES for name in import_module(p).__all__])
def test_packages_export_their_main_names(package, name):
    assert getattr(import_module(package), name).__name__ == name


def test_exported_names_are_imported_on_first_use():
    code = f"import sys, {', '.join(PACKAGES)}; print(*{{'torch', 'lightning', 'numpy'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_a_name_belongs_to_one_class(monkeypatch):
    registry: Registry = Registry("toy", {})
    monkeypatch.delitem(REGISTRIES, "toy")
    assert registry.register(registry.register(Mine)) is registry.get("mine")
    with pytest.raises(UserError, match="there is another toy called mine"):
        registry.register(type("Other", (), {"name": "mine"}))
    with pytest.raises(UserError, match="a toy needs a short name"):
        registry.register(type("Other", (), {"name": "a.b"}))
