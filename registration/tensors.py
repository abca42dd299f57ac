"""The types of a registration's tensors, with their shapes; the name of a field says its unit."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

Volume5d = Float[Tensor, "batch channel x y z"]
"""Images, label masks or features, with X, Y, Z in array-axis order."""
DisplacementVox = Float[Tensor, "batch 3 x y z"]
"""Displacements in voxels of the grid they live on, with components in array-axis order."""

# Within a function x, y, z is one grid, and channel one number; a name with a low line in front may differ.
ResizedVolume5d = Float[Tensor, "batch channel _x _y _z"]
"""Images, label masks or features on another grid than the function's own."""
ResizedDisplacementVox = Float[Tensor, "batch 3 _x _y _z"]
"""Displacements on another grid than the function's own."""
Features5d = Float[Tensor, "batch _channel _x _y _z"]
"""Features of any channels and grid."""
