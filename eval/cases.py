"""The cases of a ground-truth folder, the files each needs, and the cheap checks before anything is scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
from nibabel.filebasedimages import ImageFileError

from data_manifests.dataset import Pair
from data_manifests.evaluation import EvaluationConfig, EvaluationMethod, Split, beside_image


class EvaluationError(ValueError):
    """Something cannot be scored; the message has one line a problem: file, found, expected and what to do."""


@dataclass(frozen=True)
class Case:
    """One pair of one config, with what is measured on it and where its files lie.

    `field` None stands for zero displacement.
    """

    split: Split
    pair: Pair
    methods: tuple[EvaluationMethod, ...]
    shape: tuple[int, int, int]
    root: Path
    field: Path | None

    @property
    def name(self) -> str:
        """The pair as the organisers' result names it, for example `3455_0000<--3454_0000`."""
        return self.pair.case_name

    @property
    def fixed_image(self) -> Path:
        """The fixed image, whose non-zero voxels are the mask."""
        return self.root / self.pair.fixed

    def maps(self, folder: str) -> tuple[Path, Path]:
        """The label maps (`folder` "labels") or landmarks ("landmarks") of the fixed and the moving image."""
        fixed, moving = (self.root / beside_image(image, folder) for image in (self.pair.fixed, self.pair.moving))
        return fixed, moving


def list_cases(configs: Iterable[EvaluationConfig], root: Path, fields: Path | None) -> list[Case]:
    """Every pair of every config, in their order; `fields` is the folder of the displacement fields, None for zero."""
    return [
        Case(
            config.split,
            pair,
            config.evaluation_methods,
            config.image_shape,
            root,
            None if fields is None else fields / pair.field_name,
        )
        for config in configs
        for pair in config.eval_pairs
    ]


def check_cases(cases: Sequence[Case]) -> None:
    """Check that every file a case needs exists, is an image and has the right shape; only headers are read.

    Raises:
        EvaluationError: one line for every file that cannot be used.
    """
    problems: dict[Path, str | None] = {}  # a file that several cases need is checked once
    for case in cases:
        for path, meaning, shapes in _needed(case):
            if path not in problems:
                problems[path] = _problem(path, meaning, shapes)
    raise_problems([problem for problem in problems.values() if problem])


def raise_problems(problems: Sequence[str]) -> None:
    """Raise one EvaluationError that lists the problems, if there are any."""
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise EvaluationError("\n  ".join([f"{count} found, so there is no result:", *problems]))


def _needed(case: Case) -> Iterable[tuple[Path, str, tuple[tuple[int, ...], ...]]]:
    """Path, meaning and accepted shapes of every file a case is scored from."""
    if case.field is not None:
        yield case.field, f"the displacement field of {case.name}", ((*case.shape, 3), (3, *case.shape))
    for method in case.methods:
        if method.metric == "ndv":
            yield case.fixed_image, f"the fixed image of {case.name}", (case.shape,)
        else:
            for path in case.maps(method.folder):
                yield path, f"{method.folder} for {case.name}", (case.shape,)


def _problem(path: Path, meaning: str, shapes: tuple[tuple[int, ...], ...]) -> str | None:
    expected = " or ".join(map(str, shapes))
    if not path.is_file():
        return f"{path}: no such file; expected {meaning}, shape {expected}. Copy it there or correct the name."
    try:
        image = nib.load(path)
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        return f"{path}: not a readable NIfTI image ({error}); expected {meaning}. Write or copy it again."
    if not isinstance(image, nib.Nifti1Image):
        return f"{path}: found a {type(image).__name__}; expected a NIfTI image, {meaning}. Convert it to .nii.gz."
    if image.shape not in shapes:
        return f"{path}: found shape {image.shape}; expected {expected} ({meaning}). Put it on the fixed grid."
    return None
