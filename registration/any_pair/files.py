"""`lumirkit register`: read one pair of files, register it wherever the images lie, write the field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float32
from numpy import ndarray

from lumirkit.base.files import require_room
from lumirkit.base.heavy_imports import importing
from lumirkit.base.nifti import require_output
from lumirkit.base.outputs import require_apart
from lumirkit.base.screen import say_to_stderr
from lumirkit.registration.any_pair.background import on_dark_background
from lumirkit.registration.any_pair.pair_in_frame import FramedPair, framed
from lumirkit.registration.any_pair.start import require_start
from lumirkit.registration.convention import Convention
from lumirkit.registration.field import require_convention
from lumirkit.registration.fixed_and_moving import FixedAndMoving
from lumirkit.registration.grid import Grid
from lumirkit.registration.header import NO_CHOICE, HeaderChoice
from lumirkit.registration.masks import masked
from lumirkit.registration.precision import PrecisionChoice
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.registration.volume import Volume, read_image, read_place, require_same_shape, write_volume


@dataclass(frozen=True)
class FileOptions:
    """The choices for one pair of files, beside its images."""

    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    affine: bool = False
    """Start from the affine that ANTs finds."""
    convention: Convention | None = None
    """The convention of the field; None for the challenge's where both images share one grid, else ITK's."""
    as_is: bool = False
    """Take the arrays as they are: both are in the networks' frame, whatever their headers say."""
    choice: HeaderChoice = NO_CHOICE
    """The answers of the user to headers that leave a choice."""
    refinement: Refinement | None = None
    """What is done to the network's registration."""


@dataclass(frozen=True)
class _ReadPair:
    """Two images as a network takes them, and the moving one as its file has it."""

    in_frame: FramedPair
    convention: Convention
    moving_data: Float32[ndarray, "i j k"]


def register_and_warp(
    fixed: Path,
    moving: Path,
    out: Path,
    weights: Sequence[Path],
    device: str = "auto",
    precision: str = PrecisionChoice.AUTO,
    options: FileOptions | None = None,
    moved: Path | None = None,
    say: Callable[[str], None] = say_to_stderr,
) -> None:
    """Register one pair of files, write the field, and the moving image on the fixed grid if asked for.

    Args:
        device: see `choose_place`.
        precision: number format of the convolutions; see `choose_place`.
        moved: where to write the moving image, as its file has it, through the field.
        say: is told what was done to the images, and what may be wrong with them.

    Raises:
        VolumeError, WeightsError, RequestError: a file cannot be used; nothing was written.
    """
    options = options or FileOptions()
    require_outputs(out, moved, [fixed, moving, options.fixed_mask, options.moving_mask, *weights])
    require_start(options.affine, options.as_is)
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(_read, fixed, moving, out, options, moved, say)
        with importing():  # the import of torch takes longer than all else before the network
            from lumirkit.registration.any_pair.register import register_framed
            from lumirkit.registration.device import choose_place
            from lumirkit.registration.predictor import Predictor

        predictor = Predictor(weights, choose_place(device, precision, say), options.refinement)
        pair = reading.result()
    found = register_framed(predictor, pair.in_frame, say, options.choice, tell_likeness=True)
    found.save(out, pair.convention)
    if moved is not None:
        write_volume(moved, found.warp(pair.moving_data), found.fixed.affine)
    say(written(out, moved))


def written(out: Path, moved: Path | None) -> str:
    """The sentence that ends a registration: what was written, and where."""
    return f"written: the field {out}" + (f" and the warped image {moved}" if moved is not None else "")


def require_outputs(out: Path, moved: Path | None, inputs: Sequence[Path | None]) -> None:
    """Check that the field and the warped image can be written, and take the place of no input.

    Raises:
        RequestError: they cannot, or one would.
    """
    for path in (out, moved):
        if path is not None:
            require_output(path)
    require_apart([out, moved], inputs)


def require_room_for_outputs(out: Path, moved: Path | None, fixed_shape: Sequence[int]) -> None:
    """Check that the disks have room for the field and the warped image on the fixed grid.

    Raises:
        RequestError: one has not.
    """
    require_room(out, fixed_shape)
    if moved is not None:
        require_room(moved, fixed_shape, numbers=1)


def _read(
    fixed: Path, moving: Path, out: Path, options: FileOptions, moved: Path | None, say: Callable[[str], None]
) -> _ReadPair:
    """Read two images, and bring them to the frame that the networks know."""
    fixed_image, moving_image = (
        read_image(path, single_volume=True, choice=options.choice) for path in (fixed, moving)
    )
    require_room_for_outputs(out, moved, fixed_image.shape)
    if not options.as_is:
        FixedAndMoving(fixed, moving, options.choice).say_of_headers(say)
    fixed_brain = _brain(fixed_image, options.fixed_mask, options, say)
    moving_brain = _brain(moving_image, options.moving_mask, options, say)
    convention = _convention(options, fixed_image, moving_image)
    pair = framed(fixed_brain, moving_brain, say, affine=options.affine, as_is=options.as_is)
    return _ReadPair(pair, convention, moving_image.data)


def _brain(image: Volume, mask: Path | None, options: FileOptions, say: Callable[[str], None]) -> Volume:
    """The image within its mask, wherever the header of that places it, on background 0."""
    if mask is not None:
        image = masked(image, mask, place=None if options.as_is else read_place(mask, options.choice))
    return image if options.as_is else on_dark_background(image, say)


def _convention(options: FileOptions, fixed: Volume, moving: Volume) -> Convention:
    """Choose the convention that the field is written in, and check that it can say it."""
    if options.as_is:
        require_same_shape(fixed, moving)
    fixed_grid, moving_grid = Grid.from_image(fixed), Grid.from_image(moving)
    shares_grid = options.as_is or fixed_grid.same_as(moving_grid)
    convention = options.convention or (Convention.CHALLENGE if shares_grid else Convention.ITK)
    require_convention(convention, fixed_grid, fixed_grid if shares_grid else moving_grid, fixed.name)
    return convention
