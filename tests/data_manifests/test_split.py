"""Splits of a labelled training set: disjoint, seeded or as listed, and usable as dataset folders."""

import json

import pytest

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.data_manifests.split import split_dataset
from lumirkit.eval.leaderboard import evaluate
from lumirkit.phantoms.brains import PhantomSpec
from lumirkit.phantoms.dataset import make_dataset
from lumirkit.train.data import TrainingImages

NAMES = [f"LUMIRMRI_{n:04d}_0000.nii.gz" for n in range(10)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("labelled")
    make_dataset(root, PhantomSpec(shape=(32, 40, 34), n_train=10, pairs_per_split=1))
    return root


def parts_of(out):
    development, test = (read_dataset(find_dataset_json(out / name)) for name in ("development", "test"))
    paired = [
        {path.name for pair in dataset.validation for path in (pair.fixed, pair.moving)}
        for dataset in (development, test)
    ]
    return [{entry.image.name for entry in development.training}, *paired], (development, test)


@pytest.mark.parametrize(
    ("shares", "sizes"), [("60/20/20", [6, 2, 2]), ("0.5/0.3/0.2", [5, 3, 2]), ("4/3/3", [4, 3, 3])]
)
def test_parts_have_their_shares_and_no_image_in_common(root, tmp_path, shares, sizes):
    counts = split_dataset(root, tmp_path, shares, 0, None)
    parts, (development, test) = parts_of(tmp_path)
    assert [len(part) for part in parts] == list(counts.values()) == sizes
    assert set.union(*parts) == set(NAMES)
    assert len(test.training) == 0
    assert all(pair.fixed != pair.moving for pair in (*development.validation, *test.validation))


def test_the_seed_draws_the_parts(root, tmp_path):
    found = []
    for number, seed in enumerate((0, 0, 1)):
        split_dataset(root, tmp_path / str(number), "60/20/20", seed, None)
        found.append(parts_of(tmp_path / str(number))[0])
    assert found[0] == found[1] != found[2]


def test_a_list_says_it_all_and_the_folders_serve(root, tmp_path):
    """Training reads the one folder, scoring the other; images that are not listed are left out."""
    wanted = ["training"] * 3 + ["validation"] * 2 + ["test"] * 3
    lines = ["image,part", *(f"{name},{part}" for name, part in zip(NAMES, wanted, strict=False))]
    (tmp_path / "parts.csv").write_text("\n".join(lines))
    split_dataset(root, tmp_path / "out", "", 0, tmp_path / "parts.csv")
    parts, (_, test) = parts_of(tmp_path / "out")
    assert parts == [set(NAMES[:3]), set(NAMES[3:5]), set(NAMES[5:8])]
    assert len(TrainingImages(tmp_path / "out" / "development", with_labels=True)) == 3
    result = evaluate(tmp_path / "out" / "test", None)
    assert not result.failures
    cases = result.guarded["cases"]["in-domain"]
    assert set(cases) == {pair.case_name for pair in test.validation}
    config = json.loads(next((tmp_path / "out" / "test").glob("*_config.json")).read_text())
    assert config["evaluation_methods"][1]["labels"][0] == 0


@pytest.mark.parametrize(
    ("shares", "listed", "message"),
    [
        ("60/40", None, "expected three numbers"),
        ("60/20/x", None, "expected three numbers"),
        ("80/10/10", None, "validation would have 1 of the 10 training images; expected at least 2"),
        ("", "image,part\nnone.nii.gz,test\n", r"line 2: found image 'none.nii.gz'"),
        ("", f"image,part\n{NAMES[0]},test\n{NAMES[0]},training\n", r"line 3: .*no line before has"),
        ("", f"image,part\n{NAMES[0]},exam\n", r"part 'exam'; .*one of training, validation, test"),
    ],
)
def test_impossible_splits_write_nothing(root, tmp_path, shares, listed, message):
    path = None
    if listed is not None:
        path = tmp_path / "parts.csv"
        path.write_text(listed)
    with pytest.raises(RequestError, match=message):
        split_dataset(root, tmp_path / "out", shares, 0, path)
    assert not (tmp_path / "out").exists()


def test_a_damaged_label_map_is_named(root, tmp_path):
    import shutil

    copy = shutil.copytree(root, tmp_path / "data")
    for name in NAMES:
        (copy / "labelsTr" / name).write_bytes(b"")
    with pytest.raises(VolumeError, match="labelsTr"):
        split_dataset(copy, tmp_path / "out", "60/20/20", 0, None)
