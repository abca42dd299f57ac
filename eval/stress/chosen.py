"""The disturbances and strengths that a user asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lumirkit.base.errors import RequestError
from lumirkit.eval.stress.disturbance import Disturbance
from lumirkit.eval.stress.disturbances import DISTURBANCES


@dataclass(frozen=True)
class Tried:
    """A disturbance, and the strengths at which it is tried, in rising order and without the neutral one."""

    disturbance: Disturbance
    strengths: tuple[float, ...]


def chosen_disturbances(requests: Sequence[str]) -> list[Tried]:
    """Read requests such as `noise`, or `noise=5,10` with strengths; none asks for all disturbances.

    Raises:
        RequestError: a name is unknown or stands there twice, or a strength means nothing.
    """
    tried: dict[str, Tried] = {}
    for request in requests or DISTURBANCES:
        name, separator, numbers = request.partition("=")
        if name not in DISTURBANCES:
            raise RequestError(f"--disturbance {request}: expected one of {', '.join(DISTURBANCES)}")
        if name in tried:
            raise RequestError(f"--disturbance {request}: found {name} twice; name all its strengths at once.")
        disturbance = DISTURBANCES[name]
        strengths = _numbers(request, numbers) if separator else disturbance.strengths
        for strength in strengths:
            disturbance.require(strength)
        tried[name] = Tried(disturbance, tuple(sorted({*strengths} - {disturbance.neutral})))
        if not tried[name].strengths:
            raise RequestError(f"--disturbance {request}: leaves every scan as it is; name another strength.")
    return list(tried.values())


def _numbers(request: str, text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError as error:
        raise RequestError(
            f"--disturbance {request}: expected numbers with commas between them, such as noise=5,10"
        ) from error
