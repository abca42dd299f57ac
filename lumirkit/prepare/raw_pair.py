"""`lumirkit register --raw`: two heads as a scanner gives them, prepared, registered, and joined in their own space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lumirkit.base.errors import RequestError
from lumirkit.base.screen import say_to_stderr
from lumirkit.prepare.aligned_scan import AlignedScan, onto_template
from lumirkit.prepare.frame import Template, read_template
from lumirkit.prepare.read_head import opened
from lumirkit.prepare.source_folder import contrast_of
from lumirkit.prepare.sources import Scan
from lumirkit.prepare.stripping import Stripping
from lumirkit.prepare.template_files import SHIPPED_TEMPLATE
from lumirkit.registration.any_pair.files import FileOptions, require_outputs, require_room_for_outputs, written
from lumirkit.registration.any_pair.pair_in_frame import FramedPair, PairGrids
from lumirkit.registration.any_pair.register import register_framed
from lumirkit.registration.convention import Convention
from lumirkit.registration.device import choose_place
from lumirkit.registration.grid import Grid
from lumirkit.registration.header import NO_CHOICE
from lumirkit.registration.image_like import grid_of
from lumirkit.registration.precision import PrecisionChoice
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.volume import Volume, write_volume


def register_raw(
    fixed: Path,
    moving: Path,
    out: Path,
    weights: Sequence[Path],
    device: str = "auto",
    precision: str = PrecisionChoice.AUTO,
    options: FileOptions | None = None,
    moved: Path | None = None,
    say: Callable[[str], None] = say_to_stderr,
    template: Path = SHIPPED_TEMPLATE,
) -> None:
    """Register two heads, write the field between them as they were scanned, and the warped head if asked for.

    The field holds everything from the fixed head's voxels to the moving head: both affines, and what the network found
    between the two brains in the frame of the template. It is in the convention of ITK unless the options say another.

    Args:
        fixed: NIfTI or MGH, as `moving` is; the contrast is that which the name tells, or else T1w.
        options: masks, how the field is refined, and how it is written; all else must be as it is by default.
        moved: where to write the moving head, as its file has it, through the field.
        say: is told what was done to each head, and what a person should look at.
        template: the brain whose frame both are brought to.

    Raises:
        VolumeError, WeightsError, RequestError: a file cannot be used; nothing was written.
    """
    options = options or FileOptions()
    _require_alone(options)
    require_outputs(out, moved, [fixed, moving, options.fixed_mask, options.moving_mask, *weights])
    require_room_for_outputs(out, moved, grid_of(opened(fixed), "fixed").shape)
    target = read_template(template)
    predictor = Predictor(weights, choose_place(device, precision, say), options.refinement)
    fixed_head, fixed_image = _prepared(fixed, options.fixed_mask, target, say)
    moving_head, moving_image = _prepared(moving, options.moving_mask, target, say)
    pair = FramedPair(fixed_image, moving_image, _grids(target.frame, fixed_head, moving_head))
    found = register_framed(predictor, pair, say, tell_likeness=True)
    found.save(out, options.convention or Convention.ITK)
    if moved is not None:
        write_volume(moved, found.warp(opened(moving)), found.fixed.affine)
    say(written(out, moved))


def _prepared(
    path: Path, mask: Path | None, target: Template, say: Callable[[str], None]
) -> tuple[AlignedScan, Volume]:
    """A head with its brain found and aligned, and that brain in the frame of the template; says what was done."""
    head = onto_template(Scan(contrast_of(path), path, mask), target.brain, Stripping.AUTO)
    framed = head.in_frame(target.frame, target.filled)
    say(f"{path}: brain: {head.brain.how}; bias: {head.bias}; {head.alignment.how} to the template")
    for suspicion in framed.quality.suspicions:
        say(f"warning: {path}: {suspicion}. Look at the image and its mask.")
    return head, Volume(head.head.name, framed.voxels.astype(np.float32), target.frame.affine)


def _grids(frame: Grid, fixed: AlignedScan, moving: AlignedScan) -> PairGrids:
    """The frame, and each head's grid where it was scanned and where it lies in the frame."""
    scanned = [Grid.from_image(each.head) for each in (fixed, moving)]
    there = [Grid.from_image(each.there) for each in (fixed, moving)]
    return PairGrids(frame, *scanned, *there)


def _require_alone(options: FileOptions) -> None:
    """Check that nothing was asked for that the preparation does by itself, or that needs brains.

    Raises:
        RequestError: something was; the message names it.
    """
    asked = {
        "--affine": options.affine,
        "--as-is": options.as_is,
        "--header or --orientation": options.choice != NO_CHOICE,
    }
    found = [name for name, is_asked in asked.items() if is_asked]
    if found:
        raise RequestError(
            f"--raw with {', '.join(found)}: expected --raw alone, as heads are always aligned to the template and "
            "their headers must say where they lie. Leave one of them out."
        )
