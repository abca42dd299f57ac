"""The ground floor and the readers of manifests start without the seconds that torch takes."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (["errors", "files", "progress", "ahead", "memory"], {"torch", "nibabel", "numpy"}),
        (["nifti", "compiled"], {"torch"}),
    ],
)
def test_the_ground_floor_is_light(modules, absent):
    assert not imported_by([f"lumirkit.base.{module}" for module in modules]) & absent


def test_manifests_know_no_torch():
    assert "torch" not in imported_by(["lumirkit.data_manifests.check", "lumirkit.data_manifests.split"])


def imported_by(modules):
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
