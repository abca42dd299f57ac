"""What one step of a stage trains on: images read ahead, then made into views on the network's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lumirkit.registration.network import Network
from lumirkit.registration.resolution import coarse_shape
from lumirkit.registration.tensors import DisplacementVox
from lumirkit.registration.warp import sample, sample_nearest
from lumirkit.train.augment import Augmentation
from lumirkit.train.data import GroupSampler
from lumirkit.train.deform import draw_deformation
from lumirkit.train.guidance import Guidance, coarsen_labels, guidance_of
from lumirkit.train.one_image import pair_from_image
from lumirkit.train.recipe import Stage
from lumirkit.train.sources import OneImageSource, Source, SyntheticSource
from lumirkit.train.synthetic import SyntheticPair, generate_pair
from lumirkit.train.views import View, make_view, views_of

# What is drawn for a sample beside its images has generators of its own, told apart by these numbers.
_LABELS, _ONE_IMAGE, _DEFORMATION = 3, 4, 5


@dataclass(frozen=True)
class Batch:
    """What one process has to do in step `step` of a stage, counted from 0: numbers of its samples, and their images.

    The images are uint8 or float16, (batch, 1, X, Y, Z), one entry a place in the pair or triplet; one where the source
    makes pairs of one image each, and none where it generates them.
    """

    step: int
    samples: list[int]
    images: list[Tensor]
    labels: list[Tensor] = field(default_factory=list)
    """The label maps of the images (int16), where they guide."""
    source: Source | None = None
    """The source that makes the pairs; None where they are of real images."""

    def parts(self, at_once: int | None) -> list[Batch]:
        """Divide the batch into pieces of `at_once` samples each; None makes one piece."""
        if at_once is None or at_once >= len(self.samples):
            return [self]
        pieces = [slice(start, start + at_once) for start in range(0, len(self.samples), at_once)]
        return [
            replace(
                self,
                samples=self.samples[piece],
                images=[image[piece] for image in self.images],
                labels=[labels[piece] for labels in self.labels],
            )
            for piece in pieces
        ]


class Batches:
    """The batches of one stage, or one process's share of them."""

    def __init__(self, stage: Stage, sampler: GroupSampler, places: Sequence[int], network: Network) -> None:
        """Prepare to load the batches.

        Args:
            places: the places of this process's samples in each batch.
            network: the network that is trained; its device, its number format and the grid on which it sees
                images are those of the batches.
        """
        self._stage, self._sampler, self._places = stage, sampler, places
        parameter = next(network.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self._config, self._stride = network.config, network.config.input_vox

    def load(self, step: int) -> Batch:
        """Read the images of a step, in memory from which a GPU can fetch them."""
        samples = [step * self._stage.batch_size + place for place in self._places]
        number = self._sampler.source(step, self._stage.shares_at(step))
        source = None if number is None else self._stage.sources[number]
        if isinstance(source, SyntheticSource):
            return Batch(step, samples, [], source=source)
        losses, group = (self._stage.losses, None) if source is None else (source.losses, 1)
        images = self._sampler.batch(samples, group)
        if self._device.type == "cuda":
            images = [image.pin_memory() for image in images]
        labels = self._sampler.labels(samples, group) if losses.need_labels else []
        return Batch(step, samples, images, labels, source)

    def prepare(self, batch: Batch) -> tuple[Sequence[View], Guidance | None]:
        """Make two or three views, and what is known of them, on the network's device and grid."""
        if batch.source is None:
            batch = self._on_device(batch)
            return self._views(batch), self._guidance_by_labels(batch)
        with torch.no_grad():
            pairs = self._made_pairs(batch, batch.source)
            fixed, moving, disp_vox = (
                torch.cat([getattr(pair, name) for pair in pairs]) for name in ("fixed", "moving", "disp_vox")
            )
            guidance = Guidance(disp_vox=disp_vox)
            if batch.source.losses.need_labels:
                maps = [_label_maps(pair) for pair in pairs]
                fixed_maps, moving_maps = (torch.cat(place) for place in zip(*maps, strict=True))
                count, seeds = batch.source.losses.dice_labels, self._seeds(batch, _LABELS)
                guidance = replace(guidance_of(fixed_maps, moving_maps, count, seeds), disp_vox=disp_vox)
        return [View(fixed, fixed), View(moving, moving)], guidance

    def _on_device(self, batch: Batch) -> Batch:
        """The real images and their label maps, each warped as its sample number says."""
        images = [self._to_device(image) for image in batch.images]
        labels = [maps.to(self._device) for maps in batch.labels]
        if not self._stage.deformation.is_none:
            for place, image in enumerate(images):
                disp_vox = self._deformations(batch, place, image.shape[2:])
                images[place] = sample(image, disp_vox, "zeros")
                if labels:
                    warped = sample_nearest(labels[place].to(disp_vox), disp_vox, "zeros")
                    labels[place] = warped.to(labels[place])
        return replace(batch, images=images, labels=labels)

    def _deformations(self, batch: Batch, place: int, shape: Sequence[int]) -> DisplacementVox:
        seeds = self._seeds(batch, _DEFORMATION, place)
        fields = [draw_deformation(self._stage.deformation, seed, shape, self._device) for seed in seeds]
        return torch.cat(fields).to(self._dtype)

    def _views(self, batch: Batch) -> list[View]:
        """The images, each changed as its sample number says."""
        if self._stage.augmentation == Augmentation():
            return views_of(batch.images, self._config)
        drawn = [self._sampler.appearances(sample, self._stage.augmentation) for sample in batch.samples]
        by_place = zip(batch.images, zip(*drawn, strict=True), strict=True)
        return [make_view(image, self._config, looks) for image, looks in by_place]

    def _guidance_by_labels(self, batch: Batch) -> Guidance | None:
        """What the label maps of real images say."""
        if not batch.labels:
            return None
        fixed, moving = batch.labels
        count, seeds = self._stage.losses.dice_labels, self._seeds(batch, _LABELS)
        return guidance_of(fixed, moving, count, seeds, self._stride)

    def _made_pairs(self, batch: Batch, source: Source) -> list[SyntheticPair]:
        if isinstance(source, OneImageSource):
            return self._pairs_of_one_image(batch, source)
        shape = coarse_shape(self._sampler.images.shape, self._stride)
        return [generate_pair(source.factors, seed, shape, self._device) for seed in self._seeds(batch)]

    def _pairs_of_one_image(self, batch: Batch, source: OneImageSource) -> list[SyntheticPair]:
        images = self._config.coarsened(self._to_device(batch.images[0])).split(1)
        labels: Sequence[Tensor | None] = [None] * len(images)
        if batch.labels:
            labels = coarsen_labels(self._to_device(batch.labels[0]), self._stride).split(1)
        seeds = self._seeds(batch, _ONE_IMAGE)
        return [
            pair_from_image(image, own, source.factors, seed)
            for image, own, seed in zip(images, labels, seeds, strict=True)
        ]

    def _seeds(self, batch: Batch, *purpose: int) -> list[list[int]]:
        """The numbers that alone decide what is drawn for each sample."""
        return [[self._sampler.seed, self._sampler.stage, sample, *purpose] for sample in batch.samples]

    def _to_device(self, volumes: Tensor) -> Tensor:
        """Bring volumes to the network's device and number format; they are small on their way to a GPU."""
        return volumes.to(self._device, non_blocking=True).to(self._dtype)


def _label_maps(pair: SyntheticPair) -> tuple[Tensor, Tensor]:
    assert pair.fixed_labels is not None and pair.moving_labels is not None
    return pair.fixed_labels, pair.moving_labels
