"""Every error that a user may see is one of the kit's, with the exit status that the README promises."""

import importlib
import inspect
import pkgutil

import pytest

import lumirkit
from lumirkit.base.errors import KitError

NOTHING_STARTED, NOT_FINISHED = 2, 1

STATUSES = {
    "BenchError": NOT_FINISHED,
    "CheckpointError": NOT_FINISHED,
    "ContainerError": NOT_FINISHED,
    "ContractError": NOTHING_STARTED,
    "EvaluationError": NOTHING_STARTED,
    "JobError": NOT_FINISHED,
    "KitError": NOTHING_STARTED,
    "ManifestError": NOTHING_STARTED,
    "RecipeError": NOTHING_STARTED,
    "RequestError": NOTHING_STARTED,
    "StoreError": NOTHING_STARTED,
    "TrainingError": NOT_FINISHED,
    "VolumeError": NOTHING_STARTED,
    "WeightsError": NOTHING_STARTED,
}


@pytest.fixture(scope="module")
def errors():
    """The public exception classes of the package, by name; a private one never leaves its file."""
    found = {}
    for module in pkgutil.walk_packages(lumirkit.__path__, "lumirkit."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            own = inspect.isclass(value) and value.__module__ == module.name
            if own and issubclass(value, BaseException) and name.endswith("Error") and not name.startswith("_"):
                found[name] = value
    return found


def test_every_error_is_one_of_the_kit(errors):
    assert [name for name, error in errors.items() if not issubclass(error, KitError)] == []


def test_statuses(errors):
    assert {name: error.exit_status for name, error in errors.items()} == STATUSES
