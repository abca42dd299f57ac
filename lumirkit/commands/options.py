"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.registration.header_form import HeaderForm
from lumirkit.registration.precision import PrecisionChoice

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<n>; auto takes a GPU where there is one.")]
ConvolutionFormat = Annotated[
    PrecisionChoice,
    typer.Option("--convolutions", help="Number format; auto is bfloat16 where the device has units for it."),
]
Weights = Annotated[
    list[Path] | None,
    typer.Option(
        help="Weight file, or folder of them, repeatable to average models; else those of the kit. none: no network, "
        "--refine alone."
    ),
]
Refine = Annotated[
    int,
    typer.Option(
        "--refine", min=0, help="Most steps on each grid that improve the network's field by the pair's own loss."
    ),
]
RefineGrid = Annotated[
    int | None,
    typer.Option(
        "--refine-grid",
        min=1,
        help="Finest grid of --refine, in image voxels a voxel: 1 is most accurate and slowest; else the network's.",
    ),
]
Dataset = Annotated[Path, typer.Option(help="Dataset folder, or its *dataset.json.")]
FieldsOut = Annotated[Path, typer.Option(help="Folder for the displacement fields.")]
Header = Annotated[
    HeaderForm | None,
    typer.Option(help="Which form of a header is right, where its qform and sform differ; else the sform is taken."),
]
Orientation = Annotated[
    str | None, typer.Option(help="How the axes run, such as RAS, of images whose header does not say it.")
]
Metrics = Annotated[
    list[Path], typer.Argument(help="metrics.json of each row; NAME=metrics.json says what to call it.")
]
Columns = Annotated[
    ColumnSet, typer.Option(help="The leaderboard's, or those of DDMR, for which `evaluate --designs` scores.")
]
ShardText = Annotated[str, typer.Option("--shard", help="Do only part i of n of the pairs: i/n.")]
ClusterAddress = Annotated[
    str | None,
    typer.Option("--cluster", help="Address of a Dask scheduler, for many machines; needs the extra `cluster`."),
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override a recipe key: key=value.")]


def dataset_json_of(dataset: Path) -> Path:
    """The pair list that the option `--dataset` names, or the one in the folder that it names."""
    from lumirkit.data_manifests.dataset import find_dataset_json

    return dataset if dataset.is_file() else find_dataset_json(dataset)


def path_for(cluster: str | None, path: Path) -> Path:
    """A path as the workers of a cluster find it, which run in other folders; else as the user wrote it."""
    return path if cluster is None else path.absolute()
