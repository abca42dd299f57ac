"""The dependency rule of the folders, as pyproject.toml states it for import-linter."""

from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports


def test_folders_import_only_what_they_may(monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[1])
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS
