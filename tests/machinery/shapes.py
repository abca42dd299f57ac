"""The shapes that annotations state, checked at run time in all tests, but not in the processes that tests start.

Import this before the package: from then on a function that is called with arrays of other shapes or number formats
than its annotations say, or returns such, raises `jaxtyping.TypeCheckError`. Kernels are left out: Numba compiles plain
functions only.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import jaxtyping
from beartype import beartype

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("registration", "train", "eval", "submission")


def check(function: Callable) -> Callable:
    """Check those arguments of a function whose annotations state a shape; types alone are for mypy."""
    hints = function.__annotations__
    if not any(map(states_shape, hints.values())):
        return function
    function.__annotations__ = {name: hint if states_shape(hint) else Any for name, hint in hints.items()}
    return beartype(function)


def states_shape(hint: Any) -> bool:
    """Whether an annotation is an array of jaxtyping's or has one in it."""
    if isinstance(hint, TypeVar):
        return states_shape(hint.__bound__)
    parts = get_args(hint)
    if isinstance(hint, list):  # the arguments of a Callable
        parts = tuple(hint)
    return (isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)) or any(map(states_shape, parts))


def modules_to_check() -> list[str]:
    """Name the modules of these rooms, but for those with kernels."""
    files = [file.relative_to(REPOSITORY) for room in ROOMS for file in (REPOSITORY / room).rglob("*.py")]
    checked = [
        file for file in files if "kernels" not in file.parts and "import compiled" not in file.read_text("utf-8")
    ]
    return ["lumirkit." + ".".join(file.with_suffix("").parts) for file in checked]


jaxtyping.install_import_hook(modules_to_check(), "shapes.check")
