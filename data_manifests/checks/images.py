"""Checks of what lies in the files: readable, one grid, intensities, zero background, no image twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from lumirkit.data_manifests.checks.findings import Finding, error, listed, warning
from lumirkit.data_manifests.checks.inspection import Kind, Unreadable, VolumeSummary
from lumirkit.data_manifests.checks.pairs import image_name

Value = TypeVar("Value")

AFFINE_TOLERANCE = 1e-3  # mm; headers store float32
MOST_BORDER = 0.05  # a brain that touches the grid's faces covers less of them than this


def check_readable(volumes: Sequence[VolumeSummary | Unreadable]) -> list[Finding]:
    """Report each file that cannot be read to its end."""
    return [
        error(
            volume.path,
            f"not readable ({volume.reason})",
            f"a whole NIfTI {volume.kind}",
            "Copy or download it again.",
        )
        for volume in volumes
        if isinstance(volume, Unreadable)
    ]


def check_grid(
    volumes: Sequence[VolumeSummary], shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] | None
) -> list[Finding]:
    """Report shapes other than the dataset JSON says, and spacing, orientation or affine unlike those of other files.

    Args:
        volumes: images, label and landmark maps.
        shape: (X, Y, Z) in voxels.
        spacing_mm: what is asked for; None takes what most images have.
    """
    findings = [
        error(v.path, f"shape {v.shape}", f"{shape}, as the dataset JSON says", "Resample it to the common grid.")
        for v in volumes
        if v.shape != shape
    ]
    images = [v for v in volumes if v.kind is Kind.IMAGE]
    if not images:
        return findings
    axes = _most_common([v.axes for v in images])
    if axes != "RAS":
        found = f"axes {axes} in most images"
        remedy = "Nothing, where all files agree; left and right in reports assume RAS."
        findings.append(warning(".", found, "RAS", remedy))
    usual_spacing = spacing_mm or _most_common([v.spacing_mm for v in images])
    usual_affine = _most_common([_rounded(v.affine) for v in images if v.axes == axes])
    for volume in volumes:
        if volume.axes != axes:
            expected = f"{axes}, as in most images"
            findings.append(error(volume.path, f"axes {volume.axes}", expected, "Reorient voxels and header."))
        elif not np.allclose(volume.spacing_mm, usual_spacing, atol=AFFINE_TOLERANCE):
            expected = f"{_numbers(usual_spacing)} mm"
            remedy = "Resample it to the common grid, or correct the header."
            findings.append(error(volume.path, f"spacing {_numbers(volume.spacing_mm)} mm", expected, remedy))
        elif not np.allclose(volume.affine, usual_affine, atol=AFFINE_TOLERANCE):
            found = f"affine {_affine(volume.affine)}"
            expected = f"{_affine(usual_affine)}, as in most images"
            remedy = "Make sure that the voxels are aligned with those of the others; the affine itself is not used."
            findings.append(warning(volume.path, found, expected, remedy))
    return findings


def check_dtypes(volumes: Sequence[VolumeSummary]) -> list[Finding]:
    """Report unusable data types, images stored unlike the others, and label maps stored as floating point."""
    findings = []
    images = [v.dtype for v in volumes if v.kind is Kind.IMAGE]
    usual = _most_common(images) if images else ""
    for volume in volumes:
        if "not a number" in volume.dtype:
            remedy = "Save it as integers or float32."
            findings.append(error(volume.path, f"dtype {volume.dtype}", "integers or floating point", remedy))
        elif volume.kind is Kind.IMAGE and volume.dtype != usual:
            remedy = "Make sure that it was exported as the others were."
            findings.append(warning(volume.path, f"dtype {volume.dtype}", f"{usual}, as most images", remedy))
        elif volume.kind is not Kind.IMAGE and volume.dtype.startswith("float"):
            found = f"{volume.kind} stored as {volume.dtype}"
            findings.append(warning(volume.path, found, "an integer type", "Save it as uint8 or int16."))
    return findings


def check_intensities(image: VolumeSummary, low: float, high: float) -> list[Finding]:
    """Report NaN and inf, an image of zeros, values outside [low, high], and a background that is not 0."""
    findings = []
    if image.non_finite:
        found = f"{image.non_finite} voxels are NaN or inf"
        findings.append(error(image.path, found, "finite intensities", "Repair or export the image again."))
    if image.minimum == image.maximum == 0:
        return [*findings, error(image.path, "every voxel is 0", "a brain on background 0", "Export it again.")]
    if image.minimum < low or image.maximum > high:
        found = f"intensities from {image.minimum:g} to {image.maximum:g}"
        findings.append(error(image.path, found, f"[{low:g}, {high:g}]", f"Scale the brain to [{low:g}, {high:g}]."))
    elif image.maximum <= 1 < high:
        found = f"no intensity above {image.maximum:g}"
        findings.append(warning(image.path, found, f"[{low:g}, {high:g}]", "Scale the brain to that range."))
    share = image.border / image.border_size
    if image.zeros == 0 or image.corners or share > MOST_BORDER:
        found = f"background is not 0: {image.zeros} voxels are 0, {share:.0%} of the border and"
        found += f" {image.corners} of 8 corners are not"
        remedy = "Strip the skull and set everything outside the brain to exactly 0; masks are image > 0."
        findings.append(error(image.path, found, "exactly 0 outside the brain", remedy))
    elif image.border:
        found = f"{image.border} voxels of the grid's border are not 0"
        remedy = "Look at the image: the brain touches the border and may be cut."
        findings.append(warning(image.path, found, "a brain inside the grid", remedy))
    return findings


def check_overlap(
    images: Sequence[VolumeSummary], training: Collection[Path], validation: Collection[Path]
) -> list[Finding]:
    """Report subjects and image contents that are in training and in validation, and contents that repeat in one."""
    findings = []
    trained = {name.subject: path for path in training if (name := image_name(path))}
    for path in validation:
        name = image_name(path)
        if name and name.subject in trained:
            found = f"subject {name.subject} is also in training: {trained[name.subject]}"
            remedy = "Remove it from one of the lists; scores on trained subjects mean nothing."
            findings.append(error(path, found, "subjects of their own", remedy))
    contents: dict[str, list[Path]] = {}
    for image in images:
        if image.content and image.minimum != image.maximum:
            contents.setdefault(image.content, []).append(image.path)
    for same in contents.values():
        if len(same) < 2:
            continue
        found = f"the same voxels as {listed(same[1:])}"
        if any(path in training for path in same) and any(path in validation for path in same):
            remedy = "Remove it from training: it is a validation image under another number."
            findings.append(error(same[0], found, "no validation image in training", remedy))
        else:
            findings.append(warning(same[0], found, "different images", "Remove copies or correct the export."))
    return findings


def _most_common(values: Sequence[Value]) -> Value:
    return Counter(values).most_common(1)[0][0]


def _rounded(affine: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(number, 3) + 0.0 for number in row) for row in affine)


def _numbers(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _affine(affine: tuple[tuple[float, ...], ...]) -> str:
    return "[" + "; ".join(" ".join(f"{number:.6g}" for number in row) for row in affine[:3]) + "]"
