"""The package that several of these tests need."""

import pytest


@pytest.fixture
def ants():
    return pytest.importorskip("ants", reason="needs the extra: pip install '.[baselines]'")
