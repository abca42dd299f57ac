"""Registering files: what is checked, what is written, and what a failure costs."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest

from lumirkit.base.errors import VolumeError
from lumirkit.registration.pair_files import Failure, for_each_pair, register_files
from lumirkit.registration.volume import write_volume

SHAPE = (5, 6, 7)
AFFINE = np.diag([2.0, -1, 1, 1])


def zero(fixed, moving):
    return np.zeros((*fixed.shape, 3), np.float32)


@pytest.fixture
def paths(tmp_path):
    """Fixed image, moving image and the field to write."""
    fixed, moving = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    write_volume(fixed, np.ones(SHAPE, np.uint8), AFFINE)
    write_volume(moving, np.ones(SHAPE, np.uint8), np.eye(4))
    return fixed, moving, tmp_path / "out" / "field.nii.gz"


def test_a_field_is_written_on_the_fixed_grid_with_its_run_time(paths):
    assert register_files(zero, *paths, SHAPE) >= 0
    field = nib.load(paths[2])
    assert field.shape == (*SHAPE, 3)
    np.testing.assert_array_equal(field.affine, AFFINE)


@pytest.mark.parametrize(("moving_shape", "promised"), [(SHAPE, (5, 6, 8)), ((5, 6, 8), None)])
def test_images_of_another_shape_are_refused(paths, moving_shape, promised):
    write_volume(paths[1], np.ones(moving_shape, np.uint8), AFFINE)
    with pytest.raises(VolumeError, match="found shape"):
        register_files(zero, *paths, promised)
    assert not paths[2].exists()


@dataclass
class Pair:
    case_name: str


def test_a_failure_costs_its_own_pair_only_whatever_it_is():
    done = []

    def fails_on_b(pair):
        if pair.case_name == "b":
            raise VolumeError("damaged")
        done.append(pair.case_name)

    assert for_each_pair([Pair(name) for name in "abc"], fails_on_b) == [Failure("b", "damaged")]
    assert done == ["a", "c"]
    (failure,) = for_each_pair([Pair("a")], lambda pair: 1 / 0)
    assert failure.reason.startswith("a: failed unforeseen (ZeroDivisionError in test_pair_files.py, line ")
