"""Disturbances of what is bright and dark: bias field, noise, blur, and other mappings of the intensities."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from lumirkit.eval.stress.over_brain import filtered_brain
from lumirkit.eval.stress.scan import Scan
from lumirkit.registration.network import INTENSITY_MAX
from lumirkit.registration.spline_noise import spline_noise

_BIAS_MM = 60.0  # between the control points of a bias field
_FEWEST_POINTS = 3  # along an axis; one point alone would make no field
_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
_KNOTS = 6  # points of a random mapping, as of the random contrasts of training


def bias(scan: Scan, percent: float, generator: np.random.Generator) -> Scan:
    """Multiply by a smooth field whose darkest and brightest places in the brain differ by `percent` of the mean.

    As in BrainWeb, 40 % are factors from 0.8 to 1.2.
    """
    shape = scan.image.shape
    spacing_vox = max(1, min(round(_BIAS_MM / float(np.mean(scan.voxel_mm))), min(shape) // _FEWEST_POINTS))
    source = torch.Generator().manual_seed(int(generator.integers(2**31)))
    field = spline_noise(1, 1, spacing_vox, shape, source)[0, 0].numpy()
    low, high = field[scan.brain].min(), field[scan.brain].max()
    return scan.showing(scan.image.data * (1 + percent / 100 * ((field - low) / (high - low) - 0.5)))


def noise(scan: Scan, percent: float, generator: np.random.Generator) -> Scan:
    """Add Rician noise, as of a magnitude image; the deviation of both its parts is `percent` of 255."""
    deviation = percent / 100 * INTENSITY_MAX
    real, imaginary = generator.standard_normal((2, *scan.image.shape), dtype=np.float32)
    return scan.showing(np.hypot(scan.image.data + deviation * real, deviation * imaginary))


def blur(scan: Scan, fwhm_mm: float, generator: np.random.Generator) -> Scan:
    """Blur by a Gaussian of a full width at half maximum; the outline stays, since a skull is stripped afterwards."""
    sigma_vox = fwhm_mm / _FWHM_PER_SIGMA / scan.voxel_mm
    intensities, _ = filtered_brain(scan, partial(gaussian_filter, sigma=sigma_vox, mode="nearest"))
    return scan.showing(intensities)


def gamma(scan: Scan, exponent: float, generator: np.random.Generator) -> Scan:
    """Raise the intensities 0…1 to a power: below 1 dark tissue becomes brighter, above 1 darker."""
    return scan.showing(INTENSITY_MAX * (scan.image.data / INTENSITY_MAX) ** exponent)


def curve(scan: Scan, share: float, generator: np.random.Generator) -> Scan:
    """Go a share of the way from the intensities to those that a random rising curve makes of them."""
    knots = np.sort(generator.uniform(0, INTENSITY_MAX, _KNOTS))
    mapped = np.interp(scan.image.data, np.linspace(0, INTENSITY_MAX, _KNOTS), knots)
    return scan.showing((1 - share) * scan.image.data + share * mapped)


def inversion(scan: Scan, share: float, generator: np.random.Generator) -> Scan:
    """Go a share of the way from the intensities to those with bright and dark exchanged; half-way all is one grey."""
    return scan.showing((1 - share) * scan.image.data + share * (INTENSITY_MAX + 1 - scan.image.data))
