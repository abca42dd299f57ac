"""Heads around phantom brains: a dark gap, a bright shell, turned and shifted, in any orientation and spacing."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import from_matvec
from scipy.ndimage import binary_dilation, generate_binary_structure
from scipy.spatial.transform import Rotation

from lumirkit.phantoms.brains import T1, Contrast, PhantomSpec, Subject, make_subject
from lumirkit.registration.volume import write_volume

SHAPE = (48, 56, 48)
SPACING_MM = np.array([132.0, 172.0, 128.0]) / (0.84 * np.array(SHAPE))  # in which the phantom has its natural size
PAD = 10  # voxels around the brain's grid
GAP, SCALP = 2, 6  # voxels; a head has more than twice the volume of its brain
TURNED = from_matvec(Rotation.from_euler("xyz", [8, -5, 11], degrees=True).as_matrix(), [12.0, -20.0, 31.0])


@dataclass(frozen=True)
class Head:
    """Arrays of a head on one grid, and where it lies."""

    image: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    affine: np.ndarray

    def write(self, folder: Path, name: str, parts=("image",), suffix=".nii.gz") -> Path:
        """Write the image, and others beside it under its name; returns the image's path."""
        for part in parts:
            ending = "" if part == "image" else f"_{part}"
            path = folder / f"{name}{ending}{suffix}"
            if suffix == ".nii.gz":
                write_volume(path, getattr(self, part), self.affine)
            else:
                nib.save(nib.MGHImage(getattr(self, part), self.affine), path)
        return folder / f"{name}{suffix}"


def make_head(number: int, contrast: Contrast = T1, place=TURNED, modality: int = 0) -> Head:
    """A head whose axes run PSR in the array, turned and shifted by its header."""
    brain, labels = make_subject(PhantomSpec(shape=SHAPE), Subject(number, modality, contrast=contrast))
    brain, labels = (np.pad(each, PAD) for each in (brain, labels))
    ball = generate_binary_structure(3, 1)
    gap = binary_dilation(brain > 0, ball, iterations=GAP)
    scalp = binary_dilation(gap, ball, iterations=SCALP) & ~gap
    image = np.where(scalp, 230, brain).astype(np.uint8)
    canonical = from_matvec(np.diag(SPACING_MM), -SPACING_MM * (np.array(image.shape) - 1) / 2)
    posed = nib.Nifti1Image(image, place @ canonical)
    to_psr = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt("PSR"))
    turned = [
        nib.Nifti1Image(each.astype(np.uint8), posed.affine).as_reoriented(to_psr)
        for each in (image, labels, brain > 0)
    ]
    return Head(*(np.asarray(each.dataobj) for each in turned), turned[0].affine)
