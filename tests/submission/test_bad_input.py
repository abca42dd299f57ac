"""What the container says, and how it ends, when something that it is given cannot be used."""

import gzip
import json
import shutil
import signal
import sys

import numpy as np
import pytest

from lumirkit.data_manifests.dataset import find_dataset_json
from lumirkit.registration.sitreg import SITRegConfig
from lumirkit.registration.volume import read_displacement, read_image, write_volume
from lumirkit.submission import entrypoint

SHAPE = (32, 40, 34)
FIXED = "imagesVal/LUMIRMRI_3455_0000.nii.gz"
MOVING = "imagesVal/LUMIRMRI_3454_0000.nii.gz"
FIELD = "disp_3455_3454.nii.gz"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the container's command in this process; returns its status and what it printed."""
    before = signal.getsignal(signal.SIGTERM)

    def run_entrypoint(*arguments):
        monkeypatch.setattr(sys, "argv", ["entrypoint", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            entrypoint.main()
        captured = capsys.readouterr()
        return ended.value.code, " ".join((captured.out + captured.err).split())

    yield run_entrypoint
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def place(phantom_root, make_weights, tmp_path):
    """A dataset that may be damaged, weights that may be replaced, and where the fields go."""
    return Place(shutil.copytree(phantom_root, tmp_path / "data"), make_weights(), tmp_path)


class Place:
    def __init__(self, data, weights, scratch):
        self.data, self.weights, self.scratch = data, weights, scratch
        self.out = scratch / "out"
        self.json = find_dataset_json(data)

    def weights_folder(self, *files):
        folder = self.scratch / "weights"
        folder.mkdir()
        for number, file in enumerate(files):
            shutil.copy(file, folder / f"{number}_{file.name}")
        return folder

    @property
    def dataset_run(self):
        return ("--dataset-json", self.json, "--output", self.out, "--weights", self.weights)

    def pair_run(self, **changed):
        names = {"fixed": FIXED, "moving": MOVING}
        paths = {name: self.data / path for name, path in names.items()}
        for name in names:
            mask = self.scratch / f"{name}_mask.nii.gz"
            write_volume(mask, np.ones(SHAPE, np.uint8), np.eye(4))
            paths[f"{name}_mask"] = mask
        paths["output"] = self.scratch / "pair" / "field.nii.gz"
        return (*(paths | changed).values(), "--weights", self.weights)


def edit_json(place, change):
    content = json.loads(place.json.read_text())
    change(content)
    place.json.write_text(json.dumps(content))


def nothing_mounted(place, make_weights):
    return ("--root", place.scratch, "--weights", place.weights)


def pair_list_without_images(place, make_weights):
    (place.scratch / "LUMIR_dataset.json").write_text("{}")
    return ("--root", place.scratch, "--weights", place.weights)


def other_contract_than_forced(place, make_weights):
    (place.scratch / "LUMIR_dataset.json").write_text("{}")
    return ("--root", place.scratch, "--contract", "lumir2025", "--weights", place.weights)


def unknown_contract(place, make_weights):
    return ("--contract", "lumir2023")


def two_paths(place, make_weights):
    return (place.data / FIXED, place.data / MOVING, "--weights", place.weights)


def absent_fixed_image(place, make_weights):
    return place.pair_run(fixed=place.scratch / "none.nii.gz")


def absent_mask(place, make_weights):
    return place.pair_run(moving_mask=place.scratch / "none.nii.gz")


def output_of_other_format(place, make_weights):
    return place.pair_run(output=place.scratch / "field.mha")


def output_that_is_a_folder(place, make_weights):
    return place.pair_run(output=place.scratch)


def output_below_a_file(place, make_weights):
    (place.scratch / "file").write_text("")
    place.out = place.scratch / "file" / "fields"
    return place.dataset_run


def no_output(place, make_weights):
    return ("--dataset-json", place.json, "--weights", place.weights)


def absent_json(place, make_weights):
    place.json.unlink()
    return place.dataset_run


def no_json(place, make_weights):
    place.json.write_text("{")
    return place.dataset_run


def json_of_another_kind(place, make_weights):
    place.json.write_text('{"channel_names": {"0": "MR"}, "numTraining": 4}')
    return place.dataset_run


def no_pairs(place, make_weights):
    edit_json(place, lambda content: content["validation"].clear())
    return place.dataset_run


def listed_image_absent(place, make_weights):
    (place.data / FIXED).unlink()
    return place.dataset_run


def image_name_without_numbers(place, make_weights):
    shutil.copy(place.data / FIXED, place.data / "brain.nii.gz")
    edit_json(place, lambda content: content["validation"][0].update(fixed="./brain.nii.gz"))
    return place.dataset_run


def absent_weights(place, make_weights):
    place.weights = place.scratch / "none.safetensors"
    return place.dataset_run


def no_weights_in_folder(place, make_weights):
    place.weights = place.weights_folder()
    return place.dataset_run


def damaged_weights(place, make_weights):
    content = bytearray(place.weights.read_bytes())
    content[-1] ^= 1
    place.weights = place.scratch / "damaged.safetensors"
    place.weights.write_bytes(content)
    return place.dataset_run


def pickled_weights(place, make_weights):
    place.weights = place.scratch / "model.pt"
    place.weights.write_bytes(b"PK\x03\x04 not safetensors")
    return place.dataset_run


def members_of_other_networks(place, make_weights):
    other = make_weights(1, network=SITRegConfig(feature_channels=(4,), update_channels=(4,)))
    place.weights = place.weights_folder(place.weights, other)
    return place.dataset_run


def members_of_other_recipes(place, make_weights):
    place.weights = place.weights_folder(place.weights, make_weights(1, recipe={"name": "other"}))
    return place.dataset_run


def a_member_twice(place, make_weights):
    place.weights = place.weights_folder(place.weights, place.weights)
    return place.dataset_run


def impossible_shard(place, make_weights):
    return (*place.dataset_run, "--shard", "5/4")


def unknown_device(place, make_weights):
    return (*place.dataset_run, "--device", "gpu")


def absent_gpu(place, make_weights):
    return (*place.dataset_run, "--device", "cuda:99")


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (nothing_mounted, "no pair list is mounted"),
        (pair_list_without_images, "is mounted but"),
        (other_contract_than_forced, "LUMIR25_dataset.json (lumir2025). Add -v"),
        (unknown_contract, "'lumir2023' is not one of"),
        (two_paths, "found 2 paths; expected none or five: fixed image, moving image"),
        (absent_fixed_image, "none.nii.gz: no such file; expected the fixed image"),
        (absent_mask, "none.nii.gz: no such file; expected the mask of the moving image"),
        (output_of_other_format, "field.mha: expected a file name that ends in .nii.gz"),
        (output_that_is_a_folder, "is a folder; expected the name of the field"),
        (output_below_a_file, "cannot be created"),
        (no_output, "without --output"),
        (absent_json, "cannot be read (No such file"),
        (no_json, "not a usable JSON file"),
        (json_of_another_kind, "found the keys channel_names, numTraining; expected training"),
        (no_pairs, "found no validation pairs"),
        (listed_image_absent, f"1 listed files do not exist under {{data}}: {FIXED}"),
        (image_name_without_numbers, "brain.nii.gz: the file name has no subject and modality"),
        (absent_weights, "none.safetensors: no such weight file"),
        (no_weights_in_folder, "holds no .safetensors file"),
        (damaged_weights, "damaged.safetensors: the tensors hash to"),
        (pickled_weights, "model.pt: found weights as torch.save writes them, a pickle"),
        (members_of_other_networks, "its network differs"),
        (members_of_other_recipes, "its recipe differs from that of"),
        (a_member_twice, "the same model as"),
        (impossible_shard, "--shard 5/4: expected i/n"),
        (unknown_device, "--device gpu: expected auto, cpu, cuda"),
        (absent_gpu, "--device cuda:99: torch finds"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_request_that_cannot_be_carried_out_starts_nothing(run, place, make_weights, arrange, message):
    status, printed = run(*arrange(place, make_weights))
    assert status == 2, printed
    # A usage error is printed in a box, broken where the terminal ends.
    assert message.format(data=place.data).replace(" ", "") in printed.replace("│", "").replace(" ", "")
    assert not list(place.scratch.glob("out/*.nii.gz"))
    assert not list(place.scratch.glob("pair/*.nii.gz"))


def truncated(path):
    path.write_bytes(path.read_bytes()[:2000])


def changed_inside(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)


def no_nifti(path):
    path.write_bytes(gzip.compress(b"no image"))


def empty_file(path):
    path.write_bytes(b"")


def four_axes(path):
    write_volume(path, np.ones((*SHAPE, 2), np.uint8), np.eye(4))


def one_nan(path):
    data = read_image(path).data
    data[16, 20, 17] = np.nan
    write_volume(path, data, np.eye(4))


def one_infinite(path):
    data = read_image(path).data
    data[16, 20, 17] = np.inf
    write_volume(path, data, np.eye(4))


def all_zero(path):
    write_volume(path, np.zeros(SHAPE, np.uint8), np.eye(4))


def other_shape(path):
    write_volume(path, np.ones((32, 40, 33), np.uint8), np.eye(4))


DAMAGES = [
    (truncated, "damaged or truncated"),
    (changed_inside, "damaged or truncated"),
    (no_nifti, "not a readable NIfTI"),
    (empty_file, "not a readable NIfTI"),
    (four_axes, "found a 4-D volume"),
    (one_nan, "1 voxels are NaN or inf"),
    (one_infinite, "1 voxels are NaN or inf"),
    (all_zero, "every voxel is zero"),
    (other_shape, "found shape (32, 40, 33); expected (32, 40, 34)"),
]


@pytest.mark.parametrize("image", [FIXED, MOVING], ids=["fixed", "moving"])
@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_image_costs_its_own_pair(run, place, damage, message, image):
    damage(place.data / image)
    status, printed = run(*place.dataset_run, "--shard", "2/2")
    assert status == 1, printed
    assert "failed: 3455_0000<--3454_0000:" in printed
    assert image in printed
    assert message in printed
    assert [path.name for path in place.out.glob("*.nii.gz")] == ["disp_4024_4033.nii.gz"]
    assert not list(place.out.glob(".*"))


def mask_of_other_shape(path):
    write_volume(path, np.ones((32, 40, 33), np.uint8), np.eye(4))


def mask_of_nothing(path):
    write_volume(path, np.zeros(SHAPE, np.uint8), np.eye(4))


def mask_of_fractions(path):
    write_volume(path, np.full(SHAPE, 1.5, np.float32), np.eye(4))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (mask_of_other_shape, "found shape (32, 40, 33); expected (32, 40, 34)"),
        (mask_of_nothing, "no voxel is above 0; expected a mask of the brain"),
        (mask_of_fractions, "whole numbers"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_unusable_mask_is_named(run, place, damage, message):
    mask = place.scratch / "unusable.nii.gz"
    damage(mask)
    status, printed = run(*place.pair_run(fixed_mask=mask))
    assert status == 1, printed
    assert "unusable.nii.gz" in printed
    assert message in printed
    assert not list(place.scratch.glob("pair/*.nii.gz"))


def test_images_too_small_for_the_network_are_refused(run, place):
    tiny = [place.scratch / f"{name}_0000.nii.gz" for name in ("fixed", "moving")]
    for path in tiny:
        write_volume(path, np.ones((2, 2, 2), np.uint8), np.eye(4))
    status, printed = run(*tiny, *tiny, place.scratch / "field.nii.gz", "--weights", place.weights)
    assert status == 1, printed
    assert "found shape (2, 2, 2); expected at least 4 voxels an axis" in printed


def test_a_field_that_cannot_be_written_costs_its_own_pair(run, place):
    (place.out / FIELD).mkdir(parents=True)
    status, printed = run(*place.dataset_run, "--shard", "2/2")
    assert status == 1, printed
    assert f"{FIELD}: could not be written" in printed
    assert read_displacement(place.out / "disp_4024_4033.nii.gz", SHAPE).any()
