"""Fixtures of the submission's tests."""

import shutil

import numba
import pytest
import torch


@pytest.fixture
def dataset(phantom_root, tmp_path):
    """A copy of the dataset that a test may damage."""
    return shutil.copytree(phantom_root, tmp_path / "dataset")


@pytest.fixture
def one_thread():
    """As many as a worker has that shares two cores, since results round by the number."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)  # which conftest.py undoes
    yield
    numba.set_num_threads(before)
