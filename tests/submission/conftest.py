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
    """One thread, which a worker has that shares two cores: results round by the number of threads."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)  # which conftest.py undoes
    yield
    numba.set_num_threads(before)
