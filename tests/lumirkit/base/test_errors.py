"""Every error that a user may see is one of the kit's, with the exit status that the README promises."""

import importlib
import inspect
import pkgutil

import pytest

import lumirkit
from lumirkit.base.errors import KitError, RequestError, ending_with_status
from lumirkit.train.run_folder import CheckpointError

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
    "TrainingLogError": NOTHING_STARTED,
    "VolumeError": NOTHING_STARTED,
    "WeightsError": NOTHING_STARTED,
    "WorkersLostError": NOT_FINISHED,
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


@pytest.mark.parametrize(
    ("error", "status"),
    [(RequestError("so"), NOTHING_STARTED), (CheckpointError("so"), NOT_FINISHED), (OSError("so"), NOT_FINISHED)],
)
def test_an_error_ends_a_program_with_one_message(error, status, capsys):
    with pytest.raises(SystemExit) as ended, ending_with_status():
        raise error
    assert (ended.value.code, capsys.readouterr().err) == (status, "error: so\n")


def test_an_error_that_nobody_foresaw_keeps_its_traceback():
    with pytest.raises(ValueError, match="so"), ending_with_status():
        raise ValueError("so")
