"""The verbs of `import lumirkit`: what the commands do, from Python.

Two brains that nobody has to download serve the examples:

>>> import lumirkit
>>> from lumirkit.phantoms.brains import PhantomSpec, Subject, make_subject
>>> spec = PhantomSpec(shape=(48, 60, 48))
>>> (fixed, fixed_labels), (moving, moving_labels) = (make_subject(spec, Subject(number)) for number in (1, 2))

Register them. Paths and nibabel images serve as well as arrays:

>>> found = lumirkit.register(fixed, moving)
>>> found.disp_vox.shape
(48, 60, 48, 3)

The result warps the moving image, its labels and points, and knows its inverse:

>>> warped = found.warp(moving)
>>> warped_labels = found.warp(moving_labels, labels=True)
>>> bool((warped_labels == fixed_labels).mean() > (moving_labels == fixed_labels).mean())
True
>>> there_mm = found.warp_points([[24.0, 30.0, 24.0]])
>>> back_mm = found.inverse.warp_points(there_mm)
>>> bool(abs(back_mm - [24.0, 30.0, 24.0]).max() < 0.3)
True
>>> bool(found.jacobian().min() > 0)
True
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxtyping import Float
from numpy import ndarray

from lumirkit.base.engine import Processes
from lumirkit.base.errors import RequestError
from lumirkit.base.extras import require_extra
from lumirkit.eval.leaderboard import LeaderboardResult, ScoringOptions
from lumirkit.eval.leaderboard import evaluate as score
from lumirkit.eval.mask_rule import MaskRule
from lumirkit.registration.any_pair.background import on_dark_background
from lumirkit.registration.any_pair.register import register_images
from lumirkit.registration.any_pair.start import require_start
from lumirkit.registration.chain import read_transforms
from lumirkit.registration.deformation import Deformation
from lumirkit.registration.device import choose_place
from lumirkit.registration.fixed_and_moving import FixedAndMoving
from lumirkit.registration.header import HeaderChoice
from lumirkit.registration.header_form import HeaderForm
from lumirkit.registration.image_like import (
    ImageLike,
    PlacedImage,
    as_values,
    as_volume,
    name_of,
    placed,
    say_of_header,
)
from lumirkit.registration.masks import inside_of, within
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.refinement.settings import chosen_refinement
from lumirkit.registration.volume import Volume
from lumirkit.submission.shipped_weights import chosen_weights

PathLike = Path | str

_LOG = logging.getLogger("lumirkit")


def register(
    fixed: ImageLike,
    moving: ImageLike,
    *,
    weights: Predictor | PathLike | Sequence[PathLike] | None = None,
    fixed_affine: Float[ndarray, "4 4"] | None = None,
    moving_affine: Float[ndarray, "4 4"] | None = None,
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    refine: int = 0,
    refine_grid: int | None = None,
    header: str | None = None,
    orientation: str | None = None,
    affine_start: bool = False,
    as_is: bool = False,
    say: Callable[[str], None] = _LOG.warning,
) -> Deformation:
    """Register two skull-stripped images of any orientation, spacing and intensities.

    Args:
        fixed: a path, a nibabel image or an array (X, Y, Z).
        moving: the same, on any grid.
        weights: what `load_weights` gives, which saves loading them again; or weight files or folders of them; None
            for those that come with the kit, "none" for no network, so that `refine` alone registers.
        fixed_affine: takes the voxels of a fixed array to RAS mm; without it they are at their indices, 1 mm apart.
        moving_affine: the same of a moving array.
        fixed_mask: the brain of the fixed image, where its skull is not stripped; on any grid if it has a header.
        moving_mask: the same of the moving image.
        refine: the most steps on each grid that improve the network's field by the pair's own loss; what `load_weights`
            gives has its own.
        refine_grid: the finest grid of `refine`, in image voxels a voxel; None for the network's.
        header: which form of a header is right where its sform and its qform differ, "sform" or "qform"; None takes
            the sform, and warns.
        orientation: how the axes of images run whose header does not say it, such as "RAS"; None guesses, and warns.
        affine_start: align the images by ANTs first; needs the extra `baselines`.
        as_is: take the arrays as they are, whatever their affines say; they must be in RAS, 1 mm, 0…255.
        say: is told what was done to the images, and what may be wrong with them; by default the log `lumirkit` is.

    Returns:
        The field, which warps images, labels and points, knows its inverse, and can be saved.

    Raises:
        KitError: an image or the weights cannot be used.

    The affine of an array says where its voxels lie. Of one brain on two grids, of which the second starts two voxels
    further left, the field says so:

    Examples:
        >>> import lumirkit
        >>> import numpy as np
        >>> from lumirkit.phantoms.brains import PhantomSpec, Subject, make_subject
        >>> brain, _ = make_subject(PhantomSpec(shape=(32, 40, 32)), Subject(1))
        >>> padded, affine = np.pad(brain, [(2, 0), (0, 0), (0, 0)]), np.eye(4)
        >>> affine[0, 3] = -2
        >>> found = lumirkit.register(brain, padded, moving_affine=affine)
        >>> round(float(found.disp_vox[..., 0].mean()), 1)
        2.0
    """
    require_start(affine_start, as_is)
    choice = _choice(header, orientation)
    if not as_is:
        for image, role in ((fixed, "fixed"), (moving, "moving")):
            say_of_header(image, role, say, choice)
    fixed_brain = _brain(fixed, "fixed", fixed_affine, fixed_mask, as_is, choice, say)
    moving_brain = _brain(moving, "moving", moving_affine, moving_mask, as_is, choice, say)
    if not isinstance(weights, Predictor):
        weights = load_weights(weights, refine=refine, refine_grid=refine_grid)
    elif refine or refine_grid is not None:
        raise RequestError("refine: found beside loaded weights; expected it where they are loaded, in load_weights.")
    return register_images(weights, fixed_brain, moving_brain, affine_start, as_is, say, choice)


def load_weights(
    paths: PathLike | Sequence[PathLike] | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    refine: int = 0,
    refine_grid: int | None = None,
) -> Predictor:
    """Load weights once, for any number of calls of `register`.

    Args:
        paths: weight files or folders of them, averaged as one ensemble; None for those that come with the kit.
        device: auto, which takes a GPU where there is one, cpu, cuda or cuda:<n>.
        precision: number format of the convolutions: float32, bfloat16, or auto, which is bfloat16 where the device
            has units for it, and float32 elsewhere.
        refine: the most steps on each grid that improve the network's field of a pair by its own loss.
        refine_grid: the finest grid of `refine`, in image voxels a voxel; None for the network's.

    Raises:
        KitError: a file cannot be used, or there is no such device or number format.

    Examples:
        >>> import lumirkit
        >>> weights = lumirkit.load_weights(device="cpu")
        >>> weights.members
        1
    """
    named = [paths] if isinstance(paths, Path | str) else paths
    chosen = chosen_weights(None if named is None else [Path(path) for path in named])
    place = choose_place(device, precision, _LOG.warning)
    return Predictor(chosen, place, chosen_refinement(refine, refine_grid))


def read_field(
    path: PathLike | Sequence[PathLike],
    *,
    fixed: PlacedImage | None = None,
    moving: PlacedImage | None = None,
    header: str | None = None,
    orientation: str | None = None,
) -> Deformation:
    """Read a field that `register` saved, or that ITK or ANTs wrote as a warp, or a chain of fields and affines.

    Args:
        path: a field; or fields and affines, in the order of `antsApplyTransforms -t`.
        fixed: the fixed image; without it the fixed grid lies where the file says.
        moving: the moving image; without it the moving grid is the fixed one.
        header: which form of a header is right where its sform and its qform differ; None takes the sform.
        orientation: how the axes of images run whose header does not say it, such as "RAS"; None guesses.

    Raises:
        KitError: the file cannot be used, or does not belong to the images.

    Examples:
        >>> import tempfile, lumirkit
        >>> import numpy as np
        >>> from lumirkit.registration.deformation import Deformation
        >>> from lumirkit.registration.grid import Grid
        >>> grid = Grid((8, 8, 8), np.eye(4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Deformation(np.full((8, 8, 8, 3), 0.5), grid, grid).save(f"{folder}/field.nii.gz", format="itk")
        ...     field = lumirkit.read_field(f"{folder}/field.nii.gz")
        >>> field.warp_points([[1, 2, 3]]).tolist()
        [[1.5, 2.5, 3.5]]
    """
    images = FixedAndMoving(fixed, moving, _choice(header, orientation))
    images.say_of_headers(_LOG.warning)
    named = [path] if isinstance(path, Path | str) else path
    return read_transforms([Path(name) for name in named], images, _LOG.warning)


def evaluate(
    ground_truth: PathLike,
    fields: PathLike | None,
    *,
    workers: int = 1,
    mask_rule: str = MaskRule.LUMIR_2025,
    inverse_fields: PathLike | None = None,
    designs: bool = False,
) -> LeaderboardResult:
    """Score displacement fields as the leaderboard does.

    Args:
        ground_truth: folder with `*_evaluation_config.json`, images, labels and landmarks.
        fields: folder with `disp_<fixed>_<moving>.nii.gz`; None scores zero displacement.
        workers: processes that score one pair each, at once.
        mask_rule: brain mask of the folding: "2025" the fixed image, "2024" the moving one.
        inverse_fields: folder with the fields of the exchanged pairs, for inverse consistency.
        designs: measure what training designs are compared by, too.

    Raises:
        KitError: the request is wrong or files are missing, which is found before the first pair is scored.

    Examples:
        >>> import tempfile, lumirkit
        >>> from pathlib import Path
        >>> from lumirkit.phantoms.brains import PhantomSpec
        >>> from lumirkit.phantoms.dataset import make_dataset
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     make_dataset(Path(folder), PhantomSpec(shape=(32, 40, 32), n_train=1, pairs_per_split=1))
        ...     unregistered = lumirkit.evaluate(folder, fields=None)
        >>> 0 < unregistered.aggregates["ID_dice"]["mean"] < 1
        True
    """
    if mask_rule not in list(MaskRule):
        raise RequestError(f"mask_rule: found {mask_rule!r}; expected one of {', '.join(MaskRule)}.")
    inverse = None if inverse_fields is None else Path(inverse_fields)
    options = ScoringOptions(MaskRule(mask_rule), inverse, designs=designs)
    return score(Path(ground_truth), None if fields is None else Path(fields), Processes(workers), options=options)


def train_recipe(
    recipe: PathLike,
    data: PathLike,
    out: PathLike,
    *,
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    members: int | None = None,
    device: str = "auto",
    cache: PathLike | None = None,
    allow_other_images: bool = False,
) -> list[Path]:
    """Train a recipe on a dataset folder, or continue an interrupted run of it; returns the paths of the weights.

    Under torchrun or srun every process calls it, and the first one gets the paths.

    Args:
        recipe: a file (.yaml), or a shipped recipe's name, such as lumir25.
        data: folder with `*dataset.json` and the training images.
        out: run folder.
        overrides: keys of the recipe to change, such as "seed=1".
        minutes: stop after this time; a later call continues.
        members: train so many seeds, counted from the recipe's, each in `out/seed<n>`.
        device: auto, cpu, cuda or cuda:<n>.
        cache: folder for the decoded images; None for memory, or the disk where memory is short.
        allow_other_images: continue a run on other images than it has been trained on so far.

    Raises:
        KitError: the recipe, the data or the folder cannot be used, the extra `train` is not installed, or training
            cannot go on.

    Two steps of a small network:

    Examples:
        >>> import tempfile, lumirkit
        >>> from pathlib import Path
        >>> from lumirkit.phantoms.brains import PhantomSpec
        >>> from lumirkit.phantoms.dataset import make_dataset
        >>> recipe = '''
        ... name: small
        ... network: {resolution_vox: 2, feature_channels: [4, 8], update_channels: [4, 8]}
        ... stages:
        ...   - {epochs: 1, items_per_epoch: 2, batch_size: 1, learning_rate: 1.0e-3, losses: {ncc_window_vox: 7}}
        ... '''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     make_dataset(Path(folder), PhantomSpec(shape=(32, 40, 32), n_train=3, pairs_per_split=1))
        ...     recipe_file = Path(folder, "small.yaml")
        ...     _ = recipe_file.write_text(recipe)
        ...     (path,) = lumirkit.train_recipe(recipe_file, folder, f"{folder}/run", device="cpu")
        ...     lumirkit.load_weights(path, device="cpu").members
        1
    """
    require_extra("lumirkit.train_recipe", "train", "omegaconf", "filelock", "matplotlib")
    from lumirkit.train.deadline import Deadline
    from lumirkit.train.launch import launch_training
    from lumirkit.train.shipped_recipes import find_recipe

    folder = None if cache is None else Path(cache)
    deadline = Deadline(minutes)
    return launch_training(
        find_recipe(str(recipe)),
        overrides,
        Path(data),
        Path(out),
        device,
        members,
        deadline,
        folder,
        allow_other_images,
    )


def _choice(header: str | None, orientation: str | None) -> HeaderChoice:
    if header is not None and header not in list(HeaderForm):
        raise RequestError(f"header: found {header!r}; expected one of {', '.join(HeaderForm)}.")
    return HeaderChoice(None if header is None else HeaderForm(header), orientation)


def _brain(
    image: ImageLike,
    role: str,
    affine: Float[ndarray, "4 4"] | None,
    mask: ImageLike | None,
    as_is: bool,
    choice: HeaderChoice,
    say: Callable[[str], None],
) -> Volume:
    """Read an image within its mask, wherever the header of that places it, on background 0."""
    volume = as_volume(image, role, affine, choice)
    if mask is not None:
        inside = inside_of(as_values(mask, f"{role} mask"), name_of(mask, f"{role} mask"))
        place = None if as_is else placed(mask, f"{role} mask", choice)
        volume = within(volume, inside, name_of(mask, f"{role} mask"), place)
    return volume if as_is else on_dark_background(volume, say)
