"""The scans of a BIDS tree: the T1w, T2w and FLAIR images of `anat`, by the entities of their names.

Own code rather than pybids, which brings a database (SQLAlchemy), as names alone are needed. An image's header says
where it lies, so no sidecar is read, and how sidecars are inherited does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from lumirkit.prepare.bids_name import BidsName
from lumirkit.prepare.sources import Contrast

_MAGNITUDE = "mag"


def is_bids_tree(folder: Path) -> bool:
    """Whether a folder has folders of subjects."""
    return any(path.is_dir() for path in folder.glob("sub-*"))


def anat_files(folder: Path) -> Iterator[Path]:
    """The files of all subjects' `anat`; derivatives and source data lie in other folders."""
    return folder.glob("sub-*/**/anat/*")


def scans_of_bids(folder: Path, images: Mapping[Path, str]) -> tuple[dict[Path, tuple[str, Contrast]], list[str]]:
    """Which images are scans that can be used: the subject with its session, and the contrast.

    Of several runs of a scan the first is taken. Two scans that differ in more are both kept, for a person to choose.

    Args:
        images: the images of `anat`, with their names without suffix.

    Returns:
        The scans, and sentences of what was left out.
    """
    is_ignored = _Ignored(folder)
    scans: dict[Path, tuple[str, Contrast]] = {}
    first: dict[tuple[Path, str], Path] = {}
    others: dict[str, int] = {}
    left_out = []
    for path, name in sorted(_named(images).items(), key=lambda each: (each[0].parent, _run(each[1]), each[0])):
        if is_ignored(path):
            continue
        ending = _unused_ending(name)
        if ending is not None:
            others[ending] = others.get(ending, 0) + 1
            continue
        run = first.setdefault((path.parent, _without_run(name)), path)
        if run is path:
            scans[path] = (name.visit, Contrast(name.suffix))
        else:
            left_out.append(
                f"{path}: found beside {run.name}, an earlier run of the same scan, which is taken. If this one is "
                "better, list the files in a CSV."
            )
    left_out += [f"{path}: {_NO_NAME}" for path, stem in images.items() if BidsName.parse(stem) is None]
    if others:
        counts = ", ".join(f"{count} of {ending}" for ending, count in sorted(others.items()))
        left_out.append(
            f"{folder}: found images in anat that are no T1w, T2w or FLAIR, which are left alone: {counts}."
        )
    return scans, left_out


_NO_NAME = (
    "found a name that is none of BIDS; expected one such as sub-01_T1w.nii.gz. Rename it, or list the files in a CSV."
)


def _named(images: Mapping[Path, str]) -> dict[Path, BidsName]:
    return {path: name for path, stem in images.items() if (name := BidsName.parse(stem)) is not None}


def _unused_ending(name: BidsName) -> str | None:
    """What tells that an image is no scan that can be used; None if it is one."""
    part = name.entities.get("part", _MAGNITUDE)
    if part != _MAGNITUDE:
        return f"part-{part}_{name.suffix}"
    return None if name.suffix in tuple(Contrast) else name.suffix


def _run(name: BidsName) -> tuple[int, str]:
    """What runs are sorted by: their number, which BIDS wants them to have."""
    label = name.entities.get("run", "0")
    return (int(label) if label.isdecimal() else 0, label)


def _without_run(name: BidsName) -> str:
    return str(BidsName({key: label for key, label in name.entities.items() if key != "run"}, name.suffix))


class _Ignored:
    """Whether `.bidsignore` takes a file out of the tree; its patterns are those of `.gitignore`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        file = folder / ".bidsignore"
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        self._patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def __call__(self, path: Path) -> bool:
        inside = PurePosixPath(path.relative_to(self._folder).as_posix())
        places = [inside, *inside.parents][:-1]  # the last is the tree itself
        is_ignored = False
        for pattern in self._patterns:  # the last that fits counts
            if any(_fits(place, pattern.removeprefix("!")) for place in places):
                is_ignored = not pattern.startswith("!")
        return is_ignored


def _fits(place: PurePosixPath, pattern: str) -> bool:
    """Whether a file or folder of the tree fits a pattern; one without slash fits names at any depth."""
    wanted = pattern.rstrip("/")
    if "/" not in wanted:
        return fnmatchcase(place.name, wanted)
    anchored = wanted.removeprefix("/")
    return any(fnmatchcase(str(place), each) for each in (anchored, anchored.removeprefix("**/")))
