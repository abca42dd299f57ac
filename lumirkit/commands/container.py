"""The sub-commands of `lumirkit container`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.extras import require_extra
from lumirkit.base.screen import say_to_stderr
from lumirkit.commands.options import Refine, RefineGrid
from lumirkit.submission.contract_name import ContractName

app = typer.Typer(no_args_is_help=True, help="The submission's container: build it, run it, examine it, pack it.")

Image = Annotated[str, typer.Argument(help="Name of an image, or an archive of one (.tar, .tar.gz).")]
Dataset = Annotated[Path, typer.Option(help="Dataset folder with *dataset.json.")]
Gpus = Annotated[str | None, typer.Option(help="GPU to give to the container: a number, or all.")]
Memory = Annotated[float | None, typer.Option(help="Most memory that it may take, in GB (2^30 bytes).")]
Extra = Annotated[list[str] | None, typer.Argument(help="Options for the container's own command, after --.")]


def _require_docker() -> None:
    require_extra("lumirkit container", "container", "docker")


@app.command()
def build(
    weights: Annotated[
        list[Path] | None, typer.Option(help="Weight file, or folder of them, repeatable; else those of the kit.")
    ] = None,
    tag: Annotated[str, typer.Option(help="Name of the image.")] = "lumirkit",
    base_image: Annotated[str | None, typer.Option(help="Instead of the Dockerfile's public Python image.")] = None,
    torch_index: Annotated[
        str | None, typer.Option(help='Package index of torch; "" for the one that pip uses anyway.')
    ] = None,
    refine: Refine = 0,
    refine_grid: RefineGrid = None,
) -> None:
    """Build the image of an ensemble from this clone."""
    _require_docker()
    from lumirkit.registration.refinement.settings import chosen_refinement
    from lumirkit.submission.container.build import build_image
    from lumirkit.submission.container.engine import connect
    from lumirkit.submission.shipped_weights import chosen_weights

    chosen, refinement = chosen_weights(weights), chosen_refinement(refine, refine_grid)
    image = build_image(connect(), chosen, tag, base_image, torch_index, refinement, say_to_stderr)
    print(f"{tag}: {image.attrs['Size'] / 1e9:.2f} GB, weights {image.labels['lumirkit.weights-sha256'][:12]}")


@app.command()
def run(
    image: Image,
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="Folder for the displacement fields.")],
    contract: Annotated[ContractName, typer.Option(help="Whose mounts and flags.")] = ContractName.LUMIR_2025,
    gpus: Gpus = None,
    memory: Memory = None,
    extra: Extra = None,
) -> None:
    """Run an image on a dataset, exactly as the challenge does."""
    _require_docker()
    from lumirkit.base.outputs import require_apart
    from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
    from lumirkit.submission.container.engine import connect, find_image
    from lumirkit.submission.container.run import run_on_dataset

    dataset_json = find_dataset_json(dataset)
    pairs = dict.fromkeys(read_dataset(dataset_json).validation)
    images = [dataset_json.parent / file for pair in pairs for file in (pair.fixed, pair.moving)]
    require_apart([out / pair.field_name for pair in pairs], [Path(image), dataset_json, *images])
    client = connect()
    name = find_image(client, image).id
    raise typer.Exit(run_on_dataset(client, name, dataset_json, out, contract, gpus, memory, extra or []))


@app.command()
def verify(
    image: Image,
    size: Annotated[str, typer.Option(help="Size of the images that are made for it.")] = "80x112x96",
    keep: Annotated[Path | None, typer.Option(help="Folder in which the data and all outputs are kept.")] = None,
) -> None:
    """Examine an image under every contract and hostile conditions; exit status 1 if it fails a check."""
    _require_docker()
    from rich.console import Console
    from rich.table import Table

    from lumirkit.bench.options import parse_size
    from lumirkit.submission.container.verify import examine_image

    checks = examine_image(image, parse_size(size), keep)
    passed = sum(check.passed for check in checks)
    table = Table("check", "result", "found", title=f"{image}: {passed} of {len(checks)} checks passed")
    for check in checks:
        table.add_row(check.name, "pass" if check.passed else "FAIL", check.found)
    Console().print(table, highlight=False, markup=False)
    if passed < len(checks):
        raise typer.Exit(1)


@app.command()
def package(
    image: Image,
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="The zip to write.")],
    gpus: Gpus = None,
    memory: Memory = None,
) -> None:
    """Run an image on the validation pairs, and pack it with their fields and what it needed into one zip.

    A list of what is in the image is written beside it (.cdx.json).
    """
    _require_docker()
    from lumirkit.base.outputs import require_apart
    from lumirkit.data_manifests.dataset import find_dataset_json
    from lumirkit.data_manifests.evaluation_config import files_of
    from lumirkit.submission.container.contents import contents_path
    from lumirkit.submission.container.engine import connect, find_image, full_tag
    from lumirkit.submission.container.package import package_submission

    dataset_json = find_dataset_json(dataset)
    require_apart([out, contents_path(out)], [Path(image), *files_of(dataset_json.parent)])
    client = connect()
    tag = full_tag(find_image(client, image), image)
    package_submission(client, tag, dataset_json, out, gpus, memory)
    print(out)
    print(contents_path(out))
