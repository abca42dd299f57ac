"""A small dataset with motions that are known exactly, for the examination of a container."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray
from scipy import ndimage

from lumirkit.base.files import write_text_atomically
from lumirkit.data_manifests.dataset import Pair
from lumirkit.phantoms.brains import T1, T2, Contrast, PhantomSpec, Subject, make_subject
from lumirkit.registration.volume import write_volume

TRANSLATION_VOX = np.array([3.0, -1.0, 0.0])
"""The shift of the moving image; every exchange of axes and every change of sign makes it another."""
ROTATION_DEGREES = 6.0
"""The angle of the rotation about the last axis, from the first axis to the second."""
AFFINE = np.array([[1.0, 0, 0, -40], [0, 1, 0, -56], [0, 0, 1, -48], [0, 0, 0, 1]])
_SUBJECT = 3455


@dataclass(frozen=True)
class ExamData:
    """A dataset folder: a translation, a rotation, and a translation of either mixed-modality name rule."""

    root: Path
    shape: tuple[int, int, int]

    translation = Pair(
        fixed=Path("imagesVal/LUMIRMRI_3455_0000.nii.gz"), moving=Path("imagesVal/LUMIRMRI_3454_0000.nii.gz")
    )
    rotation = Pair(
        fixed=Path("imagesVal/LUMIRMRI_4015_0000.nii.gz"), moving=Path("imagesVal/LUMIRMRI_4014_0000.nii.gz")
    )
    short_name = Pair(
        fixed=Path("imagesVal/LUMIRMRI_4024_0000.nii.gz"), moving=Path("imagesVal/LUMIRMRI_4033_0001.nii.gz")
    )
    full_name = Pair(
        fixed=Path("imagesVal/LUMIRMRI_4033_0001.nii.gz"), moving=Path("imagesVal/LUMIRMRI_4024_0000.nii.gz")
    )

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All pairs, in the order of the JSON."""
        return (self.translation, self.rotation, self.short_name, self.full_name)

    @property
    def dataset_json(self) -> Path:
        """The file of the pair list."""
        return self.root / "exam_dataset.json"

    @property
    def field_names(self) -> list[str]:
        """The file names under which the evaluator looks for the fields, sorted."""
        return sorted(
            (
                *("disp_3455_3454.nii.gz", "disp_4015_4014.nii.gz", "disp_4024_4033.nii.gz"),
                "disp_4033_0001_4024_0000.nii.gz",
            )
        )


def make_exam_data(root: Path, shape: tuple[int, int, int]) -> ExamData:
    """Write the dataset and a brain mask for every image."""
    data = ExamData(root, shape)
    t1, t2 = (_brain(shape, contrast) for contrast in (T1, T2))
    images = {
        data.translation.fixed: t1,
        data.translation.moving: translated(t1),
        data.rotation.fixed: t1,
        data.rotation.moving: rotated(t1),
        data.short_name.fixed: t1,
        data.short_name.moving: translated(t2),
    }
    for name, image in images.items():
        write_volume(root / name, image, AFFINE)
        write_volume(root / "masks" / name.name, (image > 0).astype(np.uint8), AFFINE)
    listed = [{"fixed": f"./{pair.fixed}", "moving": f"./{pair.moving}"} for pair in data.pairs]
    content = {"name": "exam", "tensorImageShape": {"0": list(shape)}, "training": [], "validation": listed}
    write_text_atomically(data.dataset_json, json.dumps(content, indent=1))
    return data


def _brain(shape: tuple[int, int, int], contrast: Contrast) -> Shaped[ndarray, "x y z"]:
    return make_subject(PhantomSpec(shape=shape), Subject(_SUBJECT, contrast=contrast))[0]


def translated(image: Shaped[ndarray, "x y z"]) -> Shaped[ndarray, "x y z"]:
    """The image shifted by the known translation; the field that undoes it is the translation itself, everywhere."""
    return ndimage.shift(image, TRANSLATION_VOX, order=1)


def rotated(image: Shaped[ndarray, "x y z"]) -> Shaped[ndarray, "x y z"]:
    """The image turned about its centre by the known angle; the field that undoes it turns by that angle."""
    inverse = rotation_matrix(-ROTATION_DEGREES)
    centre = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, inverse, centre - inverse @ centre, order=1)


def rotation_matrix(degrees: float) -> Float[ndarray, "3 3"]:
    """The matrix that turns by an angle about the last axis, from the first axis to the second."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
