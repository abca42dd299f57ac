"""Head to brain: by the user's mask, by a network with weights of its own, or not at all where it is done already."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.base.extras import extra_to_install, installed_version
from lumirkit.prepare.extraction import EXTRACTORS, HD_BET, Extractor
from lumirkit.prepare.read_head import read_mask
from lumirkit.prepare.sources import Scan
from lumirkit.registration.volume import Volume

_LEAST_LITRES, _MOST_LITRES = 0.4, 2.5  # of a brain with its fluid; a whole head has 3.5 and more
_LEAST_SHARE, _MOST_SHARE = 0.2, 1.6  # of the template's volume, which frames of datasets have larger than brains are
_LEAST_CONTRAST = 0.08  # standard deviation over mean; grey and white matter alone have 0.15 and more, water 0.05
_EMPTY_FACES = 0.99  # share of 0 among the outermost voxels; the neck of a head touches one face


class Stripping(StrEnum):
    """What strips skulls where a user gives no mask."""

    AUTO = "auto"
    """Nothing where the background is 0 around a brain already, else deepbet for T1w and HD-BET for all others."""
    DEEPBET = "deepbet"
    HD_BET = "hd-bet"
    NONE = "none"
    """The images are brains."""


NO_STRIPPING = "none: the image was a brain already"
"""How the brain was found in an image that shows nothing else."""


@dataclass(frozen=True, eq=False)
class Brain:
    """Which voxels of an image are brain, and who says so."""

    inside: Bool[ndarray, "x y z"]
    how: str
    is_stripped: bool = False
    """Whether the image shows nothing else."""


def own_brain(image: Volume, scan: Scan, stripping: Stripping) -> Brain | None:
    """The brain as the user gives it, by a mask or because the image shows nothing else; None where it does not.

    Raises:
        VolumeError: the mask cannot be used.
    """
    if scan.mask is not None:
        return Brain(read_mask(scan.mask, image), f"mask of the user: {scan.mask.name}")
    if stripping is Stripping.NONE or (stripping is Stripping.AUTO and _is_stripped(image)):
        return Brain(image.data > 0, NO_STRIPPING, True)
    return None


def found_brain(image: Volume, scan: Scan, stripping: Stripping) -> Brain:
    """The brain as a network finds it.

    Raises:
        VolumeError: no network knows the scan's contrast, none that does is installed, or it found no brain.
    """
    extractor = _extractor(scan, stripping)
    version = installed_version(extractor.distribution)
    if version is None:
        raise VolumeError(
            f"{scan.image}: found a whole head without brain mask ({scan.contrast}); expected a mask, or "
            f"{extractor.name} to make one: {extra_to_install(extractor.extra)}"
        )
    try:
        inside = extractor.inside(image)
    except (AssertionError, ValueError, IndexError, RuntimeError) as error:  # what they end with where they find none
        raise VolumeError(
            f"{scan.image}: {extractor.name} found no brain ({error}). Look at the image, or give a brain mask."
        ) from error
    return Brain(inside, f"{extractor.name} {version}")


def _extractor(scan: Scan, stripping: Stripping) -> Extractor:
    """What finds the brain in a scan of this contrast.

    Raises:
        VolumeError: the one that was asked for does not know it.
    """
    if stripping is Stripping.AUTO:
        return next(each for each in EXTRACTORS if scan.contrast in each.contrasts)
    asked = next(each for each in EXTRACTORS if each.name == stripping)
    if scan.contrast not in asked.contrasts:
        raise VolumeError(
            f"{scan.image}: found a whole head without brain mask ({scan.contrast}); expected T1w, which is all "
            f"that {asked.name} knows. Choose --stripping {HD_BET.name}, or give a brain mask."
        )
    return asked


def require_brain(brain: Brain, image: Volume, template: Volume) -> None:
    """Check that what was stripped has a volume that brains have, beside the template, and tissues.

    Raises:
        VolumeError: it has not.
    """
    litres, usual = _litres(brain.inside, image), _litres(template.data > 0, template)
    if not _LEAST_SHARE * usual <= litres <= _MOST_SHARE * usual:
        raise VolumeError(
            f"{image.name}: {litres:.3g} litres are brain ({brain.how}); expected {_LEAST_SHARE * usual:.3g} to "
            f"{_MOST_SHARE * usual:.3g}, as the template has {usual:.3g}. Look at the image, and at its mask if it has "
            "one; it may be half a head, or one whose skull was not stripped."
        )
    values = image.data[brain.inside]
    if values.std() < _LEAST_CONTRAST * values.mean():
        raise VolumeError(
            f"{image.name}: is nearly the same everywhere in its brain ({brain.how}), {values.mean():.4g} with a "
            f"standard deviation of {values.std():.2g}; expected tissues. It may be a phantom of water, or a mask."
        )


def _is_stripped(image: Volume) -> bool:
    """Whether the background is exactly 0 around what has the volume of a brain."""
    faces = [np.take(image.data, end, axis) for axis in range(3) for end in (0, -1)]
    empty = np.mean(np.concatenate([face.ravel() for face in faces]) == 0)
    return bool(empty >= _EMPTY_FACES and _LEAST_LITRES <= _litres(image.data > 0, image) <= _MOST_LITRES)


def _litres(inside: Bool[ndarray, "x y z"], image: Volume) -> float:
    return float(np.count_nonzero(inside) * abs(np.linalg.det(image.affine[:3, :3])) / 1e6)
