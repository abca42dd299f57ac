"""`lumirkit baseline`."""

from __future__ import annotations

from typing import Annotated

import typer

from lumirkit.commands.failures import end_with_failures
from lumirkit.commands.options import Dataset, FieldsOut, ShardText, dataset_json_of


def baseline(
    name: Annotated[str, typer.Argument(help="zero, spline, or of the extra `baselines`: syn, convexadam, greedy.")],
    dataset: Dataset,
    out: FieldsOut,
    shard: ShardText = "1/1",
) -> None:
    """Register the validation pairs of a dataset with a reference method."""
    from lumirkit.data_manifests.worklist import Shard
    from lumirkit.eval.baselines.run import run_baseline

    dataset_json = dataset_json_of(dataset)
    failures = run_baseline(name, dataset_json, dataset_json.parent, out, Shard.parse(shard))
    reasons = {failure.case_name: failure.reason for failure in failures}
    end_with_failures(reasons, "failed pairs; all others are written")
