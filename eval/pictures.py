"""Pictures of one registered pair: what was there, where it went, and what the field does to space."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy import ndarray
from PIL import Image

from eval.folding import central_determinant

_PLANES = ("sagittal", "coronal", "axial")  # orthogonal to x, y and z
_GRID_LINES = 24  # along the longest axis
_LOG_JACOBIAN_RANGE = 1.0  # colours end at factors e and 1/e
_INCHES = 1.6


@dataclass(frozen=True)
class RegisteredPair:
    """Images (X, Y, Z) on one grid, intensities 0…255, and the displacement (X, Y, Z, 3) in voxels between them."""

    fixed: Float[ndarray, "x y z"]
    moving: Float[ndarray, "x y z"]
    warped: Float[ndarray, "x y z"]
    disp_vox: Float[ndarray, "x y z 3"]


def registration_figure(pair: RegisteredPair, title: str = "") -> Figure:
    """Three middle planes (rows): both images, the warped one, the difference, the deformed grid and the log-Jacobian.

    The grid shows where the fixed image's voxels come from in the moving image. Voxels with a Jacobian determinant of 0
    or less are marked in magenta.
    """
    columns: tuple[tuple[str, Callable[[Axes, RegisteredPair, int, int], None]], ...] = (
        ("fixed", _draw_fixed),
        ("moving", _draw_moving),
        ("warped", _draw_warped),
        ("warped - fixed", _draw_difference),
        ("grid", _draw_grid),
        ("log-Jacobian", _draw_log_jacobian),
    )
    figure = Figure(figsize=(_INCHES * len(columns), _INCHES * len(_PLANES) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize="small")
    for row, axes_of_plane in enumerate(figure.subplots(len(_PLANES), len(columns))):
        middle = pair.fixed.shape[row] // 2
        for axes, (name, draw) in zip(axes_of_plane, columns, strict=True):
            draw(axes, pair, row, middle)
            axes.set_aspect("equal")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(name, fontsize="x-small")
    return figure


def as_pixels(figure: Figure) -> UInt8[ndarray, "height width 3"]:
    """A drawn figure as RGB values."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def as_png(pixels: UInt8[ndarray, "height width 3"]) -> bytes:
    """RGB values as the content of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="png", optimize=True)
    return content.getvalue()


def plane(volume: Float[ndarray, "x y z"], axis: int, index: int) -> Float[ndarray, "rows columns"]:
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
    difference = plane(pair.warped - pair.fixed, axis, index)
    axes.imshow(difference, cmap="RdBu", vmin=-255, vmax=255, origin="lower", interpolation="nearest")


def _draw_grid(axes: Axes, pair: RegisteredPair, axis: int, index: int) -> None:
    across, up = (each for each in range(3) if each != axis)
    shape = pair.fixed.shape
    x, y = np.meshgrid(np.arange(shape[across]), np.arange(shape[up]))
    x = x + plane(pair.disp_vox[..., across], axis, index)
    y = y + plane(pair.disp_vox[..., up], axis, index)
    spacing = max(1, max(shape) // _GRID_LINES)
    axes.plot(x[:, ::spacing], y[:, ::spacing], color="C0", linewidth=0.4)
    axes.plot(x[::spacing].T, y[::spacing].T, color="C0", linewidth=0.4)
    axes.set_xlim(-0.5, shape[across] - 0.5)
    axes.set_ylim(-0.5, shape[up] - 0.5)


def _draw_log_jacobian(axes: Axes, pair: RegisteredPair, axis: int, index: int) -> None:
    """The determinant needs the neighbours: of a slab of three planes, the middle one."""
    slab = np.take(pair.disp_vox, range(index - 1, index + 2), axis=axis).astype(np.float64)
    determinant = plane(central_determinant(np.moveaxis(slab, -1, 0)), axis, 0)
    log = np.log(np.maximum(determinant, 1e-9))
    limit = _LOG_JACOBIAN_RANGE
    axes.imshow(log, cmap="RdBu_r", vmin=-limit, vmax=limit, origin="lower", interpolation="nearest")
    if (determinant <= 0).any():
        rows, columns = np.nonzero(determinant <= 0)
        axes.scatter(columns, rows, s=2, color="magenta", marker="s", linewidths=0)
