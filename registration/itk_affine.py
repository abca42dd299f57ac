"""Affine transforms as ITK and ANTs write them, read and written without ITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from nibabel.affines import from_matvec
from numpy import ndarray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from scipy.spatial.transform import Rotation

from lumirkit.base.errors import RequestError
from lumirkit.base.files import write_text_atomically
from lumirkit.registration.grid import LPS_FROM_RAS

SUFFIXES = (".mat", ".txt", ".tfm", ".lta", ".xfm")
"""What names of affines end in, those of other tools too, which are refused by the name of the tool."""

_OTHER_TOOLS = {
    ".lta": "a transform of FreeSurfer; expected one of ITK. Convert it, as `lta_convert --inlta … --outitk …` does.",
    ".xfm": "a transform of MINC; expected one of ITK. Convert it, as `lta_convert --inmni … --outitk …` does.",
}
_ELEMENTS = 16  # of a matrix (4, 4)

DAMAGE = (OSError, ValueError, TypeError, IndexError, KeyError, UnicodeDecodeError, MatReadError, NotImplementedError)
"""What reading a damaged transform raises."""


class ItkTransform(NamedTuple):
    """A transform as ITK stores it: the name of its type, such as AffineTransform_double_3_3, and its numbers."""

    kind: str
    parameters: Float64[ndarray, " n"]
    fixed: Float64[ndarray, " m"]


def read_itk_affine(path: Path) -> Float64[ndarray, "4 4"]:
    """Read an affine transform: the matrix that takes fixed positions to moving ones, both in RAS mm.

    Raises:
        RequestError: the file cannot be read, or holds something else than one affine, rigid or translation.
    """
    require_file(path)
    _require_of_itk(path)
    try:
        transform = _read_matlab(path) if path.suffix == ".mat" else _read_text(path)
        return ras_matrix(path, transform)
    except DAMAGE as error:
        raise unreadable(path, error) from error


def write_itk_affine(path: Path, matrix: Float64[ndarray, "4 4"]) -> None:
    """Write an affine in ITK's text format, which ITK and ANTs read: from fixed to moving positions, both in RAS mm.

    Raises:
        OSError: the file cannot be written.
    """
    lps = LPS_FROM_RAS @ matrix @ LPS_FROM_RAS
    numbers = " ".join(repr(float(number)) for number in (*lps[:3, :3].ravel(), *lps[:3, 3]))
    lines = (
        "#Insight Transform File V1.0",
        "#Transform 0",
        "Transform: AffineTransform_double_3_3",
        f"Parameters: {numbers}",
        "FixedParameters: 0 0 0",
    )
    write_text_atomically(path, "\n".join(lines) + "\n")


def require_file(path: Path) -> None:
    """Check that a transform is there.

    Raises:
        RequestError: it is not.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file; expected a transform of ITK. Check the path.")


def _require_of_itk(path: Path) -> None:
    """Check that an affine was not written by a tool whose convention needs both images to be understood.

    Raises:
        RequestError: it was; the message names the tool.
    """
    if path.suffix in _OTHER_TOOLS:
        raise RequestError(f"{path}: found {_OTHER_TOOLS[path.suffix]}")
    if path.suffix == ".mat" and _is_matrix_in_text(path):
        raise RequestError(
            f"{path}: found a matrix in text, as FLIRT writes it, between voxels of two images; expected a transform "
            "of ITK. Convert it, as `c3d_affine_tool -ref … -src … … -fsl2ras -oitk …` does."
        )


def _is_matrix_in_text(path: Path) -> bool:
    try:
        return len([float(word) for word in path.read_text(encoding="ascii").split()]) == _ELEMENTS
    except (OSError, ValueError):  # no text, or no numbers
        return False


def unreadable(path: Path, error: Exception) -> RequestError:
    """The refusal of a file that holds no transform, or a damaged one."""
    return RequestError(
        f"{path}: not a readable transform of ITK ({error}); expected one affine as ANTs writes it. Write it again."
    )


def ras_matrix(path: Path, transform: ItkTransform) -> Float64[ndarray, "4 4"]:
    """The matrix of an affine transform, which takes fixed positions to moving ones, both in RAS mm.

    Raises:
        RequestError: it is no affine, rigid or translation, or has no inverse; the message names the file.
    """
    lps = _matrix(*transform)
    if lps is None:
        raise RequestError(
            f"{path}: found a {transform.kind}; expected one affine, rigid, similarity or translation transform in "
            "three dimensions. Write it as one, as `antsApplyTransforms -o Linear[affine.mat] -t …` does."
        )
    if not np.isfinite(lps).all() or abs(np.linalg.det(lps)) < 1e-12:
        raise RequestError(f"{path}: found the matrix {lps.tolist()}, which has no inverse. Write the transform again.")
    return LPS_FROM_RAS @ lps @ LPS_FROM_RAS


def _read_matlab(path: Path) -> ItkTransform:
    """The transform of a file in Matlab's format."""
    held = {name: values for name, values in loadmat(path).items() if not name.startswith("__")}
    fixed = held.pop("fixed")
    if len(held) != 1:
        raise ValueError(f"it holds {len(held)} transforms")
    ((kind, parameters),) = held.items()
    return ItkTransform(kind, np.ravel(parameters).astype(np.float64), np.ravel(fixed).astype(np.float64))


def _read_text(path: Path) -> ItkTransform:
    """The transform of a file in ITK's text format."""
    text = path.read_text(encoding="utf-8")
    if not text.startswith("#Insight Transform File"):
        raise ValueError("its first line is not #Insight Transform File")
    lines = re.findall(r"^(Transform|Parameters|FixedParameters):[ \t]*(.*?)\s*$", text, re.MULTILINE)
    if [name for name, _ in lines] != ["Transform", "Parameters", "FixedParameters"]:
        raise ValueError("it does not hold exactly one transform")
    kind, parameters, fixed = (value for _, value in lines)
    return ItkTransform(kind, np.array(parameters.split(), np.float64), np.array(fixed.split(), np.float64))


def _matrix(
    kind: str, parameters: Float64[ndarray, " n"], fixed: Float64[ndarray, " m"]
) -> Float64[ndarray, "4 4"] | None:
    """The matrix in LPS mm; None for a type that is none of an affine."""
    name, _, numbers = kind.partition("_")
    if not numbers.endswith("_3_3"):
        return None
    if name == "IdentityTransform":
        return np.eye(4)
    if name == "TranslationTransform" and len(parameters) == 3:
        return from_matvec(np.eye(3), parameters)
    if name in ("AffineTransform", "MatrixOffsetTransformBase") and len(parameters) == 12:
        linear, shift = parameters[:9].reshape(3, 3), parameters[9:]
    elif name == "Euler3DTransform" and len(parameters) == 6:
        order = "zyx" if len(fixed) > 3 and fixed[3] else "zxy"
        angles = dict(zip("xyz", parameters[:3], strict=True))
        linear = Rotation.from_euler(order.upper(), [angles[axis] for axis in order]).as_matrix()
        shift = parameters[3:]
    elif (name, len(parameters)) in (("VersorRigid3DTransform", 6), ("Similarity3DTransform", 7)):
        versor, shift, scale = parameters[:3], parameters[3:6], parameters[6:].prod()  # 1 where there is none
        real = np.sqrt(max(0, 1 - versor @ versor))
        linear = scale * Rotation.from_quat([*versor, real]).as_matrix()
    else:
        return None
    centre = fixed[:3]
    return from_matvec(linear, shift + centre - linear @ centre)
