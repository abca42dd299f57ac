"""Whether an image has intensities below 0, which the networks take for background."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

_LEAST_NEGATIVE = 0.1  # of the brightest; where images are resampled smoothly, values swing below 0 by less
_DARK_PERCENT, _BRIGHT_PERCENT = 2, 99.8

TAKEN_FOR_BACKGROUND = (
    "what is not above 0 is taken for background. Shift the intensities so that the background is 0 and the brain "
    "above it."
)


def reaches_below_zero(values: Float32[ndarray, ...]) -> bool:
    """Whether values below 0 are more than what smooth resampling makes."""
    if values.min() >= 0:
        return False
    dark, bright = np.percentile(values, (_DARK_PERCENT, _BRIGHT_PERCENT))
    return bool(dark < -_LEAST_NEGATIVE * bright)
