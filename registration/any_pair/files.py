"""From weights and one pair of files to a field file, wherever the images lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.base.nifti import require_output
from lumirkit.registration.any_pair.anywhere import register_anywhere
from lumirkit.registration.any_pair.start import require_ants
from lumirkit.registration.convention import Convention
from lumirkit.registration.field import require_convention, write_field
from lumirkit.registration.grid import Grid
from lumirkit.registration.masks import masked
from lumirkit.registration.place import Place
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.volume import Volume, read_image, require_same_shape


@dataclass(frozen=True)
class FileOptions:
    """What one pair of files may need beside its images."""

    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    affine: bool = False
    """Start from the affine that ANTs finds."""
    convention: Convention | None = None
    """Of the field; None: the challenge's where both images share one grid, else ITK's."""
    as_is: bool = False
    """Take the arrays as they are: both are in the networks' frame, whatever their headers say."""


def predict_file(
    fixed: Path,
    moving: Path,
    out: Path,
    weights: Sequence[Path],
    place: Place,
    options: FileOptions | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Register one pair of files, of any orientation, spacing and intensities, and write the field.

    Args:
        say: is told what was done to the images, and what may be wrong with them.

    Raises:
        VolumeError, WeightsError, RequestError: a file cannot be used; nothing was written.
    """
    options = options or FileOptions()
    require_output(out)
    if options.affine:
        if options.as_is:
            raise RequestError("--affine with --as-is: expected one of them; images taken as they are stay as they are")
        require_ants()
    fixed_image, moving_image = _read(fixed, options.fixed_mask), _read(moving, options.moving_mask)
    fixed_grid, moving_grid = Grid.from_image(fixed_image), Grid.from_image(moving_image)
    if options.as_is:
        require_same_shape(fixed_image, moving_image)
    shares_grid = options.as_is or fixed_grid.same_as(moving_grid)
    convention = options.convention or (Convention.CHALLENGE if shares_grid else Convention.ITK)
    require_convention(convention, fixed_grid, fixed_grid if shares_grid else moving_grid, fixed)
    predictor = Predictor(weights, place)
    if options.as_is:
        disp_vox = predictor(fixed_image, moving_image)
    else:
        disp_vox = register_anywhere(predictor, fixed_image, moving_image, options.affine, say)
    if not np.isfinite(disp_vox).all():
        raise VolumeError(f"{fixed} and {moving}: the network gave NaN or inf; check the weights and both images")
    write_field(out, disp_vox, fixed_grid, moving_grid, convention)


def _read(image: Path, mask: Path | None) -> Volume:
    volume = read_image(image, single_volume=True)
    return volume if mask is None else masked(volume, mask)
