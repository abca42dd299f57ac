"""`lumirkit prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumirkit.base.extras import require_extra


def prepare(
    scans: Annotated[
        Path,
        typer.Argument(
            help="Folder of NIfTI or MGH files, BIDS tree, or CSV with the columns subject, contrast (T1w, T2w, "
            "FLAIR), image, and if wanted mask, labels, landmarks, part (training, validation)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Dataset folder to make, or to go on with.")],
    template: Annotated[
        Path | None, typer.Option(help="Brain to align to, as `template` makes it; else that of the kit.")
    ] = None,
    stripping: Annotated[
        str,
        typer.Option(
            help="Of heads without mask: deepbet, hd-bet; none says that they are brains; auto strips those that are "
            "not, T1w by deepbet, all others by hd-bet."
        ),
    ] = "auto",
    validation: Annotated[
        int, typer.Option(min=0, help="The last so many subjects are for validation, in pairs; 0 or more than 1.")
    ] = 0,
    validation_share: Annotated[
        float,
        typer.Option(help="This share of the subjects is for validation instead, by a hash of their names."),
    ] = 0.0,
    labels_suffix: Annotated[
        str | None,
        typer.Option(help="In a folder, what names of label maps have behind that of their image; else _labels."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare subjects at the same time.")] = 1,
) -> None:
    """Make a dataset folder in the challenge's layout of scans of heads."""
    require_extra("lumirkit prepare", "prepare", "matplotlib", "pillow")
    from lumirkit.base.errors import RequestError
    from lumirkit.base.screen import say_to_stderr
    from lumirkit.prepare.dataset import PAGE_NAME, STATUS_NAME, State, prepare_dataset
    from lumirkit.prepare.parts import ValidationRule
    from lumirkit.prepare.stripping import Stripping
    from lumirkit.prepare.subject import Settings
    from lumirkit.prepare.template_files import SHIPPED_TEMPLATE

    if stripping not in tuple(Stripping):
        raise RequestError(f"--stripping {stripping}: expected one of {', '.join(Stripping)}.")
    settings = Settings(out, template or SHIPPED_TEMPLATE, Stripping(stripping))
    rule = ValidationRule(validation, validation_share)
    status = prepare_dataset(scans, settings, rule, workers, say_to_stderr, labels_suffix)
    counts = ", ".join(f"{len(status.in_state(state))} {state}" for state in State)
    print(f"{out}: {counts}; look at {out / PAGE_NAME}")
    if status.in_state(State.FAILED):
        print(f"what failed, and why: {out / STATUS_NAME}")
        raise typer.Exit(1)
