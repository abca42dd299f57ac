"""Checks a dataset folder for everything that would make a run fail or a score wrong, and reports it all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from joblib import Parallel, delayed

from lumirkit.data_manifests.checks.findings import CheckReport, Finding, Severity, error, warning
from lumirkit.data_manifests.checks.images import (
    check_dtypes,
    check_grid,
    check_intensities,
    check_overlap,
    check_readable,
)
from lumirkit.data_manifests.checks.inspection import Kind, Unreadable, VolumeSummary, inspect_volume
from lumirkit.data_manifests.checks.labels import (
    check_label_ids,
    check_landmark_pairs,
    check_whole_numbers,
    required_maps,
)
from lumirkit.data_manifests.checks.pairs import check_names, check_pairs, read_configs
from lumirkit.data_manifests.checks.task import check_task
from lumirkit.data_manifests.dataset import Dataset, ManifestError, find_dataset_json, read_dataset
from lumirkit.data_manifests.evaluation_config import EvaluationConfig, beside_image
from lumirkit.data_manifests.facts import TaskFacts, load_facts

_INTENSITIES = (0.0, 255.0)  # every LUMIR year has these; recipes and networks divide by the upper one

Watch = Callable[[int], AbstractContextManager[Callable[[], None]]]


@contextmanager
def _unwatched(total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


def check_dataset(root: Path, task: str | None = None, workers: int = 1, watch: Watch = _unwatched) -> CheckReport:
    """Check a dataset folder: JSON files, images, label maps and landmarks.

    Args:
        root: folder with one `*dataset.json`, its images, and where fields are to be scored the evaluation configs.
        task: "LUMIR24" or "LUMIR25" to compare counts, ids and pairs with that year's facts too.
        workers: processes that read files at the same time.
        watch: given the number of files, a context manager whose value is called after each file.

    Raises:
        ManifestError: the request is wrong: no such folder or task, no usable `*dataset.json`, workers below 1.
    """
    if workers < 1:
        raise ManifestError(f"--workers {workers}: expected at least 1.")
    facts = load_facts(task) if task else None
    dataset_json = find_dataset_json(root)
    dataset = read_dataset(dataset_json)
    configs, findings = read_configs(root)
    findings += check_names(dataset_json, dataset) + check_pairs(dataset_json, dataset, configs)
    if facts:
        findings += check_task(dataset_json, dataset, configs, facts)
    asked_for = _wanted_files(root, dataset, configs)
    wanted = {path: kind for path, kind in asked_for.items() if _is_inside(path)}
    findings += [
        error(path, "a path that leads out of the dataset folder", "a path below it", "Correct the JSON.")
        for path in asked_for
        if path not in wanted
    ]
    findings += _absent(root, wanted, dataset_json) + _unlisted(root, wanted, dataset_json)
    present = {path: kind for path, kind in wanted.items() if (root / path).is_file()}
    volumes = _inspect(root, present, workers, watch)
    findings += _check_volumes(volumes, dataset, configs, facts)
    order = list(Severity)
    unique = dict.fromkeys(findings)
    in_order = sorted(unique, key=lambda finding: order.index(finding.severity))
    return CheckReport(root=root, task=task, files_read=len(volumes), findings=tuple(in_order))


def _wanted_files(root: Path, dataset: Dataset, configs: Sequence[EvaluationConfig]) -> dict[Path, Kind]:
    """List every image, every map that a config needs, and maps and landmarks that lie beside images unasked."""
    pairs = [*dataset.validation, *(pair for config in configs for pair in config.eval_pairs)]
    images = [entry.image for entry in dataset.training]
    images += [image for pair in pairs for image in (pair.fixed, pair.moving)]
    wanted = dict.fromkeys(images, Kind.IMAGE) | required_maps(configs)
    for image in dict.fromkeys(images):
        for folder, kind in (("labels", Kind.LABELS), ("landmarks", Kind.LANDMARKS)):
            if "images" in image.parent.as_posix():
                beside = beside_image(image, folder)
                if beside not in wanted and (root / beside).is_file():
                    wanted[beside] = kind
    return wanted


def _is_inside(path: Path) -> bool:
    return not path.is_absolute() and ".." not in path.parts


def _absent(root: Path, wanted: dict[Path, Kind], dataset_json: Path) -> list[Finding]:
    findings = []
    for path, kind in wanted.items():
        if not (root / path).is_file():
            source = dataset_json.name if kind is Kind.IMAGE else "an evaluation config"
            expected = f"the {kind} that {source} asks for"
            findings.append(error(path, "no such file", expected, "Copy it there or correct the JSON."))
    return findings


def _unlisted(root: Path, wanted: dict[Path, Kind], dataset_json: Path) -> list[Finding]:
    """Report volumes in the folders of the dataset that belong to no listed image."""
    folders = sorted({path.parent for path in wanted})
    found = [file.relative_to(root) for folder in folders for file in sorted((root / folder).glob("*.nii*"))]
    return [
        warning(path, "a file that nothing asks for", f"files of {dataset_json.name} only", "Move it away, or list it.")
        for path in found
        if path not in wanted
    ]


def _inspect(root: Path, files: dict[Path, Kind], workers: int, watch: Watch) -> dict[Path, VolumeSummary | Unreadable]:
    pool = Parallel(n_jobs=workers, return_as="generator")
    volumes = {}
    with watch(len(files)) as advance:
        for volume in pool(delayed(inspect_volume)(root, path, kind) for path, kind in files.items()):
            volumes[volume.path] = volume
            advance()
    return volumes


def _check_volumes(
    volumes: dict[Path, VolumeSummary | Unreadable],
    dataset: Dataset,
    configs: Sequence[EvaluationConfig],
    facts: TaskFacts | None,
) -> list[Finding]:
    readable = {path: volume for path, volume in volumes.items() if isinstance(volume, VolumeSummary)}
    images = [volume for volume in readable.values() if volume.kind is Kind.IMAGE and volume.content]
    findings = check_readable(list(volumes.values()))
    findings += check_grid(list(readable.values()), dataset.image_shape, facts.spacing_mm if facts else None)
    findings += check_dtypes(list(readable.values()))
    low, high = facts.intensity_range if facts else _INTENSITIES
    findings += [finding for image in images for finding in check_intensities(image, low, high)]
    training = {entry.image for entry in dataset.training}
    validation = {image for pair in dataset.validation for image in (pair.fixed, pair.moving)}
    findings += check_overlap(images, training, sorted(validation))
    findings += [finding for volume in readable.values() for finding in check_whole_numbers(volume)]
    return findings + check_label_ids(configs, readable) + check_landmark_pairs(configs, readable)
