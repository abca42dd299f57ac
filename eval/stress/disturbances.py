"""All disturbances by the names that users give.

What one scan has and another has not disturbs the moving image alone: bias, noise, contrast, errors of the stripping
and of the alignment, lesions. Resolution is that of a study, so both images have it.
"""

from __future__ import annotations

from lumirkit.eval.stress import intensities, lesions, misalignment, resolution, stripping
from lumirkit.eval.stress.disturbance import Disturbance

_ALL = (
    Disturbance(
        "bias",
        "a smooth factor over the brain; 40 % are factors from 0.8 to 1.2",
        "% of the mean",
        intensities.bias,
        (40, 80),
        bounds=(0, 199),
    ),
    Disturbance("noise", "Rician noise", "% of 255", intensities.noise, (3, 6, 12), bounds=(0, 100)),
    Disturbance("blur", "a Gaussian blur", "mm FWHM", intensities.blur, (2, 4), bounds=(0, 50)),
    Disturbance(
        "gamma",
        "a power of the intensities 0…1",
        "as exponent",
        intensities.gamma,
        (0.5, 0.7, 1.4, 2),
        neutral=1,
        bounds=(0.05, 20),
    ),
    Disturbance(
        "curve",
        "intensities through a random rising curve, mixed with those before",
        "of the way",
        intensities.curve,
        (0.5, 1),
        bounds=(0, 1),
    ),
    Disturbance(
        "inversion",
        "bright and dark exchanged, mixed with the intensities before; at 0.5 all is one grey",
        "of the way",
        intensities.inversion,
        (0.25, 0.75, 1),
        bounds=(0, 1),
    ),
    Disturbance(
        "dilated",
        "a rim of fluid and patches of skull that the stripping left",
        "mm",
        stripping.dilated,
        (2, 5, 10),
        bounds=(0, 50),
    ),
    Disturbance(
        "eroded", "the brain's outermost layer stripped away", "mm", stripping.eroded, (1, 2, 4), bounds=(0, 50)
    ),
    Disturbance(
        "holes", "five balls cut out of the brain's surface", "mm radius", stripping.holes, (5, 10, 20), bounds=(0, 100)
    ),
    Disturbance(
        "rotation",
        "a turn about the brain's centre around a random axis; labels move along",
        "degrees",
        misalignment.rotated,
        (5, 10, 20),
        bounds=(0, 180),
    ),
    Disturbance(
        "translation",
        "a shift in a random direction, by whole voxels; labels move along",
        "mm",
        misalignment.shifted,
        (3, 6, 12),
        bounds=(0, 200),
    ),
    Disturbance(
        "scale",
        "a brain larger along every axis; labels move along",
        "%",
        misalignment.scaled,
        (5, 10),
        bounds=(-50, 100),
    ),
    Disturbance(
        "voxels",
        "cubic voxels of another size, and back",
        "mm",
        resolution.voxels,
        (0.7, 1.5, 2),
        neutral=resolution.GRID_MM,
        bounds=(0.2, 10),
        both_images=True,
    ),
    Disturbance(
        "slices",
        "thick axial slices, and back",
        "mm",
        resolution.slices,
        (2, 4, 6),
        neutral=resolution.GRID_MM,
        bounds=(0.2, 20),
        both_images=True,
    ),
    Disturbance(
        "dark-lesions",
        "blobs as dark as fluid in the cerebral white matter",
        "% of white matter",
        lesions.dark_lesions,
        (2, 5, 10),
        bounds=(0, 50),
    ),
    Disturbance(
        "bright-lesions",
        "blobs brighter than white matter in it",
        "% of white matter",
        lesions.bright_lesions,
        (2, 5, 10),
        bounds=(0, 50),
    ),
)

DISTURBANCES: dict[str, Disturbance] = {each.name: each for each in _ALL}
