"""Reading images, label maps and displacement fields with checks, and writing them atomically."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from lumirkit.base.errors import VolumeError
from lumirkit.base.files import write_bytes_atomically
from lumirkit.base.nifti import DAMAGE, in_one_line, open_nifti, read_nifti
from lumirkit.registration.header import NO_CHOICE, HeaderChoice, HeaderPlace, place_of, units_of
from lumirkit.registration.label_ids import as_ids, as_int32

Float = TypeVar("Float", bound=np.floating)

DISPLACEMENT_INTENT = 1006
"""NIfTI's code for displacements, which ITK does not write."""

_VECTOR_INTENT = 1007
_PACKING_LEVEL = 1  # the levels are 0 to 3; a field gets hardly smaller beyond


@dataclass(frozen=True)
class Volume:
    """A 3-D image: `data` (X, Y, Z) float32, and the `affine` (4, 4) from voxels to mm."""

    name: Path | str
    """The file that it was read from, or what messages call an image that has none, such as "the fixed array"."""
    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    itk_affine: NDArray[np.float64] | None = None
    """Where ITK and ANTs see the image, if the header has them see it elsewhere."""
    is_guess: bool = False
    """Whether the affine is a guess, because the header says nothing."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of voxels along (X, Y, Z)."""
        x, y, z = self.data.shape
        return x, y, z


@dataclass(frozen=True)
class Header:
    """The shape of a file's voxels and the dtype of their values, known without unpacking it."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def require_same_shape(fixed: Volume, moving: Volume) -> None:
    """Check that two images can be registered voxel by voxel.

    Raises:
        VolumeError: their shapes differ.
    """
    if fixed.shape != moving.shape:
        raise VolumeError(
            f"{moving.name}: found shape {moving.shape}; expected {fixed.shape} as in the fixed image {fixed.name}. "
            "Resample one of them to the other's grid."
        )


def _decode(path: Path, dtype: type[Float], content: bytes | None) -> NDArray[Float]:
    """Read the voxels, with the scale factor applied."""
    try:
        return np.asarray(read_nifti(path, content).get_fdata(dtype=dtype, caching="unchanged"))
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _decode_unscaled(path: Path, content: bytes | None) -> NDArray[np.generic]:
    """Read the voxels in the dtype of the file, in the machine's byte order; only for images without scaling."""
    try:
        voxels = np.asanyarray(read_nifti(path, content).dataobj)
    except DAMAGE as error:
        raise _damaged(path, error) from error
    return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)


def _damaged(path: Path, error: Exception) -> VolumeError:
    return VolumeError(f"{path}: the file is damaged or truncated ({in_one_line(error)}). Copy or download it again.")


def _require_numbers(path: Path, image: nib.Nifti1Image) -> None:
    """Check that every voxel is one real number, not a colour or a complex number."""
    stored = image.get_data_dtype()
    if stored.kind not in "uif":
        raise VolumeError(
            f"{path}: found values of type {stored.newbyteorder('=')}, such as colours or complex numbers; expected "
            "one real number a voxel. Convert it to a grey image or its magnitude."
        )


def _is_scaled(image: nib.Nifti1Image) -> bool:
    return bool(getattr(image.dataobj, "slope", 1) != 1 or getattr(image.dataobj, "inter", 0) != 0)


def spatial_shape(name: Path | str, shape: tuple[int, ...], single_volume: bool) -> tuple[int, ...]:
    """The first three axes of an image's shape, where it has no others, or none of more than one voxel.

    Args:
        single_volume: accept more axes of one voxel, as a series of one volume has.

    Raises:
        VolumeError: the image is not 3-D.
    """
    if len(shape) != 3 and not (single_volume and len(shape) > 3 and set(shape[3:]) == {1}):
        raise VolumeError(
            f"{name}: found a {len(shape)}-D volume of shape {shape}; expected 3-D (X, Y, Z). "
            "Save the one volume that is meant on its own."
        )
    return shape[:3]


def read_image(
    path: Path, content: bytes | None = None, single_volume: bool = False, choice: HeaderChoice = NO_CHOICE
) -> Volume:
    """Read one 3-D image as float32.

    Args:
        content: the bytes of the file, where the caller has read them already.
        single_volume: accept more axes of one voxel, as a series of one volume has.
        choice: what the user says of a header that leaves a choice.

    Raises:
        VolumeError: the file is missing, unreadable, truncated, not 3-D, holds NaN or inf, or is constant zero.
    """
    image = open_nifti(path)
    shape = spatial_shape(path, image.shape, single_volume)
    _require_numbers(path, image)
    data = _decode(path, np.float32, content).reshape(shape)
    require_brain(path, data)
    place = place_of(image, path, choice)
    return Volume(path, data.astype(np.float32, copy=False), place.affine, place.itk_affine, place.is_guess)


def require_brain(name: Path | str, data: NDArray[np.floating]) -> None:
    """Check the voxels of an image: more than a slice, finite, and some not background.

    Raises:
        VolumeError: it is a single slice, there is NaN or inf among its voxels, or all are zero.
    """
    if min(data.shape) == 1:
        raise VolumeError(
            f"{name}: found a single slice, of shape {data.shape}; expected a volume. Give the whole series of slices."
        )
    broken = int(data.size - np.isfinite(data).sum())
    if broken:
        raise VolumeError(f"{name}: {broken} voxels are NaN or inf; expected finite intensities. Set them to 0.")
    if not data.any():
        raise VolumeError(f"{name}: every voxel is zero; expected a brain on zero background. Check the export.")


def read_header(path: Path) -> Header:
    """Read the header of a NIfTI file; values that a scale factor applies to are float64.

    Raises:
        VolumeError: the file is missing or not NIfTI.
    """
    image = open_nifti(path)
    return Header(tuple(image.shape), np.dtype(np.float64) if _is_scaled(image) else image.get_data_dtype())


def read_labels(path: Path, content: bytes | None = None, single_volume: bool = False) -> NDArray[np.int32]:
    """Read a label map (X, Y, Z) as int32; see `read_ids`.

    Args:
        content: the bytes of the file, where the caller has read them already.
        single_volume: accept more axes of one voxel, as a series of one volume has.

    Raises:
        VolumeError: the file is missing, unreadable, not 3-D, or holds values that are not whole numbers of int32.
    """
    shape = spatial_shape(path, open_nifti(path).shape, single_volume)
    return as_int32(read_ids(path, content), path).reshape(shape)


def read_ids(path: Path, content: bytes | None = None) -> NDArray[np.integer]:
    """Read the ids of a label map with any number of axes, in the integer type of the file, or as `as_ids` finds one.

    Args:
        content: the bytes of the file, where the caller has read them already.

    Raises:
        VolumeError: the file is missing or unreadable, or holds values that are not whole numbers.
    """
    image = open_nifti(path)
    slope = getattr(image.dataobj, "slope", 1)
    return as_ids(_values(path, image, content), path, 0 if slope == 1 else abs(float(slope)))


def read_values(path: Path, content: bytes | None = None) -> NDArray[np.generic]:
    """Read the values of an image (X, Y, Z), such as a mask, in the file's type, or as float64 where it scales them.

    Args:
        content: the bytes of the file, where the caller has read them already.

    Raises:
        VolumeError: the file is missing, unreadable, not 3-D, or holds no real numbers.
    """
    values = _values(path, open_nifti(path), content)
    return values.reshape(spatial_shape(path, values.shape, single_volume=True))


def _values(path: Path, image: nib.Nifti1Image, content: bytes | None) -> NDArray[np.generic]:
    _require_numbers(path, image)
    return _decode(path, np.float64, content) if _is_scaled(image) else _decode_unscaled(path, content)


def read_intensities(path: Path) -> NDArray[np.float32]:
    """Read the values of an image with any number of axes as float32; they may be zero everywhere.

    Raises:
        VolumeError: the file is missing or unreadable, or holds no real numbers.
    """
    _require_numbers(path, open_nifti(path))
    return _decode(path, np.float32, None).astype(np.float32, copy=False)


def read_description(path: Path) -> str:
    """Read the description of a NIfTI file; reads the header alone.

    Raises:
        VolumeError: the file is missing or not NIfTI.
    """
    return bytes(open_nifti(path).header["descrip"]).rstrip(b"\0").decode(errors="replace")


def read_affine(path: Path) -> NDArray[np.float64]:
    """Read the affine (4, 4) of a NIfTI file, from voxels to mm; reads the header alone.

    Raises:
        VolumeError: the file is missing, unreadable or has no affine.
    """
    return read_place(path).affine


def read_place(path: Path, choice: HeaderChoice = NO_CHOICE) -> HeaderPlace:
    """Read where a NIfTI file lies; reads the header alone.

    Raises:
        VolumeError: the file is missing, unreadable or has no affine.
    """
    return place_of(open_nifti(path), path, choice)


def read_displacement(path: Path, shape: tuple[int, int, int], content: bytes | None = None) -> NDArray[np.floating]:
    """Read a displacement field in voxels as (X, Y, Z, 3); files of shape (3, X, Y, Z) are accepted.

    The result has the precision of the file, float32 or float64. Fields stored as integers are refused, scaled ones
    too: the challenge asks for float32 in full precision, and an integer field is a rounded one.

    Args:
        shape: the (X, Y, Z) of the fixed image the field belongs to.
        content: the bytes of the file, where the caller has read them already.

    Raises:
        VolumeError: the file is missing, unreadable, of another shape, stored as integers, or holds NaN or inf.
    """
    image = open_nifti(path)
    channels_first = _channels_first(path, image.shape, shape)
    disp_vox = _decode_displacement(path, image, content)
    return np.moveaxis(disp_vox, 0, -1) if channels_first else disp_vox


def read_vectors(path: Path, other_intents: Container[int] = ()) -> NDArray[np.floating]:
    """Read a vector image, NIfTI of shape (X, Y, Z, 1, 3) with the intent that says so, as (X, Y, Z, 3).

    Args:
        other_intents: what else may say so.

    Raises:
        VolumeError: the file is missing, unreadable, no such image, stored as integers, or holds NaN or inf.
    """
    image = open_nifti(path)
    intent = int(image.header["intent_code"])
    if len(image.shape) != 5 or image.shape[3:] != (1, 3) or (intent != _VECTOR_INTENT and intent not in other_intents):
        raise VolumeError(
            f"{path}: found shape {image.shape} and intent {intent}; expected a vector image of shape (X, Y, Z, 1, 3) "
            f"and intent {_VECTOR_INTENT}. Write the field with ITK or ANTs, or as (X, Y, Z, 3) in voxels."
        )
    return _decode_displacement(path, image, None)[:, :, :, 0]


def _decode_displacement(path: Path, image: nib.Nifti1Image, content: bytes | None) -> NDArray[np.floating]:
    """Read the values of a field, in the shape and the precision of the file."""
    stored = image.get_data_dtype()
    if stored.kind != "f":
        scaled = " with a scale factor" if _is_scaled(image) else ""
        raise VolumeError(
            f"{path}: found a field stored as {stored.newbyteorder('=')}{scaled}; expected float32 displacements in "
            "full precision. Write it again from the unrounded field, with dtype float32 and no scaling."
        )
    values: NDArray[np.floating]
    if _is_scaled(image) or stored.itemsize not in (4, 8):
        values = _decode(path, np.float64, content)
    else:
        values = _decode_unscaled(path, content)  # type: ignore[assignment]
    broken = int(values.size - np.isfinite(values).sum())
    if broken:
        raise VolumeError(
            f"{path}: the field holds NaN or inf ({broken} values); expected finite displacements. Make it again."
        )
    return values


def _channels_first(path: Path, found: tuple[int, ...], shape: tuple[int, int, int]) -> bool:
    """Tell whether the components of a field come first; the evaluator takes a first axis of 3 for the components."""
    if found == (*shape, 3) and shape[0] == 3:
        raise VolumeError(
            f"{path}: found shape {found}, whose layout is ambiguous: the first axis and the last could both be the "
            f"components. Expected (3, X, Y, Z) for images of 3 voxels along x, here {(3, *shape)}."
        )
    if found[3:] == (1, 3):
        raise VolumeError(
            f"{path}: found shape {found}, a field in the format of ITK; expected {(*shape, 3)}, in voxels. Write it "
            "so by `lumirkit export --format challenge`."
        )
    if found not in ((*shape, 3), (3, *shape)):
        raise VolumeError(
            f"{path}: found shape {found}; expected {(*shape, 3)} or {(3, *shape)} for this pair. "
            "Write the field on the fixed image's grid."
        )
    return found == (3, *shape)


def write_displacement(
    path: Path, disp_vox: NDArray[np.float32], affine: NDArray[np.float64], description: str = ""
) -> None:
    """Write a displacement field (X, Y, Z, 3) in voxels as float32 NIfTI; see `write_volume`."""
    write_volume(path, np.ascontiguousarray(disp_vox, dtype=np.float32), affine, description)


def write_vectors(path: Path, vectors: NDArray[np.floating], affine: NDArray[np.float64]) -> None:
    """Write vectors (X, Y, Z, 3) as a float32 vector image, as ITK reads it: (X, Y, Z, 1, 3); see `write_volume`."""
    write_volume(path, vectors[:, :, :, None].astype(np.float32), affine, intent=_VECTOR_INTENT)


def write_volume(
    path: Path,
    data: NDArray[np.generic],
    affine: NDArray[np.float64],
    description: str = "",
    intent: int = 0,
    timed_as: nib.Nifti1Header | None = None,
) -> None:
    """Write an array as NIfTI in its own dtype, atomically; equal content gives equal bytes.

    Args:
        description: what the header says of the file; up to 79 characters.
        intent: NIfTI's code for what the values are; 0 says nothing.
        timed_as: the header of a series of as many volumes, whose time step and first time are kept.
    """
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.header["intent_code"] = intent
    if timed_as is not None:
        image.header.set_xyzt_units("mm", units_of(timed_as)[1])
        image.header["pixdim"][4], image.header["toffset"] = timed_as["pixdim"][4], timed_as["toffset"]
    image.header["descrip"] = description.encode()
    content = image.to_bytes()
    packed = igzip.compress(content, _PACKING_LEVEL, mtime=0) if path.suffix == ".gz" else content
    write_bytes_atomically(path, packed)
