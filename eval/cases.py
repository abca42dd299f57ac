"""The cases of a ground-truth folder and the files each needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lumirkit.base.errors import KitError
from lumirkit.data_manifests.dataset import Pair
from lumirkit.data_manifests.evaluation_config import EvaluationConfig, MetricEntry, beside_image
from lumirkit.eval.mask_rule import MaskRule
from lumirkit.eval.run_times import read_run_times


class EvaluationError(KitError):
    """Nothing can be scored as requested; the message has one line a problem: file, found, expected and what to do."""


@dataclass(frozen=True)
class Case:
    """One pair of one config, with its metrics and its files.

    `field` None stands for zero displacement; `inverse_field` is the field of the pair with its images exchanged, None
    where inverse consistency is not measured. `designs` asks for the measures that training designs are compared by,
    too; `seconds` is then the run time, None where it is not known.
    """

    split: str
    """A `Split` of the challenge, or a split of the user's own."""
    pair: Pair
    metrics: tuple[MetricEntry, ...]
    shape: tuple[int, int, int]
    root: Path
    field: Path | None
    inverse_field: Path | None
    mask_rule: MaskRule
    designs: bool = False
    seconds: float | None = None

    @property
    def name(self) -> str:
        """The pair as the organisers' result names it, for example `3455_0000<--3454_0000`."""
        return self.pair.case_name

    @property
    def fixed_image(self) -> Path:
        """The image on whose grid the field is."""
        return self.root / self.pair.fixed

    @property
    def moving_image(self) -> Path:
        """The image that the field warps."""
        return self.root / self.pair.moving

    @property
    def mask_image(self) -> Path:
        """The image whose non-zero voxels are the mask."""
        return self.fixed_image if self.mask_rule is MaskRule.LUMIR_2025 else self.moving_image

    def maps(self, folder: str) -> tuple[Path, Path]:
        """The label maps (`folder` "labels") or landmarks ("landmarks") of the fixed and the moving image."""
        fixed, moving = (self.root / beside_image(image, folder) for image in (self.pair.fixed, self.pair.moving))
        return fixed, moving

    def files(self) -> dict[Path, str]:
        """Every file that the case is scored from, and what the file is."""
        files: dict[Path, str] = {}
        if self.field is not None:
            files[self.field] = f"the displacement field of {self.name}"
        if self.inverse_field is not None:
            files[self.inverse_field] = f"the field of the opposite direction of {self.name}"
        if self.designs:
            files.update(self.images())
        if self.needs_mask:
            files[self.mask_image] = f"the image whose brain is the mask of {self.name}"
        for metric in self.metrics:
            if metric.kind != "ndv":
                files.update((path, f"{metric.folder} for {self.name}") for path in self.maps(metric.folder))
        return files

    def images(self) -> dict[Path, str]:
        """The files of both images, and what they are."""
        return {
            self.fixed_image: f"the fixed image of {self.name}",
            self.moving_image: f"the moving image of {self.name}",
        }

    @property
    def needs_mask(self) -> bool:
        """True where something is measured inside the brain."""
        return self.inverse_field is not None or any(metric.kind == "ndv" for metric in self.metrics)


def list_cases(
    configs: Iterable[EvaluationConfig],
    root: Path,
    fields: Path | None,
    mask_rule: MaskRule = MaskRule.LUMIR_2025,
    inverse_fields: Path | None = None,
    designs: bool = False,
) -> list[Case]:
    """Every pair of every config, in their order.

    Args:
        configs: the evaluation configs.
        root: folder of images, labels and landmarks.
        fields: folder of the displacement fields, None for zero displacement.
        mask_rule: which image is the mask.
        inverse_fields: folder with the field of each pair with fixed and moving exchanged, under that pair's own name.
        designs: whether to measure what training designs are compared by, too, the run times that `fields` tells of
            among them.

    Raises:
        ManifestError: a file with run times cannot be used.
    """
    pairs = [(config, pair) for config in configs for pair in config.eval_pairs]
    seconds = read_run_times(fields, [pair.field_name for _, pair in pairs]) if designs and fields is not None else {}

    def inside(folder: Path | None, pair: Pair) -> Path | None:
        return None if folder is None else folder / pair.field_name

    return [
        Case(
            config.split,
            pair,
            config.metrics,
            config.image_shape,
            root,
            inside(fields, pair),
            inside(inverse_fields, Pair(fixed=pair.moving, moving=pair.fixed)),
            mask_rule,
            designs,
            seconds.get(pair.field_name),
        )
        for config, pair in pairs
    ]


def require_case_files(cases: Sequence[Case], with_images: bool = False) -> None:
    """Check that every file of every case is there.

    Args:
        with_images: whether both images are needed, and not only what is scored.

    Raises:
        EvaluationError: one line for every file that is not.
    """
    files = {
        path: meaning
        for case in reversed(cases)
        for path, meaning in (case.files() | (case.images() if with_images else {})).items()
    }
    missing = [
        f"{path}: no such file; expected {meaning}. Copy it there or correct the name."
        for path, meaning in sorted(files.items())
        if not path.is_file()
    ]
    if missing:
        count = "1 file is" if len(missing) == 1 else f"{len(missing)} files are"
        raise EvaluationError("\n  ".join([f"{count} missing, so nothing was scored:", *missing]))
