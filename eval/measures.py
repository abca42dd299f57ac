"""The measures of a case, called `<metric name>/<measure>`, found by their measure alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lumirkit.eval.cases import EvaluationError

OFFICIAL_MEASURES = {"ndv": "ndv_percent", "dice": "dice", "hd95": "hd95_vox", "tre": "tre_vox"}
"""The measure that the organisers score each kind of metric by."""


def find_measure(measures: Mapping[str, float], measure: str, owner: str) -> float | None:
    """The value of a measure, whatever the config calls its metric; None where nothing measured it.

    Args:
        measures: values of one case by `<metric name>/<measure>`.
        measure: the part behind the slash.
        owner: the case, for the message of the error.

    Raises:
        EvaluationError: two metrics have the measure, and their values differ.
    """
    found = {name: value for name, value in measures.items() if name.split("/")[-1] == measure}
    if np.unique(list(found.values())).size > 1:
        raise ambiguous(owner, measure, [name.rpartition("/")[0] for name in found])
    return next(iter(found.values()), None)


def ambiguous(owner: str, measure: str, metrics: list[str]) -> EvaluationError:
    """The error of a table that has one column for what several metrics measured."""
    names = " and ".join(repr(metric) for metric in metrics)
    return EvaluationError(
        f"{owner}: found {measure} of the metrics {names}; expected one, since a table has one column for it. Score "
        "with evaluation configs that have one of them alone. metrics.json and `lumirkit evaluate --tables` hold both."
    )
