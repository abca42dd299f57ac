"""The phantom dataset: complete, consistent, reproducible, diffeomorphic, with the promised contrasts."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lumirkit.phantoms import brains
from lumirkit.phantoms.brains import PhantomSpec
from lumirkit.phantoms.dataset import _split_pairs, make_dataset, subjects

SPEC = PhantomSpec(shape=(32, 40, 32), n_train=2, pairs_per_split=1)
SPLITS = ("LUMIR24_Landmark", "LUMIR24_Segmentation", "HighField_Segmentation", "MultiModal_Segmentation")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    make_dataset(root, SPEC)
    return root


def volume(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def config(root: Path, split: str) -> dict[str, Any]:
    return json.loads((root / f"LUMIR25_VAL_{split}_evaluation_config.json").read_text())


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_every_referenced_file_exists_and_nothing_else(dataset: Path) -> None:
    listing = json.loads((dataset / "LUMIR25_dataset.json").read_text())
    assert listing["tensorImageShape"] == {"0": [32, 40, 32]}
    assert listing["numTraining"] == len(listing["training"]) == 2
    assert listing["numValidation"] == len(listing["validation"]) == 4
    images = {e["image"] for e in listing["training"]}
    images |= {image for pair in listing["validation"] for image in pair.values()}
    labels = {i.replace("images", "labels") for i in images}
    marked = {
        i.replace("images", "landmarks") for p in config(dataset, "LUMIR24_Landmark")["eval_pairs"] for i in p.values()
    }
    written = {f"./{p.relative_to(dataset).as_posix()}" for p in dataset.rglob("*.nii.gz")}
    assert images | labels | marked == written
    assert {p.name for p in dataset.iterdir() if p.is_file()} == {
        "LUMIR25_dataset.json",
        *(f"LUMIR25_VAL_{s}_evaluation_config.json" for s in SPLITS),
    }


def test_pairs_follow_the_numbering_of_the_challenge() -> None:
    splits = _split_pairs(PhantomSpec(pairs_per_split=9))
    pairs = {s: [(p["fixed"][-16:-7], p["moving"][-16:-7]) for p in listed] for s, listed in splits.items()}
    firsts = {"LUMIR24_Segmentation": 3455, "LUMIR24_Landmark": 3485, "HighField_Segmentation": 4015}
    for split, first in firsts.items():
        assert pairs[split] == [(f"{n}_0000", f"{n - 1}_0000") for n in range(first, first + 9)]
    assert pairs["MultiModal_Segmentation"] == [(f"{n}_0000", f"{n + 9}_0001") for n in range(4024, 4033)]


def test_configs_have_the_form_that_the_evaluation_reads(dataset: Path) -> None:
    listed = json.loads((dataset / "LUMIR25_dataset.json").read_text())["validation"]
    pairs = []
    for split in SPLITS:
        content = config(dataset, split)
        metrics = [m["metric"] for m in content["evaluation_methods"]]
        assert metrics == (["ndv", "tre"] if split.endswith("Landmark") else ["ndv", "dice", "hd95"])
        assert content["expected_shape"] == [32, 40, 32, 3]
        assert content["name"] == "LUMIR"
        assert (content["eval_config_version"], content["masked_evaluation"]) == (0.0, False)
        pairs += content["eval_pairs"]
    assert pairs == listed


def test_volumes_share_grid_and_type(dataset: Path) -> None:
    for path in dataset.rglob("*.nii.gz"):
        image = nib.load(path)
        assert image.shape == SPEC.shape
        assert image.get_data_dtype() == np.uint8
        assert np.array_equal(image.affine, np.eye(4))


def test_background_is_zero_and_brain_is_not(dataset: Path) -> None:
    for path in dataset.glob("images*/*.nii.gz"):
        image, labels = volume(path), volume(Path(str(path).replace("images", "labels")))
        assert image[labels > 0].min() >= 1
        border = np.ones(SPEC.shape, bool)
        border[1:-1, 1:-1, 1:-1] = False
        assert not image[border].any()
        # Unlabelled brain is the fluid of the sulci only, so the mask is little larger than the labels.
        assert 0.2 < (labels > 0).mean() < (image > 0).mean() < 1.6 * (labels > 0).mean()


def test_every_structure_is_in_every_subject_and_in_the_configs(dataset: Path) -> None:
    expected = {0, *(s.label for s in brains.STRUCTURES)}
    assert len(expected) == len(brains.STRUCTURES) + 1
    for path in dataset.glob("labels*/*.nii.gz"):
        assert set(np.unique(volume(path)).tolist()) == expected
    for split in SPLITS[1:]:
        for method in config(dataset, split)["evaluation_methods"][1:]:
            assert method["labels"] == sorted(expected)


def test_left_and_right_are_on_their_sides(dataset: Path) -> None:
    labels = volume(dataset / "labelsTr/LUMIRMRI_0000_0000.nii.gz")
    centre = {s.name: np.argwhere(labels == s.label)[:, 0].mean() for s in brains.STRUCTURES}
    for name in centre:
        if name.startswith("right"):
            assert centre[name] > centre[name.replace("right", "left")]


def test_landmarks_are_small_blobs_with_equal_values(dataset: Path) -> None:
    for path in dataset.glob("landmarksVal/*.nii.gz"):
        sizes = np.bincount(volume(path).ravel())
        assert len(sizes) == len(brains.LANDMARK_STRUCTURES) + 1
        assert np.all((sizes[1:] > 0) & (sizes[1:] <= 27))


def test_same_seed_same_bytes_other_seed_other_brains(dataset: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    make_dataset(tmp_path / "again", SPEC, seen.append)
    assert contents(tmp_path / "again") == contents(dataset)
    assert seen == [s.id for s in subjects(SPEC)]
    other, _ = brains.make_subject(PhantomSpec(shape=SPEC.shape, seed=1), brains.Subject(0, split="Tr"))
    assert not np.array_equal(other, volume(dataset / "imagesTr/LUMIRMRI_0000_0000.nii.gz"))


@pytest.mark.parametrize("strengths", [(4.2, 1.5), (7.0, 2.5)])
def test_deformations_are_diffeomorphic_and_keep_the_border(strengths: tuple[float, float]) -> None:
    spec = PhantomSpec((32, 40, 32), coarse_displacement=strengths[0], fine_displacement=strengths[1])
    for seed in range(5):
        field = brains.deformation(spec, np.random.default_rng(seed))
        assert field.shape == (3, *spec.shape)
        assert field.dtype == np.float32
        assert brains.jacobian_determinant(field).min() > 0
        assert np.abs(field).max() > 0.5
        assert not field[:, 0].any()
        assert not field[:, :, :, -1].any()


def test_a_folding_deformation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = -2 * np.indices(SPEC.shape, dtype=np.float32)
    monkeypatch.setattr(brains, "deformation", lambda spec, rng: folded)
    with pytest.raises(RuntimeError, match="LUMIRMRI_0000_0000 folds"):
        brains.make_subject(SPEC, brains.Subject(0))


def test_zero_field_overlap_leaves_work_for_registration(dataset: Path) -> None:
    fixed, moving = (volume(dataset / f"labelsVal/LUMIRMRI_{n}_0000.nii.gz") for n in (3455, 3454))
    dice = [
        2 * np.sum((fixed == i) & (moving == i)) / (np.sum(fixed == i) + np.sum(moving == i))
        for i in config(dataset, "LUMIR24_Segmentation")["evaluation_methods"][1]["labels"]
    ]
    assert 0.35 < np.mean(dice) < 0.7


def test_t2_inverts_white_matter_and_fluid_and_other_scanners_differ(dataset: Path) -> None:
    def mean(number: str, tissue: str) -> float:
        image, labels = (volume(dataset / f"{k}Val/LUMIRMRI_{number}.nii.gz") for k in ("images", "labels"))
        chosen = [s.label for s in brains.STRUCTURES if s.tissue == tissue]
        return float(image[np.isin(labels, chosen)].mean())

    contrast = {n: mean(n, "white matter") - mean(n, "csf") for n in ("4024_0000", "4015_0000", "4033_0001")}
    assert contrast["4024_0000"] > 50
    assert contrast["4033_0001"] < -50
    assert 0 < contrast["4015_0000"] < 0.8 * contrast["4024_0000"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"shape": (32, 40)}, "shape is"),
        ({"shape": (32, 40, 8)}, "expected three integers"),
        ({"n_train": 0}, "n_train is 0, expected"),
        ({"pairs_per_split": 10}, "from 1 to 9"),
        ({"seed": -1}, "seed is -1"),
        ({"coarse_displacement": 20.0}, "coarse_displacement is 20.0, expected 0 to 7"),
        ({"fine_displacement": float("nan")}, "fine_displacement is nan"),
    ],
)
def test_a_bad_spec_is_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhantomSpec(**bad)
