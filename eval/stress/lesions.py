"""Blobs in the white matter that the other brain does not have."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Bool, Float32, Float64
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.data_manifests.structures import structures
from lumirkit.eval.stress.balls import around
from lumirkit.eval.stress.scan import Scan

_RADII_MM = (2.0, 6.0)
_EDGE_MM = 1.0  # over which a blob fades
_HALF = 0.5  # from this share on a voxel counts as lesion
_DARK_PERCENTILE, _BRIGHT_PERCENTILE = 5.0, 99.0  # of the brain: as dark as fluid, brighter than white matter


def _lesions(percentile: float, scan: Scan, percent: float, generator: np.random.Generator) -> Scan:
    """Put blobs into the cerebral white matter, one after the other, until they take `percent` of it.

    Args:
        percentile: how bright they are, as a percentile of the brain's intensities.

    Raises:
        VolumeError: the label map has no white matter.
    """
    white = np.isin(scan.labels, [label for label, each in structures().items() if each.group == "white matter"])
    white &= scan.brain
    if not white.any():
        raise VolumeError(
            f"{scan.image.name}: its label map has no cerebral white matter; expected the labels 44 and 45. Leave "
            "lesions out."
        )
    share = _blobs(white, percent / 100, scan.voxel_mm, generator)
    value = np.percentile(scan.image.data[scan.brain], percentile)
    return scan.showing((1 - share) * scan.image.data + share * value)


dark_lesions = partial(_lesions, _DARK_PERCENTILE)
bright_lesions = partial(_lesions, _BRIGHT_PERCENTILE)


def _blobs(
    white: Bool[ndarray, "x y z"], wanted: float, voxel_mm: Float64[ndarray, " 3"], generator: np.random.Generator
) -> Float32[ndarray, "x y z"]:
    """How much of every voxel is lesion: balls with soft edges around places in the white matter, and within it.

    Args:
        wanted: the share of the white matter that is to become lesion.
    """
    places = np.argwhere(white)
    share = np.zeros(white.shape, np.float32)
    while np.count_nonzero(share > _HALF) < wanted * len(places):
        centre, radius = generator.choice(places), generator.uniform(*_RADII_MM)
        box, distance_mm = around(centre, radius + _EDGE_MM, voxel_mm, white.shape)
        ball = np.clip((radius - distance_mm) / _EDGE_MM + _HALF, 0, 1)
        share[box] = np.maximum(share[box], ball * white[box])
    return share
