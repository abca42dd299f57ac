"""The terms of a stage's loss, with the weights and the windows that a recipe gives them."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveInt

from lumirkit.registration.odd_window import OddWindow
from lumirkit.train.settings import Settings


class LossSettings(Settings):
    """The weights of the terms of a pair, both directions, and of the cycle of a triplet."""

    ncc_weight: NonNegativeFloat = 1.0
    """Weight of 1 - local NCC of the images."""
    ncc_window_vox: OddWindow = 11
    """The edge of the local NCC window, an odd number of voxels of the images as the network sees them."""
    ssim_weight: NonNegativeFloat = 0.0
    """Weight of 1 - SSIM."""
    diffusion_weight: NonNegativeFloat = 1.0
    """Weight of the mean squared difference of neighbouring displacements, in voxels squared."""
    ndv_weight: NonNegativeFloat = 0.0
    """Weight of the sum over voxels of the non-diffeomorphic volume (NDV); the reference fine-tunes with 1e-5."""
    intermediate_weight: NonNegativeFloat = 0.01
    """Weight of the same losses on the registration reached after each coarser level; 0 leaves them out."""
    dice_weight: NonNegativeFloat = 0.0
    """Weight of the soft Dice loss of label maps."""
    hausdorff_weight: NonNegativeFloat = 0.0
    """Weight of the Hausdorff loss of label maps, in its distance-transform form."""
    dice_labels: PositiveInt = 16
    """The number of labels, drawn anew at every step, that soft Dice and Hausdorff are taken over."""
    displacement_weight: NonNegativeFloat = 0.0
    """Weight of the squared distance, in voxels squared, from the true field; for pairs that have one."""

    group_consistency_weight: NonNegativeFloat = 0.0
    """Weight of the cycle loss (the reference's is 40); above 0 the stage draws triplets instead of pairs."""
    group_consistency_ramp_epochs: NonNegativeFloat = 0.0
    """The weight above grows from 0 over this many epochs."""

    @property
    def need_labels(self) -> bool:
        """Whether a loss needs label maps."""
        return self.dice_weight > 0 or self.hausdorff_weight > 0

    @property
    def guiding(self) -> dict[str, float]:
        """The weights, those above 0, of the terms that say how well a pair is registered; each is 0 at best."""
        weights = {
            "ncc": self.ncc_weight,
            "ssim": self.ssim_weight,
            "dice": self.dice_weight,
            "hausdorff": self.hausdorff_weight,
            "displacement_error": self.displacement_weight,
        }
        return {name: weight for name, weight in weights.items() if weight > 0}
