"""Prediction and the commands around it, from good input and from bad."""

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from lumirkit import train
from lumirkit.base.errors import RequestError
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.data_manifests.worklist import Shard
from lumirkit.registration.device import Place
from lumirkit.registration.ensemble import make_ensemble
from lumirkit.registration.network import register
from lumirkit.registration.predictor import register_pair
from lumirkit.registration.sitreg import SITReg, SITRegConfig
from lumirkit.registration.volume import Volume, read_displacement, write_volume
from lumirkit.registration.warp import sample
from lumirkit.registration.weights import load_ensemble
from lumirkit.submission.predict import predict_dataset

CPU = Place(torch.device("cpu"))


@pytest.fixture
def predict(lumirkit, dataset, make_weights, tmp_path):
    weights = make_weights()
    return lambda *more: lumirkit(
        "predict", "--dataset", dataset, "--weights", weights, "--out", tmp_path / "out", *more
    )


def test_the_fields_are_packed_as_the_challenge_takes_them(predict, tmp_path):
    packed = tmp_path / "deep" / "mine.zip"
    ended = predict("--shard", "1/2", "--zip", packed)
    assert ended.returncode == 2
    assert "lacks 2 of 4 fields" in ended.stderr
    assert not packed.exists()
    assert predict("--zip", packed).returncode == 0
    with zipfile.ZipFile(packed) as opened:
        names = sorted(opened.namelist())
        assert opened.read(names[0]) == (tmp_path / "out" / Path(names[0]).name).read_bytes()
    pairs = ("3455_3454", "3485_3484", "4015_4014", "4024_4033")
    assert names == [f"validation_predictions/disp_{pair}.nii.gz" for pair in pairs]


def test_every_pair_gets_a_field_under_the_evaluators_name(dataset, make_weights, tmp_path):
    status = predict_dataset(find_dataset_json(dataset), dataset, tmp_path / "out", [make_weights()], CPU)
    assert status.failures == []
    names = {path.name for path in (tmp_path / "out").glob("*.nii.gz")}
    assert names == {f"disp_{pair}.nii.gz" for pair in ("3455_3454", "3485_3484", "4015_4014", "4024_4033")}
    image = nib.load(tmp_path / "out" / "disp_4024_4033.nii.gz")
    assert image.shape == (32, 40, 34, 3)
    assert image.get_data_dtype() == np.float32
    assert np.abs(image.get_fdata()).max() > 0.1


def test_a_field_pulls_the_moving_image_onto_the_fixed_one(tmp_path):
    """Fitted to a known translation: direction and axis order are right."""
    grid = np.indices((24, 20, 16)).astype(np.float32)
    centre = np.array([12, 10, 8], np.float32)

    def blob(offset):
        squared = sum(((g - c - o) / r) ** 2 for g, c, o, r in zip(grid, centre, offset, (7, 5, 4), strict=True))
        return Volume(tmp_path / "blob.nii.gz", (255 * np.exp(-squared)).astype(np.float32), np.eye(4))

    fixed, moving = blob((0, 0, 0)), blob((2, -1, 0))
    torch.manual_seed(0)
    network = SITReg(SITRegConfig(input_transform="intensity", feature_channels=(4, 8), update_channels=(8, 8)))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    images = [torch.from_numpy(volume.data)[None, None] for volume in (fixed, moving)]
    for _ in range(60):
        optimizer.zero_grad()
        field = register(network, *images)[-1].forward_vox
        ((sample(images[1], field) - images[0]) / 255).square().mean().backward()
        optimizer.step()
    disp_vox = register_pair(make_ensemble([network]), fixed, moving)
    at_centre = disp_vox[10:14, 8:12, 6:10].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(at_centre, [2, -1, 0], atol=0.5)


@pytest.mark.parametrize("shape", [(32, 40, 34), (33, 41, 35)])
def test_a_network_at_half_resolution_delivers_a_full_size_field(make_weights, tmp_path, shape):
    network, _ = load_ensemble([make_weights()])
    assert network.config.resolution_vox == 2
    rng = np.random.default_rng(0)
    fixed, moving = (Volume(tmp_path, rng.random(shape).astype(np.float32), np.eye(4)) for _ in range(2))
    assert register_pair(network, fixed, moving).shape == (*shape, 3)


def test_register_writes_the_field_that_predict_writes(lumirkit, dataset, make_weights, tmp_path):
    weights = [make_weights(seed) for seed in (0, 1)]
    options = [option for path in weights for option in ("--weights", path)]
    fixed, moving = (dataset / "imagesVal" / f"LUMIRMRI_{n}_0000.nii.gz" for n in (3455, 3454))
    done = lumirkit("register", fixed, moving, tmp_path / "one.nii.gz", *options)
    assert done.returncode == 0, done.stderr
    assert lumirkit("predict", "--dataset", dataset, "--out", tmp_path / "all", *options).returncode == 0
    fields = [tmp_path / "one.nii.gz", tmp_path / "all" / "disp_3455_3454.nii.gz"]
    np.testing.assert_array_equal(*(read_displacement(field, (32, 40, 34)) for field in fields))


def test_shards_share_the_pairs(dataset, make_weights, tmp_path):
    json_path = find_dataset_json(dataset)
    written = []
    for index in (1, 2, 3):
        out = tmp_path / str(index)
        predict_dataset(json_path, dataset, out, [make_weights()], CPU, Shard(index, 3))
        written += [path.name for path in out.glob("*.nii.gz")]
    assert sorted(written) == sorted(pair.field_name for pair in read_dataset(json_path).validation)
    for text in ("0/2", "3/2", "1", "a/b"):
        with pytest.raises(RequestError, match="expected i/n"):
            Shard.parse(text)


FIXED = "imagesVal/LUMIRMRI_3455_0000.nii.gz"


def damage_shape(path):
    write_volume(path, np.ones((32, 40, 33), np.uint8), np.eye(4))


def test_a_damaged_image_fails_its_pair_and_no_other(dataset, predict, tmp_path):
    damage_shape(dataset / FIXED)
    done = predict()
    printed = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 1
    assert "3455_0000<--3454_0000" in printed
    assert "foundshape(32,40,33);expected(32,40,34)" in printed.replace(" ", "")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == [
        "disp_3485_3484.nii.gz",
        "disp_4015_4014.nii.gz",
        "disp_4024_4033.nii.gz",
    ]


def refused(done, *parts):
    """The request ended before anything started: status 2, one message that says all of `parts`, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert str(part) in done.stderr


def test_absent_images_are_found_before_anything_starts(dataset, predict, tmp_path):
    (dataset / FIXED).unlink()
    refused(predict(), "1 listed files do not exist", FIXED)
    assert not (tmp_path / "out").exists()


def test_unusable_requests_are_refused(lumirkit, dataset, predict, tmp_path, make_weights):
    refused(predict("--shard", "5/4"), "--shard 5/4", "expected i/n")
    refused(predict("--device", "gpu"), "--device gpu", "expected auto, cpu")
    refused(lumirkit("predict", "--dataset", tmp_path / "none", "--weights", "w", "--out", "o"), "no such folder")
    (tmp_path / "file").write_text("")
    json_path = find_dataset_json(dataset)
    options = ("--dataset", dataset, "--weights", make_weights())
    refused(lumirkit("predict", *options, "--out", tmp_path / "file"), "cannot be created")
    json_path.write_text(json.dumps({"validation": []}))
    refused(predict(), json_path, "expected a list of pairs of fixed and moving under the key validation")
    json_path.write_text("{")
    refused(predict(), json_path, "not a usable JSON file")


def test_unusable_weights_are_refused(lumirkit, dataset, tmp_path, make_weights):
    options = ("predict", "--dataset", dataset, "--out", tmp_path / "out")
    refused(lumirkit(*options, "--weights", tmp_path / "none.safetensors"), "no such weight file")
    broken = tmp_path / "broken.safetensors"
    content = bytearray(make_weights().read_bytes())
    content[-1] ^= 1
    broken.write_bytes(content)
    refused(lumirkit(*options, "--weights", broken), broken, "changed or damaged")
    other = make_weights(network=SITRegConfig(feature_channels=(4,), update_channels=(4,)))
    both = ("--weights", make_weights(), "--weights", other)
    refused(lumirkit(*options, *both), other, "its network differs")
    assert not list(tmp_path.glob("out/*"))


def test_outputs_that_cannot_be_written_are_refused_first(lumirkit, dataset, tmp_path, make_weights):
    (tmp_path / "file").write_text("")
    images = [dataset / "imagesVal" / f"LUMIRMRI_{n}_0000.nii.gz" for n in (3455, 3454)]
    refused(lumirkit("register", *images, tmp_path / "field.mha", "--weights", make_weights()), "ends in .nii.gz")
    inside = tmp_path / "file" / "below"
    refused(lumirkit("register", *images, inside / "a.nii.gz", "--weights", make_weights()), "cannot be created")
    recipe = Path(train.__file__).parent / "recipes" / "demo.yaml"
    refused(lumirkit("train", recipe, "--data", dataset, "--out", inside), "cannot be created")
    options = ("--ground-truth", dataset, "--fields", dataset, "--out", inside / "metrics.json")
    refused(lumirkit("evaluate", *options), "cannot be created")


def test_arrays_taken_as_they_are_must_have_one_shape(lumirkit, dataset, tmp_path, make_weights):
    damage_shape(dataset / FIXED)
    moving = dataset / "imagesVal/LUMIRMRI_3454_0000.nii.gz"
    options = ("--weights", make_weights(), "--as-is")
    done = lumirkit("register", dataset / FIXED, moving, tmp_path / "out.nii.gz", *options)
    refused(done, moving, "found shape (32, 40, 34); expected (32, 40, 33)", "Resample")
    assert not (tmp_path / "out.nii.gz").exists()


def test_intensities_below_0_are_warned_of_in_arrays_taken_as_they_are(lumirkit, dataset, tmp_path, make_weights):
    fixed, moving = dataset / FIXED, dataset / "imagesVal/LUMIRMRI_3454_0000.nii.gz"
    image = nib.load(fixed)
    brain = image.get_fdata(dtype=np.float32)
    inside = brain > 0
    brain[inside] = (brain[inside] - brain[inside].mean()) / brain[inside].std()
    nib.save(nib.Nifti1Image(brain, image.affine), fixed)
    for command in (
        ("predict", "--dataset", dataset, "--out", tmp_path / "out"),
        ("register", fixed, moving, tmp_path / "out.nii.gz", "--as-is"),
    ):
        done = lumirkit(*command, "--weights", make_weights())
        assert done.returncode == 0, done.stderr
        (warning,) = (line for line in done.stderr.splitlines() if line.startswith("warning"))
        assert f"{fixed}: found intensities of -" in warning
        assert "what is not above 0 is taken for background" in warning
