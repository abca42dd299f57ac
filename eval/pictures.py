"""Pictures of one registered pair: what was there, where it went, and what the field does to space."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy import ndarray
from PIL import Image

from lumirkit.eval.metrics.ndv import central_determinant
from lumirkit.registration.jacobian import log_determinant

_PLANES = ("sagittal", "coronal", "axial")  # orthogonal to x, y and z
_GRID_LINES = 24  # along the longest axis
_GRID_COLOR, _GRID_POINTS = "#6cc4ff", 0.7
LOG_JACOBIAN_RANGE = 1.0  # colours end at factors e and 1/e
_INCHES = 1.6
_DPI = 100
_WEBP_QUALITY = 60
_TILE_VOX = 24  # edge of a checkerboard's square
_CONTOURS = ((1.0, 0.75, 0.0, 1.0), (0.1, 0.85, 1.0, 1.0))  # RGBA of fixed and warped label borders


@dataclass(frozen=True)
class RegisteredPair:
    """Images (X, Y, Z) on one grid, intensities 0…255, and the displacement (X, Y, Z, 3) in voxels between them.

    The label maps of the fixed and of the warped image are there where contours are to be drawn.
    """

    fixed: Float[ndarray, "x y z"]
    moving: Float[ndarray, "x y z"]
    warped: Float[ndarray, "x y z"]
    disp_vox: Float[ndarray, "x y z 3"]
    fixed_labels: Int[ndarray, "x y z"] | None = None
    warped_labels: Int[ndarray, "x y z"] | None = None

    @property
    def middle(self) -> tuple[int, int, int]:
        """The voxel in the middle of the fixed brain, which the planes go through."""
        return middle_of(self.fixed)


def middle_of(image: Float[ndarray, "x y z"]) -> tuple[int, int, int]:
    """The voxel in the middle of what is not 0, or of the grid where all is."""
    x, y, z = image.shape
    if not image.any():
        return x // 2, y // 2, z // 2
    extents = (np.flatnonzero(image.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    x, y, z = (int(found[0] + found[-1]) // 2 for found in extents)
    return x, y, z


Draw = Callable[[Axes, RegisteredPair, int, int], None]
"""A function that draws one panel of a pair in the plane orthogonal to an axis at an index."""


def registration_figure(pair: RegisteredPair, title: str = "") -> Figure:
    """Three middle planes (rows): both images, the warped one, the difference, the deformed grid and the log-Jacobian.

    The grid shows where the fixed image's voxels come from in the moving image. Voxels with a Jacobian determinant of 0
    or less are marked in magenta.
    """
    columns = ("fixed", "moving", "warped", "warped - fixed", "grid", "log-Jacobian")
    figure = Figure(figsize=(_INCHES * len(columns), _INCHES * len(_PLANES) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize="small")
    for row, axes_of_plane in enumerate(figure.subplots(len(_PLANES), len(columns))):
        for axes, name in zip(axes_of_plane, columns, strict=True):
            draw_panel(axes, pair, name, row)
            if row == 0:
                axes.set_title(name, fontsize="x-small")
    return figure


def draw_panel(axes: Axes, pair: RegisteredPair, name: str, axis: int) -> None:
    """Draw one of PANELS in the plane orthogonal to `axis` through the middle of the brain, without ticks."""
    PANELS[name](axes, pair, axis, pair.middle[axis])
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def plane_stack(pair: RegisteredPair, name: str, pixels_per_voxel: float) -> UInt8[ndarray, "height width 3"]:
    """One of PANELS in three planes, one below the other, on black: sagittal, coronal, axial."""
    shape = pair.fixed.shape
    sizes = [(shape[1], shape[2]), (shape[0], shape[2]), (shape[0], shape[1])]  # across and up
    width, height = max(across for across, _ in sizes), sum(up for _, up in sizes)
    figure = Figure(
        figsize=(width * pixels_per_voxel / _DPI, height * pixels_per_voxel / _DPI), dpi=_DPI, facecolor="black"
    )
    top = height
    for axis, (across, up) in enumerate(sizes):
        top -= up
        axes = figure.add_axes(((width - across) / 2 / width, top / height, across / width, up / height))
        axes.set_axis_off()
        PANELS[name](axes, pair, axis, pair.middle[axis])
        axes.set_aspect("auto")
    return as_pixels(figure)


def as_pixels(figure: Figure) -> UInt8[ndarray, "height width 3"]:
    """A drawn figure as RGB values."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def as_webp(pixels: UInt8[ndarray, "height width 3"]) -> bytes:
    """RGB values as the content of a WebP file, smaller than a PNG by what nobody sees."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="webp", quality=_WEBP_QUALITY, method=4)
    return content.getvalue()


def as_png(pixels: UInt8[ndarray, "height width 3"]) -> bytes:
    """RGB values as the content of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="png", optimize=True)
    return content.getvalue()


def plane(volume: Shaped[ndarray, "x y z"], axis: int, index: int) -> Shaped[ndarray, "rows columns"]:
    """One plane of a volume, turned so that the later of its two axes points upwards when drawn from below."""
    return np.take(volume, index, axis=axis).T


def _draw_image(axes: Axes, image: Float[ndarray, "x y z"], axis: int, index: int) -> None:
    axes.imshow(plane(image, axis, index), cmap="gray", vmin=0, vmax=255, origin="lower", interpolation="nearest")


def _draw_fixed(axes: Axes, pair: RegisteredPair, axis: int, index: int) -> None:
    _draw_image(axes, pair.fixed, axis, index)


def _draw_moving(axes: Axes, pair: RegisteredPair, axis: int, index: int) -> None:
    _draw_image(axes, pair.moving, axis, index)


def _draw_warped(axes: Axes, pair: RegisteredPair, axis: int, index: int) -> None:
    _draw_image(axes, pair.warped, axis, index)


def _draw_difference(axes: Axes, pair: RegisteredPair, axis: int, index: int) -> None:
    warped, fixed = plane(pair.warped, axis, index), plane(pair.fixed, axis, index)
    difference = np.where((warped > 0) | (fixed > 0), warped - fixed, np.nan)
    axes.imshow(difference, cmap="RdBu", vmin=-255, vmax=255, origin="lower", interpolation="nearest")


def _draw_checkerboard(axes: Axes, pair: RegisteredPair, axis: int, index: int) -> None:
    warped, fixed = plane(pair.warped, axis, index), plane(pair.fixed, axis, index)
    rows, columns = np.indices(fixed.shape) // _TILE_VOX
    board = np.where((rows + columns) % 2, warped, fixed)
    axes.imshow(board, cmap="gray", vmin=0, vmax=255, origin="lower", interpolation="nearest")


def _draw_contours(axes: Axes, pair: RegisteredPair, axis: int, index: int) -> None:
    """Draw the borders of the labels on the fixed image: where they should be, and over it where warping put them."""
    _draw_image(axes, pair.fixed, axis, index)
    for labels, color in zip((pair.fixed_labels, pair.warped_labels), _CONTOURS, strict=True):
        if labels is not None:
            borders = _borders(plane(labels, axis, index))
            axes.imshow(borders[..., None] * np.array(color), origin="lower", interpolation="nearest")


def _borders(labels: Int[ndarray, "rows columns"]) -> Bool[ndarray, "rows columns"]:
    """Voxels whose right or upper neighbour has another label."""
    borders = np.zeros(labels.shape, dtype=bool)
    borders[:-1] |= labels[:-1] != labels[1:]
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return borders


def _draw_grid(axes: Axes, pair: RegisteredPair, axis: int, index: int) -> None:
    across, up = (each for each in range(3) if each != axis)
    shape = pair.fixed.shape
    x, y = np.meshgrid(np.arange(shape[across]), np.arange(shape[up]))
    x = x + plane(pair.disp_vox[..., across], axis, index)
    y = y + plane(pair.disp_vox[..., up], axis, index)
    spacing = max(1, max(shape) // _GRID_LINES)
    axes.set_facecolor("black")
    axes.plot(x[:, ::spacing], y[:, ::spacing], color=_GRID_COLOR, linewidth=_GRID_POINTS)
    axes.plot(x[::spacing].T, y[::spacing].T, color=_GRID_COLOR, linewidth=_GRID_POINTS)
    axes.set_xlim(-0.5, shape[across] - 0.5)
    axes.set_ylim(-0.5, shape[up] - 0.5)


def _draw_log_jacobian(axes: Axes, pair: RegisteredPair, axis: int, index: int) -> None:
    """Draw the logarithm inside the brain.

    The determinant needs the neighbouring planes, so it is taken of three of them and drawn for the middle one, without
    its rim.
    """
    slab = np.take(pair.disp_vox, range(index - 1, index + 2), axis=axis).astype(np.float64)
    determinant = plane(central_determinant(np.moveaxis(slab, -1, 0)), axis, 0)
    brain = plane(pair.fixed, axis, index) > 0
    log = np.full(brain.shape, np.nan)
    log[1:-1, 1:-1] = log_determinant(determinant)
    log[~brain] = np.nan
    limit = LOG_JACOBIAN_RANGE
    axes.imshow(log, cmap="RdBu_r", vmin=-limit, vmax=limit, origin="lower", interpolation="nearest")
    rows, columns = np.nonzero(determinant <= 0)
    if rows.size:
        axes.scatter(columns + 1, rows + 1, s=2, color="magenta", marker="s", linewidths=0)


PANELS: dict[str, Draw] = {
    "fixed": _draw_fixed,
    "moving": _draw_moving,
    "warped": _draw_warped,
    "checkerboard": _draw_checkerboard,
    "warped - fixed": _draw_difference,
    "labels": _draw_contours,
    "grid": _draw_grid,
    "log-Jacobian": _draw_log_jacobian,
}
"""Everything that can be drawn of a pair. Colours: `warped - fixed` blue where warped is brighter; labels orange where
they are in the fixed map and cyan where warping put them; the log-Jacobian red where space expands and magenta where it
folds.
"""
