"""The effect of the compiled kernels and of bfloat16 on the fields of trained weights, for one pair of images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from pydantic import BaseModel, TypeAdapter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lumirkit.base.files import require_writable_file, write_text_atomically
from lumirkit.base.outputs import require_apart
from lumirkit.registration.ensemble import Ensemble
from lumirkit.registration.kernels.dispatch import plain_torch
from lumirkit.registration.network import Registration, register
from lumirkit.registration.precision import Precision
from lumirkit.registration.tensors import DisplacementVox, Volume5d
from lumirkit.registration.volume import read_image, require_same_shape
from lumirkit.registration.warp import compose
from lumirkit.registration.weights import load_ensemble

_HEADINGS = ("", "max", "mean", "swap, max", "inverse, mean", "inverse, max")


class Accuracy(BaseModel):
    """How exact one way to compute is; all lengths are in voxels of the network's grid."""

    what: str
    max_vox: float
    """The largest distance of a displacement from that of the plain torch version in float64."""
    mean_vox: float
    """The mean of these distances."""
    swap_vox: float
    """The largest difference that exchanging the images makes."""
    inverse_mean_vox: float
    """The mean length of the displacements of forward o inverse, which would be 0 for exact inverses."""
    inverse_max_vox: float
    """The largest length of these displacements."""


def measure_accuracy(weights: Sequence[Path], fixed: Path, moving: Path, out: Path) -> list[Accuracy]:
    """Register a pair in every way the kit can, compare with the plain version in float64, print and write JSON.

    Raises:
        WeightsError, VolumeError, RequestError: a file cannot be used; nothing was computed.
    """
    require_writable_file(out)
    require_apart([out], [fixed, moving, *weights])
    volumes = read_image(fixed), read_image(moving)
    require_same_shape(*volumes)
    network, _ = load_ensemble(weights)
    images = [network.config.coarsened(torch.from_numpy(volume.data)[None, None]) for volume in volumes]
    exact = _register(network, [image.double() for image in images], plain=True, double=True)
    network.float()
    rows = [_compare("plain torch, float32", exact, network, images, plain=True)]
    for precision in Precision:
        for member in network.members:
            member.precision = precision
        rows.append(_compare(f"kernels, {precision}", exact, network, images, plain=False))
    write_text_atomically(out, TypeAdapter(list[Accuracy]).dump_json(rows, indent=1).decode())
    _show(rows, network.config.resolution_vox)
    return rows


def _register(network: Ensemble, images: Sequence[Volume5d], plain: bool, double: bool = False) -> Registration:
    with torch.inference_mode(), plain_torch() if plain else nullcontext():
        fixed, moving = images
        return register(network.double() if double else network, fixed, moving)[-1]


def _compare(what: str, exact: Registration, network: Ensemble, images: Sequence[Volume5d], plain: bool) -> Accuracy:
    found, swapped = _register(network, images, plain), _register(network, images[::-1], plain)
    distance = _length(found.forward_vox - exact.forward_vox)
    remaining = _length(compose(found.forward_vox.double(), found.inverse_vox.double()))
    return Accuracy(
        what=what,
        max_vox=float(distance.max()),
        mean_vox=float(distance.mean()),
        swap_vox=float((found.forward_vox - swapped.inverse_vox).abs().max()),
        inverse_mean_vox=float(remaining.mean()),
        inverse_max_vox=float(remaining.max()),
    )


def _length(disp_vox: DisplacementVox) -> torch.Tensor:
    return disp_vox.norm(dim=1)


def _show(rows: Sequence[Accuracy], stride: int) -> None:
    table = Table(*_HEADINGS, box=SIMPLE_HEAD, title="distance from plain torch in float64; own consistency")
    for row in rows:
        numbers = (row.max_vox, row.mean_vox, row.swap_vox, row.inverse_mean_vox, row.inverse_max_vox)
        table.add_row(row.what, *(f"{number:.2g}" for number in numbers))
    table.caption = f"in voxels of the network's grid, {stride} of the images'"
    Console().print(table)
