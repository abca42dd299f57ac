"""Subjects by the names of their files: `sub-X[_ses-Y]_T1w.nii.gz` of BIDS, or any name that ends in the contrast."""

from __future__ import annotations

import re
from pathlib import Path

from lumirkit.base.errors import RequestError
from lumirkit.prepare.dicom import holds_dicom
from lumirkit.prepare.sources import IMAGE_SUFFIXES, Contrast, Found, Scan, grouped

_POINT_SUFFIXES = (".csv", ".fcsv", ".mrk.json")
_CONTRASTS = {"t1": Contrast.T1W, "t2": Contrast.T2W, "flair": Contrast.FLAIR}
_NAME = re.compile(r"(?P<subject>.+?)[_\-. ]*(?P<contrast>t1|t2|flair)w?", re.IGNORECASE)
_BESIDE = {
    "mask": "mask",
    "brainmask": "mask",
    "brain_mask": "mask",
    "landmarks": "landmarks",
}
"""What a file is whose name is that of an image with one of these words behind it."""
_LABELS = ("labels", "dseg", "seg")  # as above, where the user names no other word


def read_folder(folder: Path, labels_suffix: str | None = None) -> Found:
    """Find the subjects of a folder.

    In a BIDS tree, which has folders `sub-*`, these are the images of `anat`; sessions are subjects of their own. In
    any other folder they are its images, and its folders of DICOM files; a folder that holds such files itself is one
    scan. `X_T1w_mask`, `X_T1w_labels` and `X_T1w_landmarks` belong to `X_T1w`; a name
    without contrast is that of a T1w image.

    Args:
        labels_suffix: what the names of label maps have behind the name of their image, such as `_DLMUSE`; None for
            `_labels`, `_dseg` or `_seg`.

    Raises:
        RequestError: no name of a label map ends so.
    """
    words = [labels_suffix.strip("_").lower()] if labels_suffix is not None else _LABELS
    kinds = _BESIDE | dict.fromkeys(words, "labels")
    if holds_dicom(folder):
        name, contrast = _subject_and_contrast(folder.resolve().name)
        return Found(grouped([(name, Scan(contrast, folder))]))
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
            kind = kinds.get(stem.removeprefix(images[owner] + "_").lower())
            others = beside.setdefault(owner, {})
            if kind in others:
                found.left_out.append(
                    f"{path}: found beside {others[kind].name}, which is the {kind} of {owner.name} too; expected one. "
                    "Move one of them away, or list the files in a CSV."
                )
            elif kind is None:
                found.left_out.append(
                    f"{path}: found beside {owner.name}, of no kind that its name tells; expected an ending such as "
                    "_mask or _labels. Rename it, say --labels-suffix, or list the files in a CSV."
                )
            else:
                others[kind] = path
    if not is_bids:
        for path in sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")):
            if holds_dicom(path):
                scans[path] = _subject_and_contrast(path.name)
            else:
                found.left_out.append(
                    f"{path}: found no DICOM file in this folder; expected a series, or images beside it. Name the "
                    "folder itself if its images are meant."
                )
    if labels_suffix is not None and not any("labels" in kinds_of for kinds_of in beside.values()):
        raise RequestError(
            f"--labels-suffix {labels_suffix}: found no such file in {folder}; expected names such as "
            f"X_T1w_{words[0]}.nii.gz beside X_T1w.nii.gz. Check the suffix."
        )
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


def contrast_of(path: Path) -> Contrast:
    """The contrast that the name of an image tells; without one it is T1w."""
    return _subject_and_contrast(_stem(path) or path.name)[1]


def _subject_and_contrast(stem: str) -> tuple[str, Contrast]:
    match = _NAME.fullmatch(stem)
    name, contrast = (match["subject"], _CONTRASTS[match["contrast"].lower()]) if match else (stem, Contrast.T1W)
    if name.startswith("sub-"):  # acquisitions and runs are no subjects of their own
        name = "_".join(entity for entity in name.split("_") if entity.startswith(("sub-", "ses-")))
    return name, contrast
