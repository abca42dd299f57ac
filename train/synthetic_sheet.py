"""`lumirkit synthetic`: generated pairs on one sheet, to look at before training on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_writable_file, write_bytes_atomically
from lumirkit.eval.pictures import RegisteredPair, as_pixels, as_png, draw_panel
from lumirkit.registration.warp import sample, sample_nearest
from lumirkit.train.recipe import Recipe
from lumirkit.train.synthetic import SyntheticPair, generate_pair

SHAPE = (80, 112, 96)  # of LUMIR at 2 mm
_COLUMNS = ("fixed", "moving", "warped", "labels", "grid", "log-Jacobian")
_INCHES = 1.4


def draw_sheet(recipe: Recipe, pairs: int, out: Path) -> None:
    """Write a PNG with one line a pair: both images, the moving one and its labels as the true field carries them.

    They are the first pairs that the recipe's first stage with a synthetic source meets, on the grid of LUMIR at 2 mm.

    Raises:
        RequestError: no stage has such a source, or the file is not called .png or cannot be written.
    """
    sources = [(number, stage.synthetic) for number, stage in enumerate(recipe.stages) if stage.synthetic is not None]
    if not sources:
        raise RequestError(f"recipe {recipe.name}: found no stage with `synthetic`; expected one to draw pairs of.")
    stage, source = sources[0]
    if out.suffix != ".png":
        raise RequestError(f"{out}: found the ending '{out.suffix}'; expected .png.")
    require_writable_file(out)
    figure = Figure(figsize=(_INCHES * len(_COLUMNS), 1.2 * _INCHES * pairs + 0.3), layout="constrained", dpi=100)
    for number, line in enumerate(figure.subplots(pairs, len(_COLUMNS), squeeze=False)):
        pair = _as_registered(generate_pair(source.factors, [recipe.seed, stage, number], SHAPE))
        for axes, name in zip(line, _COLUMNS, strict=True):
            draw_panel(axes, pair, name, axis=2)
            if number == 0:
                axes.set_title(name, fontsize="x-small")
    write_bytes_atomically(out, as_png(as_pixels(figure)))


def _as_registered(pair: SyntheticPair) -> RegisteredPair:
    """Treat the pair as if registration had found the true field."""
    moved = sample(pair.moving, pair.disp_vox)
    fixed, moving, warped = (volume[0, 0].numpy() for volume in (pair.fixed, pair.moving, moved))
    labels = warped_labels = None
    if pair.fixed_labels is not None and pair.moving_labels is not None:
        moved_labels = sample_nearest(pair.moving_labels, pair.disp_vox)
        labels, warped_labels = (each[0, 0].numpy().astype(int) for each in (pair.fixed_labels, moved_labels))
    return RegisteredPair(fixed, moving, warped, np.moveaxis(pair.disp_vox[0].numpy(), 0, -1), labels, warped_labels)
