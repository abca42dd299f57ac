"""The recipes and ablation files that come with the kit."""

from __future__ import annotations

from pathlib import Path

from lumirkit.base.errors import RequestError

RECIPES = Path(__file__).parent / "recipes"


def find_recipe(name: str) -> Path:
    """The file of a recipe or an ablation: a shipped one by its name, such as lumir25, any other by its path.

    Raises:
        RequestError: there is no such file.
    """
    shipped = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    if not Path(name).is_file():
        raise RequestError(
            f"{name}: no such recipe; expected a file (.yaml) or one of the shipped ones: {', '.join(shipped)}."
        )
    return Path(name)
