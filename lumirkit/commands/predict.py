"""`lumirkit predict`."""

from __future__ import annotations

from typing import Annotated

import typer

from lumirkit.base.screen import say_to_stderr
from lumirkit.commands.failures import end_with_failures
from lumirkit.commands.options import (
    ConvolutionFormat,
    Dataset,
    Device,
    FieldsOut,
    ShardText,
    Weights,
    dataset_json_of,
)
from lumirkit.registration.precision import PrecisionChoice
from lumirkit.submission.on_error import OnError


def predict(
    dataset: Dataset,
    out: FieldsOut,
    weights: Weights = None,
    shard: ShardText = "1/1",
    device: Device = "auto",
    precision: ConvolutionFormat = PrecisionChoice.AUTO,
    on_error: Annotated[OnError, typer.Option(help="A pair that fails: end, go on, or a zero field.")] = OnError.SKIP,
) -> None:
    """Register the validation pairs of a dataset; fields that these weights have made of them before are kept."""
    from lumirkit.submission.termination import end_on_sigterm

    end_on_sigterm()
    from lumirkit.data_manifests.worklist import Shard
    from lumirkit.registration.device import choose_place
    from lumirkit.submission.predict import predict_dataset
    from lumirkit.submission.shipped_weights import chosen_weights

    dataset_json = dataset_json_of(dataset)
    place = choose_place(device, precision, say_to_stderr)
    chosen, part = chosen_weights(weights), Shard.parse(shard)
    status = predict_dataset(dataset_json, dataset_json.parent, out, chosen, place, part, on_error)
    end_with_failures({pair.case_name: pair.reason for pair in status.failures}, "failed pairs")
