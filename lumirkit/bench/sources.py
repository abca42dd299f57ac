"""The works that make the pairs which training draws while it runs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lumirkit.bench.floor import synchronize
from lumirkit.bench.images import brain_like_pair
from lumirkit.bench.kinds import Kind
from lumirkit.bench.work import Work
from lumirkit.registration.resolution import coarse_shape
from lumirkit.registration.trust import try_kernels
from lumirkit.train.one_image import OneImage, pair_from_image
from lumirkit.train.synthetic import Shapes, Synthetic, SyntheticPair, generate_pair

_SHAPES = {Kind.NOISE_PAIR: Shapes.NOISE, Kind.PRIMITIVES_PAIR: Shapes.PRIMITIVES}


def source_call(work: Work) -> Callable[[], None]:
    """Make the call that makes one pair with its label maps on the network's grid, each time another one.

    All factors of the pairs have their defaults.
    """
    device = torch.device(work.device)
    try_kernels(device, torch.float32)
    make = _from_one_image(work, device) if work.kind is Kind.ONE_IMAGE_PAIR else _generated(work, device)
    made = 0

    def call() -> None:
        nonlocal made
        with torch.no_grad():
            make(made)
        synchronize(device)
        made += 1

    return call


def _generated(work: Work, device: torch.device) -> Callable[[int], SyntheticPair]:
    factors = Synthetic(shapes=_SHAPES[work.kind])
    shape = coarse_shape(work.shape, work.network.input_vox)
    return lambda number: generate_pair(factors, [number], shape, device)


def _from_one_image(work: Work, device: torch.device) -> Callable[[int], SyntheticPair]:
    full = torch.from_numpy(brain_like_pair(work.shape)[0].data)[None, None].to(device)
    image = work.network.coarsened(full)
    labels = (image > 0).to(image)
    return lambda number: pair_from_image(image, labels, OneImage(), [number])
