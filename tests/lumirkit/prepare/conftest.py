"""The template that phantom heads are aligned to."""

from pathlib import Path

import numpy as np
import pytest
from nibabel.affines import from_matvec
from phantom_heads import SHAPE, SPACING_MM

from lumirkit.phantoms.brains import PhantomSpec, Subject, make_subject
from lumirkit.registration.volume import write_volume


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """The phantom brain that nobody deformed, in the middle of the world."""
    spec = PhantomSpec(shape=SHAPE, coarse_displacement=0, fine_displacement=0)
    brain, _ = make_subject(spec, Subject(0))
    path = tmp_path_factory.mktemp("template") / "template.nii.gz"
    write_volume(path, brain, from_matvec(np.diag(SPACING_MM), -SPACING_MM * (np.array(SHAPE) - 1) / 2))
    return path
