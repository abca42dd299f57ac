"""Subjects by the names of their files: `sub-X[_ses-Y]_T1w.nii.gz` of BIDS, or any name that ends in the contrast."""

from __future__ import annotations

import re
from pathlib import Path

from lumirkit.prepare.sources import IMAGE_SUFFIXES, Contrast, Found, Scan, grouped

_POINT_SUFFIXES = (".csv", ".fcsv", ".mrk.json")
_CONTRASTS = {"t1": Contrast.T1W, "t2": Contrast.T2W, "flair": Contrast.FLAIR}
_NAME = re.compile(r"(?P<subject>.+?)[_\-. ]*(?P<contrast>t1|t2|flair)w?", re.IGNORECASE)
_BESIDE = {
    "mask": "mask",
    "brainmask": "mask",
    "brain_mask": "mask",
    "labels": "labels",
    "dseg": "labels",
    "seg": "labels",
    "landmarks": "landmarks",
}
"""What a file is whose name is that of an image with one of these words behind it."""


def read_folder(folder: Path) -> Found:
    """Find the subjects of a folder.

    In a BIDS tree, which has folders `sub-*`, these are the images of `anat`; sessions are subjects of their own. In
    any other folder they are its images. `X_T1w_mask`, `X_T1w_labels` and `X_T1w_landmarks` belong to `X_T1w`; a name
    without contrast is that of a T1w image.
    """
    is_bids = any(path.is_dir() for path in folder.glob("sub-*"))
    files = folder.glob("sub-*/**/anat/*") if is_bids else folder.iterdir()
    stems = {path: stem for path in sorted(files) if path.is_file() and (stem := _stem(path)) is not None}
    images = {path: stem for path, stem in stems.items() if path.name.endswith(IMAGE_SUFFIXES)}
    found = Found()
    scans: dict[Path, tuple[str, Contrast]] = {}
    beside: dict[Path, dict[str, Path]] = {}
    for path, stem in stems.items():
        owner = _owner(path, stem, images)
        if owner is None and path in images:
            scans[path] = _subject_and_contrast(stem)
        elif owner is not None:
            kind = _BESIDE.get(stem.removeprefix(images[owner] + "_").lower())
            if kind is None:
                found.left_out.append(
                    f"{path}: found beside {owner.name}, of no kind that its name tells; expected an ending such as "
                    "_mask or _labels. Rename it, or list the files in a CSV."
                )
            else:
                beside.setdefault(owner, {})[kind] = path
    found.subjects = grouped(
        (name, Scan(contrast, path, **beside.get(path, {}))) for path, (name, contrast) in scans.items()
    )
    return found


def _stem(path: Path) -> str | None:
    """The name without the suffix of a file that may matter."""
    suffix = next((end for end in (*IMAGE_SUFFIXES, *_POINT_SUFFIXES) if path.name.endswith(end)), None)
    return None if suffix is None or path.name.startswith(".") else path.name.removesuffix(suffix)


def _owner(path: Path, stem: str, images: dict[Path, str]) -> Path | None:
    """The image whose name a file's name continues; the one with the shortest name."""
    owners = [image for image, name in images.items() if image.parent == path.parent and stem.startswith(name + "_")]
    return min(owners, key=lambda image: len(images[image]), default=None)


def _subject_and_contrast(stem: str) -> tuple[str, Contrast]:
    match = _NAME.fullmatch(stem)
    name, contrast = (match["subject"], _CONTRASTS[match["contrast"].lower()]) if match else (stem, Contrast.T1W)
    if name.startswith("sub-"):  # acquisitions and runs are no subjects of their own
        name = "_".join(entity for entity in name.split("_") if entity.startswith(("sub-", "ses-")))
    return name, contrast
