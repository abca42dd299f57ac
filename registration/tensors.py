"""The shapes that the tensors of a registration have; a field's name says its unit."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

Volume5d = Float[Tensor, "batch channel x y z"]
"""Images, label masks or features; X, Y, Z in array-axis order."""
DisplacementVox = Float[Tensor, "batch 3 x y z"]
"""Displacements in voxels of the grid they live on, components in array-axis order."""
