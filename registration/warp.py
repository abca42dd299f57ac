"""Sampling a volume through a displacement field, and composing fields."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F

from registration.grid import DisplacementVox, Volume5d, sampling_grid


def sample(volume: Volume5d, disp_vox: DisplacementVox, outside: Literal["border", "zeros"] = "border") -> Volume5d:
    """Read `volume` linearly at x + u(x); volume and field share one grid.

    Args:
        outside: what lies beyond the grid, its nearest border voxel or zero.
    """
    return F.grid_sample(volume, sampling_grid(disp_vox), padding_mode=outside, align_corners=False)


def compose(outer: DisplacementVox, inner: DisplacementVox) -> DisplacementVox:
    """Displacement of (id + outer) o (id + inner): x -> x + inner(x) + outer(x + inner(x))."""
    return inner + sample(outer, inner)
