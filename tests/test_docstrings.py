"""Every example in a docstring does what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "lumirkit"


def modules_with_examples() -> list[str]:
    """The names of all modules that show how they are used."""
    folders = [PACKAGE, *(folder.resolve() for folder in PACKAGE.iterdir() if folder.is_symlink())]
    files = {
        PACKAGE / (folder.name if folder != PACKAGE else "") / file.relative_to(folder)
        for folder in folders
        for file in folder.rglob("*.py")
        if ">>> " in file.read_text(encoding="utf-8")
    }
    return sorted(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in files)


def examples(module: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
    return [test for test in found if test.examples]


@pytest.mark.parametrize(
    "test", [test for name in modules_with_examples() for test in examples(name)], ids=lambda t: t.name
)
def test_an_example_does_what_it_says(test, capsys):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test)
    assert runner.failures == 0, capsys.readouterr().out
    assert runner.tries > 0


def test_every_verb_has_an_example():
    import lumirkit

    shown = {test.name for test in examples("lumirkit.api")}
    verbs = {name for name in lumirkit.__all__ if callable(getattr(lumirkit, name)) and name[0].islower()}
    assert {f"lumirkit.api.{verb}" for verb in verbs} <= shown
