"""Transforms that ITK and ANTs write to HDF5 files, such as `Composite.h5`: one, or several that follow each other."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Float64
from nibabel.affines import from_matvec
from numpy import ndarray

from lumirkit.base.errors import RequestError
from lumirkit.registration.grid import LPS_FROM_RAS, Grid, flip_lps
from lumirkit.registration.itk_affine import DAMAGE, ItkTransform, ras_matrix, require_file, unreadable

SUFFIXES = (".h5", ".hdf5")
"""What names of such files end in."""

_GROUP = "TransformGroup"
_PARAMETERS = ("TransformParameters", "TranformParameters")  # ITK before 5.0 wrote the second
_FIXED = ("TransformFixedParameters", "TranformFixedParameters")
_GEOMETRY = 18  # numbers that place the grid of a field: size 3, origin 3, spacing 3, direction 9


def read_itk_hdf5(path: Path) -> list[Float64[ndarray, "4 4"] | tuple[Grid, Float[ndarray, "x y z 3"]]]:
    """Read all transforms of a file, in the order in which positions of the fixed image pass them.

    Returns:
        Of an affine the matrix that takes RAS mm to RAS mm, of a field its grid and its displacements in RAS mm.

    Raises:
        RequestError: the file cannot be read, or holds a transform that is neither of the two.
    """
    require_file(path)
    try:
        with h5py.File(path) as file:
            stored = [_read(file[_GROUP][number]) for number in sorted(file[_GROUP], key=int)]
        found = [_understood(path, transform) for transform in stored if "CompositeTransform" not in transform.kind]
    except DAMAGE as error:
        raise unreadable(path, error) from error
    if not found:
        raise RequestError(f"{path}: found no transform; expected one or more as ANTs writes them. Write it again.")
    return found[::-1]  # a position passes the last of a CompositeTransform first


def _read(group: h5py.Group) -> ItkTransform:
    kind = np.ravel(group["TransformType"][()])[0].decode()
    return ItkTransform(kind, _numbers(group, _PARAMETERS), _numbers(group, _FIXED))


def _numbers(group: h5py.Group, names: tuple[str, ...]) -> Float64[ndarray, " n"]:
    """The numbers of the first of these names that is there; none for a composite, which has none."""
    name = next((name for name in names if name in group), None)
    return np.empty(0) if name is None else np.ravel(group[name][()]).astype(np.float64)


def _understood(
    path: Path, transform: ItkTransform
) -> Float64[ndarray, "4 4"] | tuple[Grid, Float[ndarray, "x y z 3"]]:
    if "DisplacementFieldTransform" not in transform.kind:
        return ras_matrix(path, transform)
    if len(transform.fixed) != _GEOMETRY:
        raise ValueError(f"{len(transform.fixed)} numbers place a field, not {_GEOMETRY}")
    size, origin, spacing, direction = np.split(transform.fixed, (3, 6, 9))
    x, y, z = (int(voxels) for voxels in size)
    grid = Grid((x, y, z), LPS_FROM_RAS @ from_matvec(direction.reshape(3, 3) * spacing, origin))
    vectors = transform.parameters.reshape(z, y, x, 3).transpose(2, 1, 0, 3)
    if not np.isfinite(vectors).all():
        raise ValueError("the field holds NaN or inf")
    return grid, flip_lps(vectors)
