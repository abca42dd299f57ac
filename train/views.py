"""What a training step sees of images: on the grid of the network's input, changed in looks for the network alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from lumirkit.registration.network import CommonConfig
from lumirkit.registration.tensors import Volume5d
from lumirkit.train.augment import Appearance, apply_appearance, change_contrast


@dataclass(frozen=True)
class View:
    """A batch of images on the grid of the network's input, intensities 0…255: as they are, and as they look to it."""

    clean: Volume5d
    seen: Volume5d


def make_view(images: Volume5d, config: CommonConfig, appearances: Sequence[Appearance] | None = None) -> View:
    """Bring full-size images to the grid of the network's input, and change how each looks to the network."""
    clean = config.coarsened(images)
    if appearances is None:
        return View(clean, clean)
    seen = [
        apply_appearance(
            config.coarsened(change_contrast(full, appearance)) if appearance.contrast else coarse,
            appearance,
        )
        for full, coarse, appearance in zip(images.split(1), clean.split(1), appearances, strict=True)
    ]
    return View(clean, torch.cat(seen))


def views_of(images: Iterable[Volume5d], config: CommonConfig) -> list[View]:
    """Make views of images that the network sees as they are."""
    return [make_view(image, config) for image in images]
