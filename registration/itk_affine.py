"""Affine transforms as ITK and ANTs write them, read without ITK."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from nibabel.affines import from_matvec
from numpy import ndarray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from scipy.spatial.transform import Rotation

from lumirkit.base.errors import RequestError
from lumirkit.registration.grid import LPS_FROM_RAS

SUFFIXES = (".mat", ".txt", ".tfm", ".h5", ".hdf5")
"""What names of transforms end in that are no images."""

_DAMAGE = (OSError, ValueError, TypeError, IndexError, KeyError, UnicodeDecodeError, MatReadError, NotImplementedError)


def read_itk_affine(path: Path) -> Float64[ndarray, "4 4"]:
    """Read an affine transform: the matrix that takes fixed positions to moving ones, both in RAS mm.

    Raises:
        RequestError: the file cannot be read, or holds something else than one affine, rigid or translation.
    """
    if path.suffix in (".h5", ".hdf5"):
        raise RequestError(
            f"{path}: found a transform in HDF5; expected .mat, .txt or .tfm. Take it apart by ANTs's "
            "CompositeTransformUtil --disassemble."
        )
    try:
        kind, parameters, centre = _read_matlab(path) if path.suffix == ".mat" else _read_text(path)
        lps = _matrix(kind, parameters, centre)
    except _DAMAGE as error:
        raise RequestError(
            f"{path}: not a readable transform of ITK ({error}); expected one affine as ANTs writes it. Write it again."
        ) from error
    if lps is None:
        raise RequestError(
            f"{path}: found a {kind}; expected one affine, Euler or translation transform in three dimensions. Convert "
            "it by antsApplyTransforms."
        )
    if not np.isfinite(lps).all() or abs(np.linalg.det(lps)) < 1e-12:
        raise RequestError(f"{path}: found the matrix {lps.tolist()}, which has no inverse. Write the transform again.")
    return LPS_FROM_RAS @ lps @ LPS_FROM_RAS


def _read_matlab(path: Path) -> tuple[str, Float64[ndarray, " n"], Float64[ndarray, " m"]]:
    """The type, the parameters and the fixed parameters of a transform in Matlab's format."""
    held = {name: values for name, values in loadmat(path).items() if not name.startswith("__")}
    fixed = held.pop("fixed")
    if len(held) != 1:
        raise ValueError(f"it holds {len(held)} transforms")
    ((kind, parameters),) = held.items()
    return kind, np.ravel(parameters).astype(np.float64), np.ravel(fixed).astype(np.float64)


def _read_text(path: Path) -> tuple[str, Float64[ndarray, " n"], Float64[ndarray, " m"]]:
    """The type, the parameters and the fixed parameters of a transform in ITK's text format."""
    text = path.read_text(encoding="utf-8")
    if not text.startswith("#Insight Transform File"):
        raise ValueError("its first line is not #Insight Transform File")
    lines = re.findall(r"^(Transform|Parameters|FixedParameters):[ \t]*(.*?)\s*$", text, re.MULTILINE)
    if [name for name, _ in lines] != ["Transform", "Parameters", "FixedParameters"]:
        raise ValueError("it does not hold exactly one transform")
    kind, parameters, fixed = (value for _, value in lines)
    return kind, np.array(parameters.split(), np.float64), np.array(fixed.split(), np.float64)


def _matrix(
    kind: str, parameters: Float64[ndarray, " n"], fixed: Float64[ndarray, " m"]
) -> Float64[ndarray, "4 4"] | None:
    """The matrix in LPS mm; None for a type that is none of an affine."""
    name, _, numbers = kind.partition("_")
    if not numbers.endswith("_3_3"):
        return None
    if name == "TranslationTransform" and len(parameters) == 3:
        return from_matvec(np.eye(3), parameters)
    if name in ("AffineTransform", "MatrixOffsetTransformBase") and len(parameters) == 12:
        linear, shift = parameters[:9].reshape(3, 3), parameters[9:]
    elif name == "Euler3DTransform" and len(parameters) == 6:
        order = "zyx" if len(fixed) > 3 and fixed[3] else "zxy"
        angles = dict(zip("xyz", parameters[:3], strict=True))
        linear = Rotation.from_euler(order.upper(), [angles[axis] for axis in order]).as_matrix()
        shift = parameters[3:]
    else:
        return None
    centre = fixed[:3]
    return from_matvec(linear, shift + centre - linear @ centre)
