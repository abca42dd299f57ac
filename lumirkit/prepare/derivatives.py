"""`lumirkit export --prepared`: what `predict` found between prepared scans, as BIDS derivatives of the scans.

Each pair gives the field from the moving scan to the fixed one, in their own spaces, and the moving scan that was
resampled by it; each scan gives its affine to the dataset. The names of transforms are those of a draft of BIDS
(BEP014), which fMRIPrep uses too: `from-` names the space of the images that a transform takes, `to-` that of the
result.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import prod
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from lumirkit.base.errors import RequestError
from lumirkit.base.files import require_free, require_writable, write_json_atomically, write_text_atomically
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.prepare.bids_name import BidsName
from lumirkit.prepare.read_head import opened
from lumirkit.prepare.record import ScanRecord, SubjectRecord, read_records
from lumirkit.prepare.stripping import NO_STRIPPING
from lumirkit.registration.any_pair.pair_in_frame import PairGrids
from lumirkit.registration.convention import Convention
from lumirkit.registration.deformation import Deformation
from lumirkit.registration.field import read_field, require_convention
from lumirkit.registration.grid import Grid
from lumirkit.registration.image_like import grid_of
from lumirkit.registration.itk_affine import read_itk_affine, write_itk_affine
from lumirkit.registration.volume import write_volume

_BIDS_VERSION = "1.11.1"
_KEPT = ("sub", "ses", "acq", "ce", "rec", "run")
"""The entities of a scan that stay in the names of what is made of it; others say how a derivative was made."""
_FRAME = "prepared"
"""The name of the dataset's space, and of its folder in BIDS URIs."""
_DESCRIPTION = "dataset_description.json"
_BYTES_A_VOXEL = 4 * (3 + 1)  # of a field and of an image, both float32
_README = """\
# Registrations by lumirkit

* `*_xfm.nii.gz` takes images of the space `from-` to the space `to-`, such as `sub01T1w`, the T1w scan of `sub-01`:
  `antsApplyTransforms -i SCAN -r SCAN_OF_THE_SPACE -t XFM -o OUT`.
* `*_to-prepared_mode-image_xfm.txt` is the affine to the dataset that `lumirkit prepare` made.
* `*_desc-warped_*` is a scan that was resampled in the space of another.

The names of the `xfm` files follow a draft of BIDS (BEP014), so `.bidsignore` lists them.
"""


@dataclass(frozen=True, eq=False)
class _Scan:
    """A prepared scan as its file lies in the world, and its name in BIDS."""

    path: Path
    name: BidsName
    uri: str
    grid: Grid
    from_frame: Float64[ndarray, "4 4"]
    """Takes positions of the dataset to positions in the scan, in RAS mm."""
    is_stripped: bool
    """Whether the scan shows a brain alone."""

    @property
    def aligned(self) -> Grid:
        """The voxels where they lie in the dataset."""
        return replace(self.grid, affine=np.linalg.inv(self.from_frame) @ self.grid.affine, itk_affine=None)

    @property
    def space(self) -> str:
        """The label of its space, such as sub01sesaT1w."""
        return self.name.visit.replace("-", "").replace("_", "") + self.name.suffix

    def file(self, root: Path, suffix: str, **entities: str) -> Path:
        """Where a derivative of it lies, without extension; `suffix` and `entities` complete its name."""
        folder = root.joinpath(*self.name.visit.split("_"), "anat")
        return folder / str(BidsName({**self.name.entities, **entities}, suffix))


@dataclass(frozen=True, eq=False)
class _Pair:
    """A field of `predict`, its two scans, and the files to write."""

    field: Path
    frame: Grid
    fixed: _Scan
    moving: _Scan
    transform: Path
    warped: Path
    """Both without extension."""

    def deformation(self) -> Deformation | None:
        """The field from the fixed scan's voxels to the moving scan; None if the field says nothing.

        Raises:
            VolumeError: the field cannot be read, or has another grid than the dataset.
        """
        disp_vox = read_field(self.field).on(self.frame, self.field).disp_vox(self.frame)
        if not disp_vox.any():
            return None
        grids = PairGrids(self.frame, self.fixed.grid, self.moving.grid, self.fixed.aligned, self.moving.aligned)
        return Deformation(grids.on_fixed(disp_vox), self.fixed.grid, self.moving.grid)


def write_derivatives(fields: Path, dataset: Path, out: Path, say: Callable[[str], None]) -> int:
    """Write a BIDS derivatives tree of the fields that `predict` made of a dataset of `prepare`.

    Args:
        fields: the folder of the fields.
        say: is told of pairs that were left out.

    Returns:
        How many pairs were written.

    Raises:
        ManifestError, RequestError, VolumeError: a file cannot be used, such as a scan that was moved since.
    """
    links = _Links(out)
    pairs = _pairs(fields, dataset, out, links, say)
    description = out / _DESCRIPTION
    _require_own(description)
    require_writable(out)
    require_free(out, sum(_BYTES_A_VOXEL * prod(pair.fixed.grid.shape) for pair in pairs), "the derivatives")
    links.uri(dataset, dataset, _FRAME)
    write_json_atomically(description, _description(links))
    write_text_atomically(out / ".bidsignore", "*_xfm.*\n")
    write_text_atomically(out / "README.md", _README)
    for scan in {scan.path: scan for pair in pairs for scan in (pair.fixed, pair.moving)}.values():
        _write_affine(scan, out)
    return sum(_write_pair(pair, out, say) for pair in pairs)


class _Links:
    """The folders that BIDS URIs of a tree name."""

    def __init__(self, out: Path) -> None:
        self._out = out.resolve()
        self.by_name: dict[str, str] = {}

    def uri(self, path: Path, root: Path, name: str) -> str:
        """The BIDS URI of a file within a folder, which gets this name, or a similar one if another has it."""
        link = os.path.relpath(root.resolve(), self._out)
        number = 1
        while self.by_name.setdefault(chosen := name if number == 1 else f"{name}{number}", link) != link:
            number += 1
        return f"bids:{chosen}:{path.relative_to(root).as_posix()}"  # files of git-annex are links, which stay


def _pairs(fields: Path, dataset: Path, out: Path, links: _Links, say: Callable[[str], None]) -> list[_Pair]:
    """The pairs of a dataset whose fields are there.

    Raises:
        ManifestError, RequestError, VolumeError: there is none, or one of its scans is not.
    """
    records = {dataset / scan.image: (each, scan) for each in read_records(dataset) for scan in each.scans}
    if not records:
        raise RequestError(
            f"{dataset}: found no records in it; expected a dataset folder that `lumirkit prepare` made."
        )
    listed = {pair.field_name: pair for pair in read_dataset(find_dataset_json(dataset)).validation}
    there = [name for name in listed if (fields / name).is_file()]
    if not there:
        raise RequestError(
            f"{fields}: found none of the fields of {dataset}; expected {len(listed)}, "
            f"such as {next(iter(listed), 'disp_0000_0001.nii.gz')}. Name the folder that `predict --out` filled."
        )
    if len(there) < len(listed):
        say(f"left out: {len(listed) - len(there)} of {len(listed)} pairs, whose fields are not in {fields}")
    scans: dict[Path, _Scan] = {}
    pairs = []
    for name in there:
        images = dataset / listed[name].fixed, dataset / listed[name].moving
        for image in images:
            if image not in records:
                raise RequestError(f"{image}: `prepare` has no record of it; expected one. Run `prepare` again.")
            if image not in scans:
                scans[image] = _scan(dataset, *records[image], links)
        fixed, moving = (scans[image] for image in images)
        require_convention(Convention.ITK, fixed.grid, moving.grid, fixed.path)
        transform = moving.file(out, "xfm", **{"from": moving.name.suffix, "to": fixed.space, "mode": "image"})
        warped = moving.file(out, moving.name.suffix, space=fixed.space, desc="warped")
        pairs.append(_Pair(fields / name, Grid.from_file(images[0]), fixed, moving, transform, warped))
    _require_own_spaces(scans.values())
    return pairs


def _require_own_spaces(scans: Iterable[_Scan]) -> None:
    """Check that no two scans would have one name, as may happen to subjects whose names are none of BIDS.

    Raises:
        RequestError: two would.
    """
    of_space: dict[str, _Scan] = {}
    for scan in scans:
        other = of_space.setdefault(scan.space, scan)
        if other is not scan:
            raise RequestError(
                f"{scan.path}: would have the name {scan.name}, as {other.path}; expected two names. Call the subjects "
                "as BIDS does, such as sub-01, and prepare them again."
            )


def _scan(dataset: Path, subject: SubjectRecord, record: ScanRecord, links: _Links) -> _Scan:
    """The scan that an image of the dataset was made of.

    Raises:
        RequestError: it is not where it was.
        VolumeError: its header cannot be used.
    """
    path = Path(record.source)
    if not path.exists():
        raise RequestError(
            f"{path}: no such file; expected the scan that {record.image} of {dataset} was made of. Bring it back, or "
            "work in the folder in which `prepare` ran, if the path is relative."
        )
    uri = links.uri(path, _tree_of(path), "raw")
    grid, from_frame = grid_of(opened(path), "scan"), read_itk_affine(dataset / record.transform)
    return _Scan(path, _name(subject, record), uri, grid, from_frame, record.brain == NO_STRIPPING)


def _tree_of(path: Path) -> Path:
    """The BIDS tree that a scan lies in, or else its folder."""
    subjects = [folder for folder in path.parents if folder.name.startswith("sub-")]
    return subjects[-1].parent if subjects else path.parent


def _name(subject: SubjectRecord, record: ScanRecord) -> BidsName:
    """The name of a scan in BIDS: its own, if it has one, or else one made of that of its subject."""
    own = BidsName.parse(Path(record.source).name.split(".")[0])
    if own is None or own.visit != subject.name or own.suffix != record.contrast:
        own = BidsName.parse(f"{subject.name}_{record.contrast}")
    if own is None:
        label = re.sub(r"[^0-9a-zA-Z]", "", subject.name.removeprefix("sub-")) or f"{subject.number:04d}"
        own = BidsName({"sub": label}, record.contrast)
    return BidsName({key: label for key, label in own.entities.items() if key in _KEPT}, own.suffix)


def _require_own(description: Path) -> None:
    """Check that the description of another dataset would not be overwritten.

    Raises:
        RequestError: it would.
    """
    if not description.is_file():
        return
    try:
        made_by = [each.get("Name") for each in json.loads(description.read_bytes())["GeneratedBy"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        made_by = []
    if made_by != ["lumirkit"]:
        raise RequestError(
            f"{description}: found the description of another dataset; expected a folder for lumirkit alone. Name a "
            "new folder for --out, such as derivatives/lumirkit in a BIDS tree."
        )


def _description(links: _Links) -> dict[str, object]:
    """What BIDS wants to know of the tree."""
    return {
        "Name": "Registrations by lumirkit",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "lumirkit", "Version": version("lumirkit")}],
        "SourceDatasets": [{"URL": link} for link in links.by_name.values()],
        "DatasetLinks": links.by_name,
    }


def _write_affine(scan: _Scan, out: Path) -> None:
    """Write how a scan came into the dataset."""
    stem = scan.file(out, "xfm", **{"from": scan.name.suffix, "to": _FRAME, "mode": "image"})
    write_itk_affine(_with(stem, ".txt"), scan.from_frame)
    _write_sidecar(stem, "Affine of ITK, from the scan to the dataset that lumirkit prepare made.", [scan.uri])


def _write_pair(pair: _Pair, out: Path, say: Callable[[str], None]) -> bool:
    """Write a field and the scan that it warps; False if the field says nothing."""
    deformation = pair.deformation()
    if deformation is None:
        say(f"left out: {pair.field}: 0 everywhere, as of a pair that could not be registered")
        return False
    field = _with(pair.transform, ".nii.gz")
    deformation.save(field, Convention.ITK)
    said = "Displacement field of ITK in LPS mm, from the first source to the second, on the grid of the second."
    _write_sidecar(pair.transform, said, [pair.moving.uri, pair.fixed.uri])
    write_volume(_with(pair.warped, ".nii.gz"), deformation.warp(opened(pair.moving.path)), pair.fixed.grid.affine)
    said = "The first source through the second, interpolated linearly on the grid of the spatial reference."
    sources = [pair.moving.uri, f"bids::{field.relative_to(out).as_posix()}"]
    place: dict[str, str | bool] = {"SpatialReference": pair.fixed.uri, "SkullStripped": pair.moving.is_stripped}
    _write_sidecar(pair.warped, said, sources, **place)
    return True


def _with(stem: Path, extension: str) -> Path:
    return stem.with_name(stem.name + extension)


def _write_sidecar(stem: Path, said: str, sources: Sequence[str], **more: str | bool) -> None:
    """Write the JSON beside a file: what it is, what it was made of, and `more` that BIDS wants to know of it."""
    write_json_atomically(_with(stem, ".json"), {"Description": said, "Sources": sources, **more})
