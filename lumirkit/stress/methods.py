"""The methods that are put under stress, each with what its results depend on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from lumirkit.base.errors import RequestError
from lumirkit.base.files import as_text
from lumirkit.eval.baselines.methods import BASELINES
from lumirkit.eval.baselines.record import method_record
from lumirkit.registration.device import Place
from lumirkit.registration.pair_files import RegisterPair
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.submission.shipped_weights import NO_WEIGHTS, SHIPPED_WEIGHTS

KIT = "kit"
"""What the weights that come with the kit are called."""


@dataclass(frozen=True)
class StressedMethod:
    """A method under the name that tables give it."""

    name: str
    made_of: str
    """All that its fields depend on beside the images."""
    register: RegisterPair


def list_methods(
    weights: Sequence[str], refinement: Refinement | None, references: Sequence[str], place: Place
) -> list[StressedMethod]:
    """The networks, each as it is and refined, then the reference methods.

    Args:
        weights: a weight file, or a folder of them that are averaged, each a method; NAME=path names it. None are those
            of the kit, and `none` is no network.
        refinement: what a second row of every network refines it by; alone where there is no network.
        references: names of `BASELINES`.

    Raises:
        RequestError: there is no method, two share a name, or a reference method is unknown or not installed.
        WeightsError: a weight file cannot be used.
    """
    methods = []
    for name, path in _named(weights):
        of_network = [] if path is None else [_network(name, path, None, place)]
        methods += of_network if refinement is None else [*of_network, _network(name, path, refinement, place)]
    methods += map(_reference, references)
    if not methods:
        raise RequestError(f"--weights {NO_WEIGHTS}: found no method; add --refine, or a method by --reference.")
    for name, times in Counter(method.name for method in methods).items():
        if times > 1:
            raise RequestError(f"found {times} methods called {name}; name weights apart, --weights NAME=path.")
    return methods


def _named(weights: Sequence[str]) -> list[tuple[str, Path | None]]:
    """Split requests into names and paths; no path stands for no network."""
    if str(NO_WEIGHTS) in weights:
        if len(weights) > 1:
            raise RequestError(f"--weights {NO_WEIGHTS}: found beside other weights; expected it alone.")
        return [("no network", None)]
    named: list[tuple[str, Path | None]] = []
    for text in weights:
        name, separator, rest = text.partition("=")
        if not separator or Path(text).exists():  # a path may have a "=" too
            name, rest = Path(text).name.removesuffix(".safetensors"), text
        if not (name and rest):
            raise RequestError(f"--weights {text}: expected a path, or NAME=path with a name and a path.")
        named.append((as_text(name), Path(rest)))
    return named or [(KIT, SHIPPED_WEIGHTS)]


def _network(name: str, path: Path | None, refinement: Refinement | None, place: Place) -> StressedMethod:
    predictor = Predictor([] if path is None else [path], place, refinement)
    predictor.wait_for_kernels()  # the first pair's seconds are of its registration alone
    method = asdict(predictor.method)
    if refinement is not None:
        method["refinement"] = refinement.model_dump()
        name = f"{name}, refine {refinement.steps}"
        name += "" if refinement.finest_vox is None else f" at {refinement.finest_vox}"
    made_of = {"lumirkit": version("lumirkit"), "precision": place.precision, **method}
    return StressedMethod(name, json.dumps(made_of, sort_keys=True), predictor)


def _reference(name: str) -> StressedMethod:
    if name not in BASELINES:
        raise RequestError(f"--reference {name}: expected one of {', '.join(BASELINES)}")
    method = BASELINES[name]()
    return StressedMethod(name, json.dumps(method_record(name, method), sort_keys=True), method)
