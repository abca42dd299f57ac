"""What the container runs: find out what is asked for, register every pair, say what failed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lumirkit.base.errors import ending_with_status
from lumirkit.base.memory import use_huge_pages
from lumirkit.base.screen import say_to_stderr, show_every_name
from lumirkit.base.threads import give_way_to_others, keep_to_cpu_limit
from lumirkit.registration.precision import PrecisionChoice
from lumirkit.submission.contract_name import ContractName
from lumirkit.submission.on_error import OnError
from lumirkit.submission.termination import end_on_sigterm

if TYPE_CHECKING:
    from lumirkit.submission.status import RunStatus

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="One pair: fixed, moving, mask of fixed, mask of moving, field to write. None: a dataset."),
    ] = None,
    contract: Annotated[ContractName, typer.Option(help="Whose mounts to look for.")] = ContractName.AUTO,
    dataset_json: Annotated[Path | None, typer.Option(help="Pair list of any dataset, instead of a contract.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder that its paths are relative to [its own].")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for its fields.")] = None,
    weights: Annotated[Path, typer.Option(envvar="LUMIRKIT_WEIGHTS", help="Weight file or folder.")] = Path(
        "/opt/lumirkit/weights"
    ),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<n>.")] = "auto",
    precision: Annotated[
        PrecisionChoice,
        typer.Option("--convolutions", help="Number format; auto is bfloat16 where the device has units for it."),
    ] = PrecisionChoice.AUTO,
    refine: Annotated[
        int, typer.Option(min=0, envvar="LUMIRKIT_REFINE", help="Most steps of refinement of a pair on each grid.")
    ] = 0,
    refine_grid: Annotated[
        int | None, typer.Option(min=1, envvar="LUMIRKIT_REFINE_GRID", help="Its finest grid, in image voxels a voxel.")
    ] = None,
    on_error: Annotated[OnError, typer.Option(help="A pair that fails: end, go on, or a zero field.")] = OnError.SKIP,
    shard: Annotated[str, typer.Option(help="Do only part i of n of the pairs: i/n.")] = "1/1",
    root: Annotated[Path, typer.Option(hidden=True, help="Where the mounts are, outside a container.")] = Path("/"),
) -> None:
    """Register the pairs of the mounted task. Exit status 0: all done, 1: some failed, 2: nothing was started."""
    import torch  # here and below: what is heavy, once the number of threads is known

    from lumirkit.data_manifests.worklist import Shard
    from lumirkit.registration.device import choose_place
    from lumirkit.registration.refinement.settings import chosen_refinement
    from lumirkit.submission.contract import contract_of_options, find_contract, pair_of_paths
    from lumirkit.submission.predict import predict_dataset, predict_pairs

    refinement = chosen_refinement(refine, refine_grid)
    place = choose_place(device, precision, say_to_stderr)
    if place.device.type == "cpu" and device == "auto":
        print(f"no GPU is offered here: on the CPU with {torch.get_num_threads()} threads", flush=True)
    if paths:
        pair = pair_of_paths(paths)
        status_file = pair.field.with_name(f"{pair.field.name.removesuffix('.gz').removesuffix('.nii')}_status.json")
        status = predict_pairs([pair], [weights], place, status_file, on_error, refinement)
    else:
        found = contract_of_options(dataset_json, images, output) if dataset_json else find_contract(root, contract)
        print(f"{found.dataset_json}: {found.images} -> {found.output}, on {place}", flush=True)
        part = Shard.parse(shard)
        status = predict_dataset(
            found.dataset_json, found.images, found.output, [weights], place, part, on_error, refinement
        )
    _report(status)
    raise typer.Exit(1 if status.failures else 0)


def _report(status: RunStatus) -> None:
    """Print what came of the run."""
    for warning in status.warnings:
        say_to_stderr(f"warning: {warning}")
    for pair in status.failures:
        say_to_stderr(f"{pair.state}: {pair.case_name}: {pair.reason}")
    missing = status.pairs_asked_for - len(status.pairs)
    print(f"{len(status.pairs) - len(status.failures)} of {status.pairs_asked_for} pairs are registered", flush=True)
    if missing:
        say_to_stderr(f"{missing} pairs were not started")


def main() -> None:
    """Run the command; an error ends it with one message and the error's exit status."""
    end_on_sigterm()
    use_huge_pages()
    keep_to_cpu_limit()
    give_way_to_others()
    show_every_name()
    with ending_with_status():
        app()


if __name__ == "__main__":
    main()
