"""The kinds of work that can be measured, and the sizes that they are usually measured at."""

from __future__ import annotations

from enum import StrEnum

Shape = tuple[int, int, int]
"""(X, Y, Z) of an image, in voxels."""

FULL_SIZE: Shape = (160, 224, 192)
STEP_SIZE: Shape = (80, 112, 96)


class Kind(StrEnum):
    """The kinds of work."""

    FORWARD = "forward"
    STEP = "step"
    TRIPLET = "triplet"
    ENSEMBLE = "ensemble"
    NOISE_PAIR = "pair of noise"
    PRIMITIVES_PAIR = "pair of primitives"
    ONE_IMAGE_PAIR = "pair of one image"
    READ_NII = "read .nii"
    READ_NII_GZ = "read .nii.gz"
    WRITE_NII = "write .nii"
    WRITE_NII_GZ = "write .nii.gz"


NETWORK_KINDS = (Kind.FORWARD, Kind.STEP, Kind.TRIPLET, Kind.ENSEMBLE)
SOURCE_KINDS = (Kind.NOISE_PAIR, Kind.PRIMITIVES_PAIR, Kind.ONE_IMAGE_PAIR)
IO_KINDS = (Kind.READ_NII, Kind.READ_NII_GZ, Kind.WRITE_NII, Kind.WRITE_NII_GZ)
