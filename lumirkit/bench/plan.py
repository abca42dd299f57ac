"""The plan of a benchmark: the rows of works that follow from its options and the sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lumirkit.bench.kinds import NETWORK_KINDS, Kind, Shape
from lumirkit.bench.options import Options
from lumirkit.bench.report import Row
from lumirkit.bench.work import Work
from lumirkit.registration.architecture import NetworkConfig
from lumirkit.train.recipe import load_recipe
from lumirkit.train.shipped_recipes import find_recipe


def load_network(name: str) -> NetworkConfig:
    """Load the network of a recipe, which is a YAML file or the name of a shipped one.

    Raises:
        RequestError: there is no such recipe.
        RecipeError: it is not valid.
    """
    return load_recipe(find_recipe(name)).network


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
