"""The command line: parses arguments and calls one function for each command."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lumirkit.ablation.plan import load_ablation
from lumirkit.ablation.run import run_ablation
from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.bench.work import BenchError
from lumirkit.commands.bench import app as bench
from lumirkit.commands.container import app as container
from lumirkit.commands.manifest import check as check_manifest
from lumirkit.data_manifests.dataset import ManifestError, find_dataset_json
from lumirkit.data_manifests.split import split_dataset
from lumirkit.data_manifests.worklist import Shard
from lumirkit.demo import run_demo
from lumirkit.eval.baselines import run_baseline
from lumirkit.eval.cases import EvaluationError, MaskRule
from lumirkit.eval.evaluate import score_and_show
from lumirkit.eval.leaderboard import ScoringOptions
from lumirkit.eval.report.fields import report_fields
from lumirkit.eval.report.training import write_training_report
from lumirkit.eval.statistics.tables import write_statistics
from lumirkit.eval.tables.columns import ColumnSet
from lumirkit.eval.tables.write import write_table
from lumirkit.register import register_and_warp
from lumirkit.registration.any_pair.files import FileOptions
from lumirkit.registration.cohort import Failure
from lumirkit.registration.field import Convention
from lumirkit.registration.packing import pack_weights, show_weights
from lumirkit.registration.place import Place, choose_device
from lumirkit.registration.precision import Precision
from lumirkit.registration.warp_files import export_field, warp_file, warp_points
from lumirkit.registration.weights import WeightsError
from lumirkit.submission.container.engine import ContainerError
from lumirkit.submission.predict import predict_dataset
from lumirkit.submission.run import OnError
from lumirkit.submission.shipped import chosen_weights
from lumirkit.submission.termination import end_on_sigterm
from lumirkit.train.deadline import Deadline
from lumirkit.train.loop import train as train_recipe
from lumirkit.train.members import train_members
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import RecipeError, load_recipe
from lumirkit.train.step import TrainingError
from lumirkit.train.synthetic_sheet import draw_sheet

REQUEST_ERRORS = (EvaluationError, ManifestError, RecipeError, RequestError, VolumeError, WeightsError)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, package and score deformable brain-MRI registration for the Learn2Reg LUMIR challenge.",
)

manifest = typer.Typer(no_args_is_help=True, help="What a dataset folder holds.")
app.add_typer(manifest, name="manifest")

app.add_typer(bench, name="bench")

app.add_typer(container, name="container")

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<n>; auto takes a GPU where there is one.")]
ConvolutionFormat = Annotated[
    Precision, typer.Option("--convolutions", help="Number format of the convolutions; bfloat16 is faster.")
]
Weights = Annotated[
    list[Path] | None,
    typer.Option(help="Weight file, or folder of them, repeatable to average models; else those of the kit."),
]
Dataset = Annotated[Path, typer.Option(help="Dataset folder, or its *dataset.json.")]
FieldsOut = Annotated[Path, typer.Option(help="Folder for the displacement fields.")]
Columns = Annotated[
    ColumnSet, typer.Option(help="The leaderboard's, or those of DDMR, for which `evaluate --designs` scores.")
]
ShardText = Annotated[str, typer.Option("--shard", help="Do only part i of n of the pairs: i/n.")]


def _dataset_json(dataset: Path) -> Path:
    return dataset if dataset.is_file() else find_dataset_json(dataset)


def _report(failed: Mapping[str, str], title: str = "failed pairs; all others are written") -> None:
    """Print the pairs that failed, with the reason of each, and end with exit status 1, if there are any."""
    if failed:
        table = Table("pair", "why it failed", title=title)
        for case_name, reason in failed.items():
            table.add_row(case_name, reason)
        Console(stderr=True).print(table)
        raise typer.Exit(1)


def _reasons(failures: Sequence[Failure]) -> dict[str, str]:
    return {failure.case_name: failure.reason for failure in failures}


@app.command()
def register(
    fixed: Annotated[Path, typer.Argument(help="Fixed image (.nii.gz).")],
    moving: Annotated[Path, typer.Argument(help="Moving image, on any grid.")],
    out: Annotated[Path, typer.Argument(help="Displacement field to write (.nii.gz).")],
    weights: Weights = None,
    device: Device = "auto",
    precision: ConvolutionFormat = Precision.FLOAT32,
    moved: Annotated[Path | None, typer.Option(help="Write the moving image on the fixed grid, too.")] = None,
    convention: Annotated[
        Convention | None,
        typer.Option("--format", help="Of the field; challenge where both images share one grid, else itk."),
    ] = None,
    affine: Annotated[bool, typer.Option("--affine", help="Align by ANTs first; the extra `baselines`.")] = False,
    fixed_mask: Annotated[Path | None, typer.Option(help="Brain mask of the fixed image.")] = None,
    moving_mask: Annotated[Path | None, typer.Option(help="Brain mask of the moving image.")] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Take the arrays as they are, as `predict` does.")] = False,
) -> None:
    """Register one pair of skull-stripped images, of any orientation, spacing and intensities."""
    options = FileOptions(fixed_mask, moving_mask, affine, convention, as_is)
    place = Place(choose_device(device), precision)
    register_and_warp(fixed, moving, out, chosen_weights(weights), place, options, moved)


@app.command()
def warp(
    field: Annotated[Path, typer.Argument(help="Field of `register`, or warp of ANTs or ITK (.nii.gz).")],
    out: Annotated[Path, typer.Option(help="Image (.nii.gz) to write; of points, table (.csv).")],
    moving: Annotated[Path | None, typer.Option(help="What to warp: the moving image, or a label map of it.")] = None,
    like: Annotated[Path | None, typer.Option(help="Fixed image, whose header the result gets.")] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Nearest voxel, integer type kept.")] = False,
    points: Annotated[
        Path | None, typer.Option(help="CSV with columns x, y, z, RAS mm of the fixed image: where they are in MOVING.")
    ] = None,
) -> None:
    """Carry an image or labels onto the fixed grid, or points of the fixed image into the moving one."""
    if points is not None:
        warp_points(field, points, out, moving, like)
    elif moving is not None:
        warp_file(field, moving, out, like, labels)
    else:
        raise RequestError("warp: expected --moving, the image or label map to warp, or --points.")


@app.command()
def export(
    field: Annotated[Path, typer.Argument(help="Field of `register`, or warp of ANTs or ITK (.nii.gz).")],
    fixed: Annotated[Path, typer.Option(help="Fixed image.")],
    moving: Annotated[Path, typer.Option(help="Moving image.")],
    out: Annotated[Path, typer.Option(help="Field to write (.nii.gz).")],
    convention: Annotated[Convention, typer.Option("--format", help="What to write.")] = Convention.ITK,
) -> None:
    """Write a field for ANTs and ITK (LPS mm), or in the challenge's format."""
    export_field(field, fixed, moving, out, convention)


@app.command()
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
    end_on_sigterm()
    dataset_json = _dataset_json(dataset)
    place = Place(choose_device(device), precision)
    chosen, part = chosen_weights(weights), Shard.parse(shard)
    status = predict_dataset(dataset_json, dataset_json.parent, out, chosen, place, part, on_error)
    _report({pair.case_name: pair.reason for pair in status.failures}, "failed pairs")


@app.command()
def baseline(
    name: Annotated[str, typer.Argument(help="zero, syn or convexadam; the last two come with the extra `baselines`.")],
    dataset: Dataset,
    out: FieldsOut,
    shard: ShardText = "1/1",
) -> None:
    """Register the validation pairs of a dataset with a reference method."""
    dataset_json = _dataset_json(dataset)
    _report(_reasons(run_baseline(name, dataset_json, dataset_json.parent, out, Shard.parse(shard))))


@app.command()
def weights(
    paths: Annotated[list[Path], typer.Argument(help="Weight files, or folders of them.")],
    pack: Annotated[Path | None, typer.Option(help="Write them to this folder too, in float16: half the size.")] = None,
    note: Annotated[list[str] | None, typer.Option(help="key=value on the cards of what is packed.")] = None,
) -> None:
    """Check that weights are intact and fit together, and show what they are."""
    show_weights(paths)
    if pack is not None:
        pack_weights(paths, pack, note or [])


@app.command()
def evaluate(
    ground_truth: Annotated[Path, typer.Option(help="Folder with *_evaluation_config.json, images and labels.")],
    fields: Annotated[Path, typer.Option(help="Folder with the displacement fields.")],
    out: Annotated[Path, typer.Option(help="Where to write metrics.json; scored pairs are kept beside it.")],
    zero_field: Annotated[bool, typer.Option(help="Score the zero field too, as the first row of the table.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that score pairs at the same time.")] = 1,
    tables: Annotated[Path | None, typer.Option(help="Folder for pairs.csv, labels.csv and landmarks.csv.")] = None,
    mask_rule: Annotated[
        MaskRule, typer.Option(help="Brain mask of the folding: 2025 the fixed image, 2024 the moving one.")
    ] = MaskRule.LUMIR_2025,
    inverse_fields: Annotated[
        Path | None, typer.Option(help="Folder with the fields of the exchanged pairs: inverse consistency, too.")
    ] = None,
    designs: Annotated[
        bool, typer.Option(help="Also what DDMR reports: SSIM, NCC, DSC, HD, HD95, TRE of structures, run time.")
    ] = False,
) -> None:
    """Score displacement fields as the leaderboard does."""
    options = ScoringOptions(mask_rule, inverse_fields, designs=designs)
    result = score_and_show(ground_truth, fields, out, options, tables, zero_field, workers)
    _report(result.failures, "failed pairs; no aggregates without them, all other pairs are scored")


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe (.yaml); the shipped ones are in train/recipes/.")],
    data: Annotated[Path, typer.Option(help="Dataset folder with *dataset.json and training images.")],
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run in it is continued.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a recipe key: key=value.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this time; a later call continues.")] = None,
    members: Annotated[
        int | None, typer.Option(min=1, help="Train so many seeds, counted from the recipe's, each in OUT/seed<n>.")
    ] = None,
    device: Device = "auto",
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for the decoded images; without it in memory, or on disk if that is short."),
    ] = None,
) -> None:
    """Train a recipe, or continue an interrupted run of it; started by torchrun or srun, with all their processes."""
    loaded = load_recipe(recipe, set_ or [])
    deadline = Deadline(minutes)
    deadline.on_termination()
    with Processes.joined(choose_device(device)) as processes:
        if members is None:
            paths = [train_recipe(loaded, data, out, processes, deadline, cache)]
        else:
            paths = train_members(loaded, data, out, processes, members, deadline, cache)
        if processes.is_first:
            for path in paths:
                print(f"weights: {path}")


@app.command()
def ablation(
    rows: Annotated[Path, typer.Argument(help="Ablation file (.yaml), such as train/recipes/ablation_table1.yaml.")],
    data: Annotated[Path, typer.Option(help="Dataset folder with training images, validation pairs and labels.")],
    out: Annotated[Path, typer.Option(help="Folder for runs, rows and tables; what is done in it is not done again.")],
    base: Annotated[Path | None, typer.Option(help="Base recipe in place of the one that the file names.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a key of the base recipe.")] = None,
    reference: Annotated[list[str] | None, typer.Option(help="Reference rows: zero, syn or convexadam.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Give it several times to do rows side by side.")] = None,
    precision: ConvolutionFormat = Precision.FLOAT32,
    minutes: Annotated[float | None, typer.Option(help="Stop after this time; a later call continues.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for the decoded images, as of `train`.")] = None,
) -> None:
    """Train, register and score what is not done yet of every row, and write the table."""
    planned = load_ablation(rows, base, set_ or [])
    places = [Place(choose_device(name), precision) for name in device or ["auto"]]
    _report(run_ablation(planned, data, out, places, reference or [], minutes, cache), "what failed")


@app.command()
def table(
    metrics: Annotated[
        list[Path], typer.Argument(help="metrics.json of each row; NAME=metrics.json says what to call it.")
    ],
    out: Annotated[list[Path], typer.Option(help="Table to write: .md, .tex (booktabs) or .csv.")],
    published: Annotated[bool, typer.Option(help="Add the paper's own rows, as references.")] = False,
    columns: Columns = ColumnSet.LEADERBOARD,
) -> None:
    """Write the table of several scored methods."""
    write_table(metrics, out, published, columns)


@app.command()
def statistics(
    metrics: Annotated[
        list[Path], typer.Argument(help="metrics.json of each row; NAME=metrics.json says what to call it.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for comparisons.csv, intervals.csv and ranking.csv.")],
    compare: Annotated[
        list[str] | None, typer.Option(help="A:B tests row A against row B; each against the one before if absent.")
    ] = None,
    designs: Annotated[bool, typer.Option(help="Tukey and Mann-Whitney tests between all rows, too.")] = False,
    columns: Columns = ColumnSet.LEADERBOARD,
) -> None:
    """Say what chance has to do with a table: paired tests, intervals, ranks."""
    write_statistics(metrics, out, compare or [], designs, columns)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Page to write (.html); everything is in it.")],
    ground_truth: Annotated[
        Path | None, typer.Option(help="Folder with images, labels and *_evaluation_config.json.")
    ] = None,
    fields: Annotated[
        list[str] | None, typer.Option(help="Folder of fields, or NAME=folder; several are shown side by side.")
    ] = None,
    training: Annotated[Path | None, typer.Option(help="Run folder: the page shows its training instead.")] = None,
    pairs: Annotated[int, typer.Option(min=0, help="Pairs of each split to show in pictures, worst first.")] = 2,
    pair: Annotated[list[str] | None, typer.Option(help="Show this pair first: its name, or a part of it.")] = None,
    zero_field: Annotated[bool, typer.Option(help="Add the zero field as a reference.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that score pairs at the same time.")] = 1,
) -> None:
    """Write a page about scored fields, or about a training run."""
    if training is not None and ground_truth is None and not fields:
        write_training_report(training, out)
    elif training is None and ground_truth is not None and fields:
        report_fields(ground_truth, fields, out, pairs, pair or [], zero_field, workers)
    else:
        raise RequestError("report: expected --ground-truth and --fields, or --training alone.")
    print(f"report: {out}")


@app.command()
def synthetic(
    recipe: Annotated[Path, typer.Argument(help="Recipe (.yaml) with a stage that trains on synthetic pairs.")],
    out: Annotated[Path, typer.Option(help="Sheet to write (.png), one line a pair.")],
    pairs: Annotated[int, typer.Option(min=1, help="How many pairs.")] = 12,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a recipe key: key=value.")] = None,
) -> None:
    """Draw pairs as a recipe generates them, to look at before training on them."""
    draw_sheet(load_recipe(recipe, set_ or []), pairs, out)


@manifest.command("check")
def manifest_check(
    root: Annotated[Path, typer.Argument(help="Dataset folder with *dataset.json.")],
    task: Annotated[str | None, typer.Option(help="Compare with the facts of LUMIR24 or LUMIR25 too.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that read files at the same time.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the findings to this file too.")] = None,
) -> None:
    """List everything in a dataset folder that would make a run fail or a score wrong."""
    if not check_manifest(root, task, workers, json):
        raise typer.Exit(1)


@manifest.command("split")
def manifest_split(
    root: Annotated[Path, typer.Argument(help="Dataset folder with *dataset.json, training images and label maps.")],
    out: Annotated[Path, typer.Option(help="Folder for the dataset folders `development` and `test`.")],
    shares: Annotated[str, typer.Option(help="Of training/validation/test.")] = "60/20/20",
    seed: Annotated[int, typer.Option(help="Draws which image goes where.")] = 0,
    listed: Annotated[
        Path | None, typer.Option("--list", help="CSV file with the columns image and part, instead of shares.")
    ] = None,
) -> None:
    """Divide the training images of a dataset into a part to train on, one to validate on and one to test on."""
    counts = split_dataset(root, out, shares, seed, listed)
    print(f"{out}: {', '.join(f'{count} {part}' for part, count in counts.items())}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("runs/demo"),
) -> None:
    """Make brain-like data, train two small models, register, score: the whole chain in a few minutes."""
    run_demo(out)


def main() -> None:
    """Run the command; a wrong request ends with one message and exit status 2."""
    try:
        app()
    except REQUEST_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (BenchError, ContainerError, TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
