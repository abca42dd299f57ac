"""Where the header of a NIfTI file places its voxels: by its sform, its qform, or a guess; and where ITK sees them.

A header can say it twice, and tools differ in what they take. nibabel takes the sform wherever its code is not 0. ITK,
and ANTs with it, take the qform where both are set, unless the sform's code is 1 and its axes are at right angles; with
the sform they take the spacing from `pixdim`, and of units other than mm they scale the spacing, not the origin. An
affine here takes voxels to RAS mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float64
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.spatialimages import SpatialImage
from numpy import ndarray

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.registration.header_form import HeaderForm

Affine = Float64[ndarray, "4 4"]

_SAME_PLACE_MM = 0.01  # headers keep float32, and quaternions in one form and matrices in the other
_SAME_PLACE_VOX = 0.05  # of voxels so small that this is less
SQUARE = 2e-4  # largest cosine between axes that ITK takes for orthogonal
_ROUNDING_MM = 0.1  # between two forms that are meant to say the same
_ROUNDING_VOX = 0.5  # of voxels so small that this is less
_MM = {"meter": 1e3, "micron": 1e-3}
_TIME_UNITS_FROM = 8  # below it the code of the units is that of space
_SCANNER = 1  # the code of an sform that ITK prefers to the qform
_OPPOSITES = ("RL", "AP", "SI")
_QUIETLY = np.errstate(all="ignore")  # numbers of a broken header may be inf, NaN or 0; whoever needs them checks them


@dataclass(frozen=True)
class HeaderChoice:
    """What a user says about headers that leave a choice."""

    form: HeaderForm | None = None
    """The form to take where both are set; None takes the sform."""
    orientation: str | None = None
    """Where the axes of a file point whose header does not say it, such as "RAS"; None guesses."""


@dataclass(frozen=True, eq=False)
class HeaderPlace:
    """Where an image lies."""

    affine: Affine
    itk_affine: Affine | None
    """Where ITK and ANTs see it, if that is elsewhere."""
    is_guess: bool
    """Whether the header says nothing and the user neither."""


NO_CHOICE = HeaderChoice()


@_QUIETLY
def place_of(image: SpatialImage, name: Path | str, choice: HeaderChoice = NO_CHOICE) -> HeaderPlace:
    """Where an image lies, by its header and what the user says of it.

    Raises:
        VolumeError: it has no affine.
        RequestError: the orientation that the user says is none.
    """
    if image.affine is None:
        raise VolumeError(f"{name}: the header has no affine; expected a NIfTI sform or qform. Rewrite the header.")
    if not isinstance(image, nib.Nifti1Pair):
        return HeaderPlace(np.asarray(image.affine, np.float64), None, False)
    forms = _forms(image)
    affine = _taken(image, forms, choice)
    itk_affine = _seen_by_itk(image, forms)
    is_one = in_one_place(_shape(image), affine, itk_affine)
    return HeaderPlace(affine, None if is_one else itk_affine, not forms and choice.orientation is None)


@_QUIETLY
def header_remark(image: SpatialImage, name: Path | str, choice: HeaderChoice = NO_CHOICE) -> str | None:
    """What a user should know about where a header places its image, or None; see `place_of`."""
    if not isinstance(image, nib.Nifti1Pair) or image.affine is None:
        return None
    forms, place, shape = _forms(image), place_of(image, name, choice), _shape(image)
    if place.is_guess:
        return (
            f"warning: {name}: its header says neither where it lies nor which side is left (the codes of qform and "
            f"sform are 0); guessed {_text(place.affine)}. Say how its axes run with --orientation, such as RAS."
        )
    itk = place.affine if place.itk_affine is None else place.itk_affine
    if len(forms) == 2 and choice.form is None and _clearly_apart(shape, *forms.values()):
        texts = (f"{form} (code {int(image.header[f'{form}_code'])}): {_text(forms[form])}" for form in HeaderForm)
        theirs = min(forms, key=lambda form: _apart_mm(shape, forms[form], itk))
        return (
            f"warning: {name}: the two forms of its header differ: {'; '.join(texts)}. Took the sform; ANTs and ITK "
            f"take the {theirs}. Say which one is right with --header."
        )
    if choice == NO_CHOICE and _clearly_apart(shape, place.affine, itk):
        return (
            f"warning: {name}: its header is read as {_text(place.affine)}; ANTs and ITK read it as {_text(itk)}, "
            "which fields in their format follow. Repair the spacing, the units or the axes in the header."
        )
    return None


def _forms(image: nib.Nifti1Pair) -> dict[HeaderForm, Affine]:
    """The forms that are set and can be read, as affines to mm."""
    to_mm = _mm_per_unit(image)
    forms = {}
    if image.header["sform_code"] > 0:
        forms[HeaderForm.SFORM] = _scaled(image.affine, to_mm)
    if image.header["qform_code"] > 0:
        try:
            qform = image.header.get_qform()
        except (ValueError, nib.spatialimages.HeaderDataError):
            return forms
        if np.isfinite(qform).all():
            forms[HeaderForm.QFORM] = _scaled(qform, to_mm)
    return forms


def _taken(image: nib.Nifti1Pair, forms: dict[HeaderForm, Affine], choice: HeaderChoice) -> Affine:
    if forms:
        return forms.get(choice.form or HeaderForm.SFORM, next(iter(forms.values())))
    if choice.orientation is None:
        return _scaled(image.affine, _mm_per_unit(image))
    linear = _axes(choice.orientation) * _spacing_mm(image)
    return from_matvec(linear, -linear @ (np.array(_shape(image)) - 1) / 2)


def _seen_by_itk(image: nib.Nifti1Pair, forms: dict[HeaderForm, Affine]) -> Affine:
    spacing_mm = _spacing_mm(image)
    if not forms:
        return np.diag([-1, -1, 1, 1]) * np.array([*spacing_mm, 1])
    sform, qform = forms.get(HeaderForm.SFORM), forms.get(HeaderForm.QFORM)
    if sform is None or (qform is not None and not (image.header["sform_code"] == _SCANNER and is_square(sform))):
        affine = qform
    else:
        edges_mm = voxel_sizes(sform)
        given = np.isfinite(spacing_mm) & (spacing_mm > 0)
        affine = from_matvec(sform[:3, :3] / edges_mm * np.where(given, spacing_mm, edges_mm), sform[:3, 3])
    assert affine is not None
    return from_matvec(affine[:3, :3], affine[:3, 3] / _mm_per_unit(image))


def is_square(affine: Affine) -> bool:
    """Whether the axes are at right angles, as ITK expects."""
    axes = affine[:3, :3] / voxel_sizes(affine)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() < SQUARE)


def in_one_place(shape: tuple[int, ...], one: Affine, other: Affine) -> bool:
    """Whether two affines place the voxels of one array alike, but for the rounding of headers."""
    return _apart_mm(shape, one, other) < min(_SAME_PLACE_MM, _SAME_PLACE_VOX * _smallest_edge_mm(one, other))


def _clearly_apart(shape: tuple[int, ...], one: Affine, other: Affine) -> bool:
    """Whether two affines, of which one was meant to say the same as the other, do not."""
    return _apart_mm(shape, one, other) > min(_ROUNDING_MM, _ROUNDING_VOX * _smallest_edge_mm(one, other))


def _smallest_edge_mm(one: Affine, other: Affine) -> float:
    return float(min(voxel_sizes(one).min(), voxel_sizes(other).min()))


def _apart_mm(shape: tuple[int, ...], one: Affine, other: Affine) -> float:
    """How far two affines place the corners of one array apart, at most."""
    corners = np.array(list(product(*((0, size - 1) for size in shape))))
    return float(np.abs(apply_affine(one, corners) - apply_affine(other, corners)).max())


def _shape(image: nib.Nifti1Pair) -> tuple[int, ...]:
    return (*image.shape, 1, 1)[:3]


def _spacing_mm(image: nib.Nifti1Pair) -> Float64[ndarray, " 3"]:
    return np.abs(image.header["pixdim"][1:4]).astype(np.float64) * _mm_per_unit(image)


def _mm_per_unit(image: nib.Nifti1Pair) -> float:
    return _MM.get(units_of(image.header)[0], 1.0)


def units_of(header: nib.Nifti1Header) -> tuple[str, str]:
    """The units of space and time that a header names, each "unknown" where NIfTI does not know its code."""
    code = int(header["xyzt_units"])
    space = code % _TIME_UNITS_FROM
    names = nib.nifti1.unit_codes.label
    return str(names.get(space, "unknown")), str(names.get(code - space, "unknown"))


def _scaled(affine: Affine, factor: float) -> Affine:
    return from_matvec(affine[:3, :3] * factor, affine[:3, 3] * factor)


def _axes(orientation: str) -> Float64[ndarray, "3 3"]:
    """The directions, as columns, in which three letters say that the axes run."""
    letters = orientation.upper()
    axes = [next((i for i, pair in enumerate(_OPPOSITES) if letter in pair), None) for letter in letters]
    if sorted(axes, key=str) != [0, 1, 2]:
        raise RequestError(
            f"--orientation: found {orientation!r}; expected where the three axes run, one letter each of R or L, "
            "A or P, S or I, such as RAS."
        )
    directions = np.zeros((3, 3))
    for axis, letter in enumerate(letters):
        world = axes[axis]
        directions[world, axis] = 1 if letter in "RAS" else -1
    return directions


def _text(affine: Affine) -> str:
    spacing = "x".join(f"{mm:.4g}" for mm in voxel_sizes(affine))
    origin = ", ".join(f"{mm:.4g}" for mm in affine[:3, 3])
    return f"{spacing} mm, {axes_text(affine)}, first voxel at {origin} mm"


def axes_text(affine: Affine) -> str:
    """Where the axes run, one letter each, such as RAS; "?" for an axis that runs nowhere."""
    if not np.isfinite(affine).all():
        return "???"
    return "".join(code or "?" for code in nib.aff2axcodes(affine))
