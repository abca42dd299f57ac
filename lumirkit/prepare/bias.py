"""The bias field of a scan, taken out by N4 where ANTs is installed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.base.extras import installed_version
from lumirkit.registration.ants_image import to_ants
from lumirkit.registration.volume import Volume


def without_bias(image: Volume, inside: Bool[ndarray, "x y z"]) -> tuple[Volume, str]:
    """The image divided by its bias field, and what was done, for the record.

    Args:
        inside: the brain, in which the field is sought.

    Raises:
        VolumeError: N4 gave up.
    """
    antspyx = installed_version("antspyx")
    if antspyx is None:
        return image, "not corrected: ANTs is not installed (the extra `prepare` brings it)"
    import ants

    mask = to_ants(inside.astype(np.float32), image.affine)
    try:
        corrected = ants.n4_bias_field_correction(to_ants(image.data, image.affine), mask=mask).numpy()
    except RuntimeError as error:
        raise VolumeError(f"{image.name}: N4 of ANTs found no bias field ({error}). Look at the image.") from error
    if not np.isfinite(corrected).all():
        raise VolumeError(f"{image.name}: N4 of ANTs gave NaN or inf. Look at the image.")
    return replace(image, data=np.maximum(corrected, 0).astype(np.float32)), f"N4 of antspyx {antspyx}"
