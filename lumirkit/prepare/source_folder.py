"""Subjects by the names of their files: `sub-X[_ses-Y]_T1w.nii.gz` of BIDS, or any name that ends in the contrast."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lumirkit.base.errors import RequestError
from lumirkit.prepare.dicom import holds_dicom
from lumirkit.prepare.source_bids import anat_files, is_bids_tree, scans_of_bids
from lumirkit.prepare.sources import IMAGE_SUFFIXES, Contrast, Found, Scan, grouped

_POINT_SUFFIXES = (".csv", ".fcsv", ".mrk.json")
_CONTRASTS = {"t1": Contrast.T1W, "t2": Contrast.T2W, "flair": Contrast.FLAIR}
_NAME = re.compile(r"(?P<subject>.*?)[_\-. ]*(?P<contrast>t1|t2|flair)w?", re.IGNORECASE)
_BESIDE = {"mask": "mask", "brainmask": "mask", "brain_mask": "mask", "landmarks": "landmarks"}
"""What a file is whose name is that of an image with one of these words behind it."""
_LABELS = ("labels", "dseg", "seg")  # as above, where the user names no other word


def read_folder(folder: Path, labels_suffix: str | None = None) -> Found:
    """Find the subjects of a folder.

    In a BIDS tree, which has folders `sub-*`, these are the T1w, T2w and FLAIR images of `anat`; sessions are subjects
    of their own. In any other folder they are its images, and its folders of DICOM files, where a name without
    contrast is that of a T1w image; a folder that holds such files itself is one scan. Images without a name, such as
    `T1w.nii.gz` and `FLAIR.nii.gz`, are scans of one subject, which has the name of the folder. `X_T1w_mask`,
    `X_T1w_labels` and `X_T1w_landmarks` belong to `X_T1w`.

    Args:
        labels_suffix: what the names of label maps have behind the name of their image, such as `_DLMUSE`; None for
            `_labels`, `_dseg` or `_seg`.

    Raises:
        RequestError: no name of a label map ends so.
    """
    if holds_dicom(folder):
        stem = folder.resolve().name
        name, contrast = _subject_and_contrast(stem, nameless=stem)
        return Found(grouped([(name, Scan(contrast, folder))]))
    is_bids = is_bids_tree(folder)
    stems = _stems(anat_files(folder) if is_bids else folder.iterdir())
    owners = _owners(stems)
    words = [labels_suffix.strip("_").lower()] if labels_suffix is not None else _LABELS
    beside, left_out = _beside(stems, owners, _BESIDE | dict.fromkeys(words, "labels"))
    if labels_suffix is not None and not any("labels" in kinds for kinds in beside.values()):
        raise RequestError(
            f"--labels-suffix {labels_suffix}: found no such file in {folder}; expected names such as "
            f"X_T1w_{words[0]}.nii.gz beside X_T1w.nii.gz. Check the suffix."
        )
    images = {path: stem for path, stem in stems.items() if _is_image(path) and path not in owners}
    scans, others = (scans_of_bids if is_bids else _scans_of_folder)(folder, images)
    subjects = grouped((name, Scan(contrast, path, **beside.get(path, {}))) for path, (name, contrast) in scans.items())
    return Found(subjects, left_out + others)


def _scans_of_folder(folder: Path, images: Mapping[Path, str]) -> tuple[dict[Path, tuple[str, Contrast]], list[str]]:
    """Subject and contrast of each image and of each DICOM series of a folder, and sentences of what was left out."""
    series, left_out = _series(folder)
    of_one_subject = folder.resolve().name  # such as anna/T1w.nii.gz and anna/FLAIR.nii.gz
    scans = {**images, **series}
    return {path: _subject_and_contrast(stem, of_one_subject) for path, stem in scans.items()}, left_out


def _stems(paths: Iterable[Path]) -> dict[Path, str]:
    """The names without suffix of those files that may matter, in the order of their names.

    Links to files that git-annex has not fetched matter too: their subjects fail with the reason.
    """
    files = (path for path in sorted(paths) if path.is_file() or (path.is_symlink() and not path.exists()))
    return {path: stem for path in files if (stem := _stem(path)) is not None}


def _owners(stems: Mapping[Path, str]) -> dict[Path, Path]:
    """The image that a file belongs to, as its name continues that of the image; the one with the shortest name."""
    images: dict[Path, list[Path]] = {}
    for path in stems:
        if _is_image(path):
            images.setdefault(path.parent, []).append(path)
    owners = {}
    for path, stem in stems.items():
        continued = [image for image in images.get(path.parent, ()) if stem.startswith(stems[image] + "_")]
        if continued:
            owners[path] = min(continued, key=lambda image: len(stems[image]))
    return owners


def _beside(
    stems: Mapping[Path, str], owners: Mapping[Path, Path], kinds: Mapping[str, str]
) -> tuple[dict[Path, dict[str, Path]], list[str]]:
    """What belongs to each image, by its kind, and a sentence for each file that cannot.

    Args:
        kinds: what a file is whose name is that of an image with one of these words behind it.
    """
    beside: dict[Path, dict[str, Path]] = {}
    left_out = []
    for path, owner in owners.items():
        kind = kinds.get(stems[path].removeprefix(stems[owner] + "_").lower())
        others = beside.setdefault(owner, {})
        if kind in others:
            left_out.append(
                f"{path}: found beside {others[kind].name}, which is the {kind} of {owner.name} too; expected one. "
                "Move one of them away, or list the files in a CSV."
            )
        elif kind is None:
            left_out.append(
                f"{path}: found beside {owner.name}, of no kind that its name tells; expected an ending such as "
                "_mask or _labels. Rename it, say --labels-suffix, or list the files in a CSV."
            )
        else:
            others[kind] = path
    return beside, left_out


def _series(folder: Path) -> tuple[dict[Path, str], list[str]]:
    """The names of the folders that hold a DICOM series, and a sentence for each that does not."""
    series, left_out = {}, []
    for path in sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")):
        if holds_dicom(path):
            series[path] = path.name
        else:
            left_out.append(
                f"{path}: found no DICOM file in this folder; expected a series, or images beside it. Name the "
                "folder itself if its images are meant."
            )
    return series, left_out


def _is_image(path: Path) -> bool:
    return path.name.endswith(IMAGE_SUFFIXES)


def _stem(path: Path) -> str | None:
    """The name without the suffix of a file that may matter."""
    suffix = next((end for end in (*IMAGE_SUFFIXES, *_POINT_SUFFIXES) if path.name.endswith(end)), None)
    return None if suffix is None or path.name.startswith(".") else path.name.removesuffix(suffix)


def contrast_of(path: Path) -> Contrast:
    """The contrast that the name of an image tells; without one it is T1w."""
    return _subject_and_contrast(_stem(path) or path.name, nameless="")[1]


def _subject_and_contrast(stem: str, nameless: str) -> tuple[str, Contrast]:
    """What a name tells.

    Args:
        nameless: the subject where the name is that of a contrast alone.
    """
    match = _NAME.fullmatch(stem)
    name, contrast = (match["subject"], _CONTRASTS[match["contrast"].lower()]) if match else (stem, Contrast.T1W)
    if name.startswith("sub-"):  # acquisitions and runs are no subjects of their own
        name = "_".join(entity for entity in name.split("_") if entity.startswith(("sub-", "ses-")))
    return name or nameless, contrast
