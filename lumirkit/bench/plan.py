"""The plan of a benchmark: its options, the sizes, and the rows of works that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lumirkit import train
from lumirkit.base.errors import RequestError
from lumirkit.bench.report import Row
from lumirkit.bench.work import NETWORK_KINDS, Kind, Shape, Work
from lumirkit.registration.architecture import NetworkConfig
from lumirkit.registration.precision import Precision
from lumirkit.train.recipe import load_recipe

_SMALLEST_AXIS = 8
_RECIPES = Path(train.__file__).parent / "recipes"


@dataclass(frozen=True)
class Options:
    """The options of a benchmark."""

    device: str = "cpu"
    network: str = "lumir25"
    """The name of a shipped recipe, or the path of one; its `network` is measured."""
    precisions: Sequence[Precision] = (Precision.FLOAT32,)
    members: int = 5
    repeats: int = 5
    plain: bool = False
    """Whether to measure the plain torch versions of the compiled kernels, too."""
    threads: int | None = None
    """The number of torch's threads; None takes as many as torch does by itself."""
    reference: Path | None = None
    """A checkout of the public SITReg repository, to be measured at the same works."""
    reference_repeats: int | None = None
    """The repeats of the public code; None takes as many as for ours."""


def parse_size(text: str) -> Shape:
    """Read (X, Y, Z) from a text such as 160x224x192.

    Raises:
        RequestError: the text is not of that form, or an axis is too short for the losses.
    """
    try:
        x, y, z = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise RequestError(f"--size {text}: expected voxels along three axes, such as 160x224x192") from error
    if min(x, y, z) < _SMALLEST_AXIS:
        raise RequestError(f"--size {text}: expected at least {_SMALLEST_AXIS} voxels along each axis")
    return x, y, z


def load_network(name: str) -> NetworkConfig:
    """Load the network of a recipe, which is a YAML file or the name of a shipped one.

    Raises:
        RecipeError: there is no such recipe, or it is not valid.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else _RECIPES / f"{name}.yaml"
    return load_recipe(path).network


def plan_rows(kind: Kind, shape: Shape, network: NetworkConfig, options: Options) -> Iterator[Row]:
    """Plan the rows of one work at one size: ours, ours without kernels, the public code."""
    work = Work(
        kind=kind,
        shape=shape,
        network=network,
        members=options.members if kind is Kind.ENSEMBLE else 1,
        repeats=options.repeats,
        device=options.device,
    )
    if kind not in NETWORK_KINDS:
        yield Row(what=kind, work=work)
        return
    name = f"{options.members} members" if kind is Kind.ENSEMBLE else Path(options.network).stem
    for precision in options.precisions:
        ours = work.model_copy(update={"convolutions": precision})
        yield Row(what=f"{name}, {precision}", work=ours)
        if kind in (Kind.STEP, Kind.TRIPLET):
            recomputed = ours.model_copy(update={"recompute": True})
            yield Row(what=f"{name}, {precision}, recomputed", work=recomputed)
        if options.plain:
            plain = ours.model_copy(update={"plain_torch": True})
            yield Row(what=f"{name}, {precision}, plain torch", work=plain)
    if options.reference and kind in (Kind.FORWARD, Kind.STEP):
        repeats = options.reference_repeats or options.repeats
        theirs = work.model_copy(update={"reference": options.reference, "repeats": repeats})
        yield Row(what="public SITReg code", work=theirs)
