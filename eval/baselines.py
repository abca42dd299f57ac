"""Displacement fields of reference methods, so that every table of scores has rows to compare with.

Each method is a frozen dataclass: its fields are all its settings, and calling it registers one pair. A record of
method, version, settings and run time is written beside every field.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.base.extras import require_extra
from lumirkit.base.files import write_text_atomically
from lumirkit.base.outputs import require_apart
from lumirkit.data_manifests.worklist import PairFiles, Shard, validation_files
from lumirkit.registration.ants_image import to_ants
from lumirkit.registration.grid import LPS_FROM_RAS
from lumirkit.registration.pair_files import Failure, for_each_pair, register_files
from lumirkit.registration.volume import Volume


@dataclass(frozen=True)
class Baseline(ABC):
    """A reference method; its dataclass fields are its settings."""

    package: ClassVar[str | None] = None
    """Name of the distribution the method comes from; None where it needs none."""

    @abstractmethod
    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register two images of one shape; returns the pull-back displacement on the fixed grid in voxels."""

    def package_version(self) -> str | None:
        """Version of the installed package; None where the method needs none.

        Raises:
            RequestError: the package is not installed.
        """
        if self.package is None:
            return None
        require_extra(f"the baseline {type(self).__name__}", "baselines", self.package)
        return version(self.package)


@dataclass(frozen=True)
class Zero(Baseline):
    """No registration: the field is zero everywhere."""

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """The zero field on the fixed grid."""
        return np.zeros((*fixed.shape, 3), np.float32)


@dataclass(frozen=True)
class SyN(Baseline):
    """ANTs' symmetric normalisation from the identity, without an affine step (Avants et al., MedIA 2008)."""

    package: ClassVar[str | None] = "antspyx"

    metric: str = "mattes"
    metric_parameter: int = 32
    """Histogram bins of the metric "mattes", radius in voxels of "CC"."""
    iterations: tuple[int, ...] = (40, 20, 5)
    """Iterations a level, from coarse to fine. Three levels are shrunk 4, 2, 1 times, smoothed 2, 1, 0 voxels."""
    gradient_step: float = 0.2
    flow_sigma: float = 3.0
    total_sigma: float = 0.0

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register with the geometry of the fixed image's header for both, as the challenge's fields assume.

        Raises:
            VolumeError: ANTs gave up on the pair.
        """
        import ants

        fixed_image, moving_image = (to_ants(image.data, fixed.affine) for image in (fixed, moving))
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = ants.registration(
                    fixed_image,
                    moving_image,
                    type_of_transform="SyNOnly",
                    initial_transform="Identity",  # the default would align the centres of mass
                    outprefix=f"{folder}/syn_",
                    syn_metric=self.metric,
                    syn_sampling=self.metric_parameter,
                    reg_iterations=self.iterations,
                    grad_step=self.gradient_step,
                    flow_sigma=self.flow_sigma,
                    total_sigma=self.total_sigma,
                )
            except RuntimeError as error:
                raise VolumeError(
                    f"{fixed.name} and {moving.name}: ANTs could not register them ({error}). Look at both images."
                ) from error
            return displacement_from_ants(fixed_image, fixed.affine, result["fwdtransforms"])


@dataclass(frozen=True)
class ConvexAdam(Baseline):
    """Coupled convex optimisation on MIND features, then Adam (Siebert et al., MICCAI 2021 challenges).

    The settings are the package's own defaults, under its names. It computes in float32 on every device, because
    its default of float16 does not exist on a CPU.

    Fields come out slightly short, by one part in the number of half-resolution voxels along an axis (1.3 % of 80): the
    package scales displacements by n - 1 for a sampling that uses n. They are left so, being the published method.
    """

    package: ClassVar[str | None] = "convexAdam"

    mind_r: int = 1
    mind_d: int = 2
    lambda_weight: float = 1.25
    grid_sp: int = 6
    disp_hw: int = 4
    selected_niter: int = 80
    selected_smooth: int = 0
    grid_sp_adam: int = 2
    ic: bool = True
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, fixed: Volume, moving: Volume) -> Float32[ndarray, "x y z 3"]:
        """Register; the package's own convention is the challenge's, voxels in array-axis order on the fixed grid."""
        settings = asdict(self) | {"device": torch.device(self.device), "dtype": torch.float32}
        with warnings.catch_warnings():  # the import would silence all warnings of the process for good
            from convexAdam.convex_adam_MIND import convex_adam_pt

            warnings.simplefilter("ignore", UserWarning)  # grid_sample without align_corners, in the package's own code
            disp_vox = convex_adam_pt(torch.from_numpy(fixed.data), torch.from_numpy(moving.data), **settings)
        return disp_vox.astype(np.float32)


BASELINES: dict[str, type[Baseline]] = {"zero": Zero, "syn": SyN, "convexadam": ConvexAdam}


def run_baseline(name: str, dataset_json: Path, images: Path, out: Path, shard: Shard | None = None) -> list[Failure]:
    """Write the fields of a reference method for the validation pairs of a dataset JSON.

    Names and format of the fields are those of `predict_dataset`. Beside each lies a JSON of the same name with the
    run time in seconds (registration and conversion, without reading and writing the files). A field whose JSON
    says that this method, version and settings made it of these images is kept.

    Args:
        name: a key of BASELINES.
        images: folder that the JSON's paths are relative to.
        out: folder of the fields.

    Returns:
        The pairs that failed; all others are written.

    Raises:
        ManifestError, RequestError: the request cannot be carried out; nothing was started.
    """
    if name not in BASELINES:
        raise RequestError(f"baseline {name}: expected one of {', '.join(BASELINES)}")
    method = BASELINES[name]()
    record: dict[str, Any] = {
        "method": name,
        "package": method.package,
        "version": method.package_version(),
        "settings": asdict(method),
    }

    def run_pair(pair: PairFiles) -> None:
        made_of = {"case": pair.case_name, **record, "images_sha256": [_sha256(image) for image in pair.inputs]}
        if _is_made(pair.field, made_of):
            return
        record_path(pair.field).unlink(missing_ok=True)  # it must not speak for the field that comes
        seconds = register_files(method, pair.fixed, pair.moving, pair.field, pair.shape)
        content = made_of | {"seconds": round(seconds, 3)}
        write_text_atomically(record_path(pair.field), json.dumps(content, indent=1) + "\n")

    pairs = validation_files(dataset_json, images, out, shard)
    require_apart([record_path(pair.field) for pair in pairs], [dataset_json])
    return for_each_pair(pairs, run_pair)


def _is_made(field: Path, made_of: Mapping[str, Any]) -> bool:
    """True where a field is there whose record says that it was made so."""
    try:
        found = json.loads(record_path(field).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    found.pop("seconds", None)
    return field.is_file() and found == json.loads(json.dumps(made_of))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_path(field: Path) -> Path:
    """The path of a displacement field's record: `disp_3455_3454.json` beside `disp_3455_3454.nii.gz`."""
    return field.with_name(field.name.removesuffix(".nii.gz") + ".json")


def displacement_from_ants(
    fixed_image: Any, affine: NDArray[np.float64], transforms: Sequence[str]
) -> Float32[ndarray, "x y z 3"]:
    """Turn transform files of ANTs into one displacement in voxels of the fixed grid, in array-axis order.

    ANTs' transforms map points of the fixed image to the moving image in LPS mm; the list is composed by ANTs, warps
    and affines alike, the last one applied first. A point x = A p of voxel p goes to x + d(x), so where both images
    share A the displacement in voxels is the linear part of A, inverted, times d.

    Args:
        fixed_image: ANTs image of the fixed grid, as `to_ants` makes it.
        affine: NIfTI affine of the fixed and the moving grid.
        transforms: files as `ants.registration` lists them in "fwdtransforms".
    """
    import ants

    with tempfile.TemporaryDirectory() as folder:
        composed = ants.apply_transforms(fixed_image, fixed_image, list(transforms), compose=f"{folder}/composed_")
        disp_lps_mm = ants.image_read(composed).numpy().astype(np.float64)
    voxel_from_lps = np.linalg.inv((LPS_FROM_RAS @ affine)[:3, :3])
    return (disp_lps_mm @ voxel_from_lps.T).astype(np.float32)
