"""Fixtures of the submission's tests."""

import shutil

import pytest


@pytest.fixture
def dataset(phantom_root, tmp_path):
    """A copy of the dataset that a test may damage."""
    return shutil.copytree(phantom_root, tmp_path / "dataset")
