"""The page to look at prepared heads on: one row an image, suspicious ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from lumirkit.eval.report.page import SERIES_COLORS, as_data_uri, as_svg, style, write_page
from lumirkit.prepare.quality import HISTOGRAM_STEP, Quality
from lumirkit.prepare.record import ScanRecord, SubjectRecord


def write_quality_page(
    path: Path, root: Path, records: Sequence[SubjectRecord], failed: Sequence[Mapping[str, str]]
) -> None:
    """Write the page of a dataset folder; everything is in it.

    Args:
        records: the subjects that were prepared; their pictures lie in `root`.
        failed: name and reason of each that could not be.
    """
    images = [(record.name, scan) for record in records for scan in record.scans]
    images.sort(key=lambda image: -len(image[1].quality.suspicions))  # stable: else by the number
    with style():
        shown = [_row(name, scan, root) for name, scan in images]
    write_page(
        path,
        "prepared.html.j2",
        dataset=root.resolve().name,
        subjects=len(records),
        suspicious=sum(bool(scan.quality.suspicions) for _, scan in images),
        failed=failed,
        images=shown,
    )


def _row(name: str, scan: ScanRecord, root: Path) -> dict[str, Any]:
    found = scan.quality
    return {
        "name": f"{name}, {scan.contrast}",
        "file": scan.image,
        "source": scan.source,
        "brain": scan.brain,
        "bias": scan.bias,
        "alignment": scan.alignment,
        "suspicions": found.suspicions,
        "picture": as_data_uri((root / scan.picture).read_bytes(), "webp"),
        "chart": _histogram(found),
        "numbers": f"{found.litres:.2f} litres, overlap {found.overlap:.3f}, symmetry {found.symmetry:.3f}",
    }


def _histogram(found: Quality) -> Markup:
    figure = Figure(figsize=(3.2, 1.8), layout="constrained")
    axes = figure.subplots()
    counts = np.array(found.histogram) / max(1, sum(found.histogram))
    edges = np.arange(len(counts) + 1) * HISTOGRAM_STEP
    axes.stairs(counts, edges, fill=True, color=SERIES_COLORS[0])
    axes.set_xlabel("intensity")
    axes.set_yticks([])
    return as_svg(figure, "histogram of the intensities in the brain")
