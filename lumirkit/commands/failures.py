"""What a command says of work that failed while the rest was done."""

from __future__ import annotations

from collections.abc import Mapping

import typer


def end_with_failures(reasons: Mapping[str, str], title: str) -> None:
    """Print what failed, with the reason of each, and end with exit status 1; do nothing where nothing failed."""
    if not reasons:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("pair", "why it failed", title=title)
    for name, reason in reasons.items():
        table.add_row(name, reason)
    Console(stderr=True).print(table)
    raise typer.Exit(1)
