"""Deformable brain-MRI registration for the LUMIR challenge, from Python and as the command `lumirkit`.

The verbs below are loaded when they are first used, so that `import lumirkit` alone costs nothing; `lumirkit.api` has
them all, with an example each. Training is `train_recipe`, because `lumirkit.train` is the package that does it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lumirkit.api import evaluate, load_weights, read_field, register, train_recipe

    __version__: str

__all__ = ["__version__", "evaluate", "load_weights", "read_field", "register", "train_recipe"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("lumirkit")
    if name in __all__:
        return getattr(import_module("lumirkit.api"), name)
    raise AttributeError(f"module 'lumirkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
