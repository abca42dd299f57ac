"""A BIDS tree that is prepared and registered comes back as BIDS derivatives."""

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from phantom_heads import make_head
from scipy.spatial.transform import Rotation
from without_extras import without_extras

from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.data_manifests.worklist import validation_files
from lumirkit.phantoms.brains import T2
from lumirkit.prepare.dataset import State, prepare_dataset
from lumirkit.prepare.derivatives import write_derivatives
from lumirkit.prepare.parts import ValidationRule
from lumirkit.prepare.subject import Settings
from lumirkit.registration.chain import read_chain
from lumirkit.registration.deformation import read_deformation
from lumirkit.registration.fixed_and_moving import FixedAndMoving
from lumirkit.registration.volume import read_image, read_labels, write_displacement, write_volume

ELSEWHERE = from_matvec(Rotation.from_euler("xyz", [-6, 3, 9], degrees=True).as_matrix(), [-8.0, 5.0, -12.0])
SCANS = {
    "sub01sesaT1w": "sub-01/ses-a/anat/sub-01_ses-a_acq-mprage_run-1_T1w",
    "sub02T1w": "sub-02/anat/sub-02_T1w",
    "sub02T2w": "sub-02/anat/sub-02_T2w",
}
PAIRS = [("sub01sesaT1w", "sub02T1w"), ("sub02T1w", "sub01sesaT1w"), ("sub02T2w", "sub01sesaT1w")]  # fixed, moving
XFM = re.compile(  # from the draft: the entities of a raw image, then those of a transform, each with a label
    r"(?P<folder>sub-[0-9a-zA-Z]+/(ses-[0-9a-zA-Z]+/)?)anat/"
    r"(?P<name>sub-[0-9a-zA-Z]+(_ses-[0-9a-zA-Z]+)?)(_(acq|ce|rec|run)-[0-9a-zA-Z]+)*"
    r"_from-[0-9a-zA-Z]+_to-[0-9a-zA-Z]+_mode-(image|points)_xfm\.(nii\.gz|txt|json)"
)


def scan(bids, name):
    return bids / f"{SCANS[name]}.nii.gz"


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    """Two subjects, one of which has sessions, the other a T2w as well; all are brains already."""
    root = tmp_path_factory.mktemp("bids")
    heads = make_head(1), make_head(2, place=ELSEWHERE), make_head(2, T2, ELSEWHERE, modality=1)
    for name, head in zip(SCANS.values(), heads, strict=True):
        write_volume(root / f"{name}.nii.gz", head.image * head.mask, head.affine)
    content = root / ".git" / "annex" / "objects" / "one.nii.gz"  # as DataLad keeps it
    content.parent.mkdir(parents=True)
    scan(root, "sub02T2w").rename(content)
    scan(root, "sub02T2w").symlink_to(content)
    (root / "dataset_description.json").write_text('{"Name": "heads", "BIDSVersion": "1.8.0"}')
    return root


@pytest.fixture(scope="module")
def prepared(bids, template, tmp_path_factory):
    """The dataset, and smooth fields as `predict` would name them."""
    out = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_extras(monkeypatch)
        status = prepare_dataset(bids, Settings(out / "dataset", template), ValidationRule(2), 1, lambda _: None)
    assert len(status.in_state(State.DONE)) == 2, status
    dataset_json = find_dataset_json(out / "dataset")
    for number, pair in enumerate(validation_files(dataset_json, dataset_json.parent, out / "fields"), start=1):
        image = read_image(pair.fixed)
        at = np.stack(np.meshgrid(*(np.linspace(0, np.pi, size) for size in image.shape), indexing="ij"), axis=-1)
        field = np.sin(at[..., [1, 2, 0]] + number) * np.float32(4)
        write_displacement(pair.field, field.astype(np.float32), image.affine)
    return out


@pytest.fixture(scope="module")
def tree(bids, prepared):
    """The derivatives, in the place that BIDS recommends."""
    out = bids / "derivatives" / "lumirkit"
    assert write_derivatives(prepared / "fields", prepared / "dataset", out, pytest.fail) == len(PAIRS)
    return out


def files(tree, moving, fixed):
    """The field and the warped image of a pair."""
    stem = SCANS[moving].rsplit("_", 1)[0]
    contrast = moving[-3:]
    transform = tree / f"{stem}_from-{contrast}_to-{fixed}_mode-image_xfm.nii.gz"
    return transform, tree / f"{stem}_space-{fixed}_desc-warped_{contrast}.nii.gz"


def record(prepared, bids, name):
    """What `prepare` made of a scan: the image's name, and the affine."""
    records = [json.loads(path.read_text()) for path in (prepared / "dataset" / "prepared").glob("*.json")]
    (found,) = (each for one in records for each in one["scans"] if each["source"] == str(scan(bids, name)))
    return Path(found["image"]), prepared / "dataset" / found["transform"]


def test_every_file_has_a_name_of_bids_or_of_its_draft(tree):
    schema_tools = pytest.importorskip("bidsschematools.schema")
    from bidsschematools.rules import regexify_filename_rules

    schema = schema_tools.load_schema()
    rules = schema.rules.files
    known = [
        re.compile(rule["regex"])
        for group in (rules.common, rules.deriv)
        for rule in regexify_filename_rules(group, schema, level=2)
    ]
    names = [path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()]
    transforms = [name for name in names if "_xfm." in name]
    assert all(XFM.fullmatch(name) for name in transforms), transforms
    others = set(names) - {*transforms, ".bidsignore"}
    assert [name for name in others if not any(rule.fullmatch(name) for rule in known)] == []
    assert len(transforms) == 2 * len(PAIRS) + 2 * len(SCANS)
    assert len(others) == 2 * len(PAIRS) + 2  # and the description and README.md
    assert (tree / ".bidsignore").read_text() == "*_xfm.*\n"


def test_the_description_says_what_it_is_and_every_source_is_found(tree, bids):
    description = json.loads((tree / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert [each["Name"] for each in description["GeneratedBy"]] == ["lumirkit"]
    assert (tree / description["DatasetLinks"]["raw"]).resolve() == bids.resolve()
    for sidecar in tree.glob("sub-*/**/*.json"):
        said = json.loads(sidecar.read_text())
        for uri in [*said["Sources"], *([said["SpatialReference"]] if "_space-" in sidecar.name else [])]:
            _, link, inside = uri.split(":")
            assert (tree / description["DatasetLinks"].get(link, "") / inside).is_file(), uri
    for fixed, moving in PAIRS:
        warped = files(tree, moving, fixed)[1]
        said = json.loads(warped.with_name(warped.name.replace(".nii.gz", ".json")).read_text())
        assert said["SpatialReference"] == f"bids:raw:{SCANS[fixed]}.nii.gz"
        assert said["Sources"][0] == f"bids:raw:{SCANS[moving]}.nii.gz"
        assert said["SkullStripped"] is True  # as the scans were


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_the_field_does_what_the_chain_through_the_dataset_does(tree, bids, prepared, fixed, moving):
    (fixed_image, fixed_affine), (moving_image, moving_affine) = (
        record(prepared, bids, name) for name in (fixed, moving)
    )
    pairs = read_dataset(find_dataset_json(prepared / "dataset")).validation
    (name,) = (pair.field_name for pair in pairs if (pair.fixed, pair.moving) == (fixed_image, moving_image))
    images = FixedAndMoving(scan(bids, fixed), None)
    chain = read_chain([Path(f"[{fixed_affine},1]"), prepared / "fields" / name, moving_affine], images)
    brain = np.argwhere(read_image(scan(bids, fixed)).data > 0)[::101]
    at_mm = apply_affine(nib.load(scan(bids, fixed)).affine, brain)
    transform, warped = files(tree, moving, fixed)
    found = read_deformation(transform, FixedAndMoving(scan(bids, fixed), scan(bids, moving)))
    assert np.abs(found.warp_points(at_mm) - chain.warp_points(at_mm)).max() < 0.01
    image = nib.load(warped)
    assert image.shape == nib.load(scan(bids, fixed)).shape
    np.testing.assert_allclose(image.affine, nib.load(scan(bids, fixed)).affine, atol=1e-5)
    np.testing.assert_allclose(image.get_fdata(), found.warp(scan(bids, moving)), atol=0.1)


def test_ants_applies_the_field_as_its_name_says(tree, bids):
    ants = pytest.importorskip("ants")
    fixed, moving = PAIRS[0]
    transform, warped = files(tree, moving, fixed)
    images = [ants.image_read(str(scan(bids, name))) for name in (fixed, moving)]
    found = ants.apply_transforms(*images, [str(transform)]).numpy()
    assert np.abs(found - read_image(warped).data).max() < 0.5  # of 230


def test_the_affine_takes_the_scan_to_the_dataset(tree, bids, prepared, lumirkit, tmp_path):
    for name, stem in SCANS.items():
        image, _ = record(prepared, bids, name)
        entities, contrast = stem.rsplit("_", 1)
        affine = tree / f"{entities}_from-{contrast}_to-prepared_mode-image_xfm.txt"
        like, out = prepared / "dataset" / image, tmp_path / f"{name}.nii.gz"
        ended = lumirkit("warp", affine, "--moving", scan(bids, name), "--like", like, "--out", out)
        assert ended.returncode == 0, ended.stderr
        there, wanted = read_image(out).data, read_labels(like)
        assert np.corrcoef(there[wanted > 0], wanted[wanted > 0])[0, 1] > 0.99


def test_pairs_without_field_are_left_out_and_told(tree, bids, prepared, lumirkit, tmp_path):
    names = sorted(path.name for path in (prepared / "fields").iterdir())
    fields, out = tmp_path / "fields", tmp_path / "out"
    fields.mkdir()
    field = nib.load(prepared / "fields" / names[0])
    write_displacement(fields / names[0], np.zeros(field.shape, np.float32), field.affine)
    shutil.copy(prepared / "fields" / names[1], fields)
    ended = lumirkit("export", fields, "--prepared", prepared / "dataset", "--out", out)
    assert ended.returncode == 0, ended.stderr
    assert "out: 1 pairs as BIDS derivatives" in ended.stdout
    assert "left out: 1 of 3 pairs, whose fields are not in" in ended.stderr
    assert f"{names[0]}: 0 everywhere" in ended.stderr
    assert len(list(out.rglob("*_xfm.nii.gz"))) == 1


def test_what_cannot_be_exported_is_refused_in_one_sentence(bids, prepared, lumirkit, tmp_path):
    dataset, fields = prepared / "dataset", prepared / "fields"
    description = (bids / "dataset_description.json").read_text()
    for arguments, said in (
        ((fields, "--prepared", dataset, "--out", bids), "found the description of another dataset"),
        ((fields, "--prepared", dataset, "--out", tmp_path, "--format", "itk"), "--prepared with --format: expected"),
        ((fields, "--prepared", bids, "--out", tmp_path), "found no records in it; expected a dataset folder"),
        ((dataset, "--prepared", dataset, "--out", tmp_path), "found none of the fields of"),
        ((fields, "--out", tmp_path / "a.nii.gz"), "expected --fixed and --moving"),
    ):
        ended = lumirkit("export", *arguments)
        assert ended.returncode == 2
        assert said in ended.stderr
    assert (bids / "dataset_description.json").read_text() == description
    assert not list(tmp_path.iterdir())
