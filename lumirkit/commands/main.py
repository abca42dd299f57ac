"""The command line: all commands as one program, and what becomes of the errors that they end with."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from lumirkit.base.errors import ending_with_status
from lumirkit.base.memory import use_huge_pages
from lumirkit.base.screen import show_every_name
from lumirkit.base.threads import give_way_to_others, keep_to_cpu_limit
from lumirkit.commands import bench, container, manifest
from lumirkit.commands.ablation import ablation
from lumirkit.commands.baseline import baseline
from lumirkit.commands.compose import compose
from lumirkit.commands.demo import demo
from lumirkit.commands.evaluate import evaluate
from lumirkit.commands.export import export
from lumirkit.commands.invert import invert
from lumirkit.commands.jacobian import jacobian
from lumirkit.commands.predict import predict
from lumirkit.commands.prepare import prepare
from lumirkit.commands.register import register
from lumirkit.commands.report import report
from lumirkit.commands.statistics import statistics
from lumirkit.commands.stress import stress
from lumirkit.commands.synthetic import synthetic
from lumirkit.commands.table import table
from lumirkit.commands.template import template
from lumirkit.commands.train import train
from lumirkit.commands.warp import warp
from lumirkit.commands.weights import weights

_COMMANDS = (
    register,
    warp,
    export,
    compose,
    invert,
    jacobian,
    predict,
    baseline,
    weights,
    evaluate,
    train,
    ablation,
    table,
    statistics,
    report,
    stress,
    synthetic,
    prepare,
    template,
    demo,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, package and score deformable brain-MRI registration for the Learn2Reg LUMIR challenge.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"lumirkit {version('lumirkit')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version, and end.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(manifest.app, name="manifest")
app.add_typer(bench.app, name="bench")
app.add_typer(container.app, name="container")


def main() -> None:
    """Run the command; an error ends it with one message and the error's exit status."""
    use_huge_pages()
    keep_to_cpu_limit()
    give_way_to_others()
    show_every_name()
    try:
        with ending_with_status():
            app()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
