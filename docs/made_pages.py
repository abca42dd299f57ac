"""The pages that are made whenever the site is built: the commands and the keys of a recipe, of the code; notebooks."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import griffe
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.cli import get_docs_for_click

from lumirkit.commands.main import app
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.sitreg import SITRegConfig
from lumirkit.registration.voxelmorph import VoxelMorphConfig
from lumirkit.train.augment import Augmentation
from lumirkit.train.deform import DeformationRanges
from lumirkit.train.loss_settings import LossSettings
from lumirkit.train.one_image import OneImage
from lumirkit.train.recipe import Recipe, Stage, ValidationPlan
from lumirkit.train.sources import OneImageSource, SyntheticSource
from lumirkit.train.synthetic import Synthetic
from lumirkit.train.weighting import Uncertainty

_PARTS: dict[str, type[BaseModel]] = {
    "The recipe": Recipe,
    "network: SITReg": SITRegConfig,
    "network: VoxelMorph": VoxelMorphConfig,
    "stages": Stage,
    "stages: losses": LossSettings,
    "stages: augmentation": Augmentation,
    "stages: deformation": DeformationRanges,
    "stages: synthetic": SyntheticSource,
    "stages: synthetic: factors": Synthetic,
    "stages: one_image": OneImageSource,
    "stages: one_image: factors": OneImage,
    "stages: uncertainty": Uncertainty,
    "validation": ValidationPlan,
    "refinement": Refinement,
}
_HEAD = """# Keys of a recipe

A recipe is a YAML file of these keys. `lumirkit train` refuses a key that is not here, and a value out of its range.
The recipes of the kit are in `train/recipes/`; [Train](../guides/train.md) says what they are for.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add these pages; the notebooks themselves are in the site too, to be downloaded."""
    files.append(File.generated(config, "reference/commands.md", content=_commands()))
    files.append(File.generated(config, "reference/recipes.md", content=_recipes()))
    for notebook in sorted((Path(config.docs_dir) / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        files.append(File.generated(config, page, content=_notebook(notebook)))
    return files


def _notebook(path: Path) -> str:
    """The cells of a notebook one below the other, and a link to the file after its title."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    parts = [
        f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
        for cell, text in zip(cells, texts, strict=True)
    ]
    return "\n\n".join([parts[0], f"[Download this notebook]({path.name}) to run it.", *parts[1:]])


def _commands() -> str:
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=click.Context(command, info_name="lumirkit"), name="lumirkit")
    return text.replace("# `lumirkit`", "# Commands", 1)


def _recipes() -> str:
    return "\n".join([_HEAD, *(_part(title, settings) for title, settings in _PARTS.items())])


def _part(title: str, settings: type[BaseModel]) -> str:
    known = _in_code(settings)
    summary = known.docstring.value if known.docstring else ""
    rows = "\n".join(_rows(settings))
    return f"## {title}\n\n{summary}\n\n| key | type | default | what |\n|---|---|---|---|\n{rows}\n"


def _rows(settings: type[BaseModel]) -> Iterator[str]:
    for name, field in settings.model_fields.items():
        key = _declared(settings, name)
        if not key.docstring:
            raise PluginError(f"{settings.__name__}.{name}: found no docstring; expected what the key does.")
        said = " ".join(key.docstring.value.split())
        yield f"| `{name}` | `{_escaped(key.annotation)}` | {_default(field)} | {_escaped(said)} |"


def _in_code(settings: type) -> Any:
    """A class as it stands in the code, with the docstrings of its attributes."""
    inside = f"{settings.__module__}.{settings.__qualname__}".removeprefix("lumirkit.")
    return _package()[inside]


@cache
def _package() -> Any:
    return griffe.load("lumirkit", search_paths=["."])


def _declared(settings: type[BaseModel], name: str) -> Any:
    """The attribute of the class, or of the one it inherits it from, as it stands in the code."""
    for owner in settings.__mro__:
        if name in inspect.get_annotations(owner):
            return _in_code(owner)[name]
    raise KeyError(name)


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    return "its own defaults" if isinstance(value, BaseModel) else f"`{_escaped(value)}`"


def _escaped(value: object) -> str:
    return str(value).replace(" | ", " or ").replace("|", "or")
