"""`lumirkit predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.screen import say_to_stderr
from lumirkit.commands.failures import end_with_failures
from lumirkit.commands.options import (
    ClusterAddress,
    ConvolutionFormat,
    Dataset,
    FieldsOut,
    Refine,
    RefineGrid,
    ShardText,
    Weights,
    dataset_json_of,
    path_for,
)
from lumirkit.registration.precision import PrecisionChoice
from lumirkit.submission.on_error import OnError


def predict(
    dataset: Dataset,
    out: FieldsOut,
    weights: Weights = None,
    shard: ShardText = "1/1",
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, cuda:<n>, several such as cuda:0,cuda:1, or all: a process on each GPU."),
    ] = "auto",
    precision: ConvolutionFormat = PrecisionChoice.AUTO,
    refine: Refine = 0,
    refine_grid: RefineGrid = None,
    on_error: Annotated[OnError, typer.Option(help="A pair that fails: end, go on, or a zero field.")] = OnError.SKIP,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes on each device that register pairs at the same time.")
    ] = 1,
    cluster: ClusterAddress = None,
    zip_: Annotated[
        Path | None, typer.Option("--zip", help="Pack the fields of all pairs into one zip, as the challenge takes it.")
    ] = None,
) -> None:
    """Register the validation pairs of a dataset; fields that these weights have made of them before are kept."""
    from lumirkit.submission.termination import end_on_sigterm

    end_on_sigterm()
    from lumirkit.base.engine import engine_for
    from lumirkit.base.errors import RequestError
    from lumirkit.base.files import require_writable_file
    from lumirkit.data_manifests.worklist import Shard
    from lumirkit.registration.device import Place, choose_place, list_devices
    from lumirkit.registration.refinement.settings import chosen_refinement
    from lumirkit.submission.fields_zip import pack_fields
    from lumirkit.submission.predict import predict_dataset
    from lumirkit.submission.shipped_weights import chosen_weights
    from lumirkit.submission.team import Team

    refinement = chosen_refinement(refine, refine_grid)
    if zip_ is not None:
        require_writable_file(zip_)
    dataset_json = path_for(cluster, dataset_json_of(dataset))
    chosen, part = [path_for(cluster, path) for path in chosen_weights(weights)], Shard.parse(shard)
    named = list_devices(device)
    if cluster is not None and len(named) > 1:
        raise RequestError(f"--device {device}: found several beside --cluster, whose workers have one each; name one.")
    devices = named * workers
    with engine_for(len(devices), cluster) as engine:
        place: Place | Team = Team(engine, tuple(devices), precision)
        if cluster is None:
            places = [choose_place(name, precision, say_to_stderr) for name in dict.fromkeys(devices)]
            place = places[0] if len(devices) == 1 else place
        fields = path_for(cluster, out)
        status = predict_dataset(dataset_json, dataset_json.parent, fields, chosen, place, part, on_error, refinement)
    for warning in status.warnings:
        say_to_stderr(f"warning: {warning}")
    end_with_failures({pair.case_name: pair.reason for pair in status.failures}, "failed pairs")
    if zip_ is not None:
        pack_fields(fields, zip_, dataset_json)
