"""`lumirkit predict`."""

from __future__ import annotations

from typing import Annotated

import typer

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
from lumirkit.registration.precision import Precision
from lumirkit.submission.on_error import OnError


def predict(
    dataset: Dataset,
    out: FieldsOut,
    weights: Weights = None,
    shard: ShardText = "1/1",
    device: Device = "auto",
    precision: ConvolutionFormat = Precision.FLOAT32,
    on_error: Annotated[OnError, typer.Option(help="A pair that fails: end, go on, or a zero field.")] = OnError.SKIP,
) -> None:
    """Register the validation pairs of a dataset; fields that these weights have made of them before are kept."""
    from lumirkit.submission.termination import end_on_sigterm

    end_on_sigterm()
    from lumirkit.data_manifests.worklist import Shard
    from lumirkit.registration.device import Place, choose_device
    from lumirkit.submission.predict import predict_dataset
    from lumirkit.submission.shipped_weights import chosen_weights

    dataset_json = dataset_json_of(dataset)
    place = Place(choose_device(device), precision)
    chosen, part = chosen_weights(weights), Shard.parse(shard)
    status = predict_dataset(dataset_json, dataset_json.parent, out, chosen, place, part, on_error)
    end_with_failures({pair.case_name: pair.reason for pair in status.failures}, "failed pairs")
