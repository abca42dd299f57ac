"""Which grids a refinement has, and which settings are refused."""

import pytest
from pydantic import ValidationError

from lumirkit.base.errors import RequestError
from lumirkit.registration.refinement.settings import Refinement, chosen_refinement


@pytest.mark.parametrize(
    ("resolution_vox", "finest_vox", "grids"),
    [
        (2, None, [8, 4, 2]),
        (2, 1, [8, 4, 2, 1]),
        (1, None, [8, 4, 2, 1]),
        (4, 2, [8, 4, 2]),
        (3, None, [6, 3]),
        (16, None, [16]),
        (None, None, [8, 4, 2]),
        (None, 1, [8, 4, 2, 1]),
    ],
)
def test_the_grids_go_from_the_networks_to_the_finest(resolution_vox, finest_vox, grids):
    stages = Refinement(steps=1, finest_vox=finest_vox).stages(resolution_vox)
    assert [stage.grid_vox for stage in stages] == grids
    assert all(stage.spacing_vox % stage.grid_vox == 0 for stage in stages)


@pytest.mark.parametrize(("resolution_vox", "finest_vox"), [(2, 4), (2, 3), (1, 2), (6, 2), (None, 16)])
def test_a_grid_that_halving_does_not_lead_to_is_refused(resolution_vox, finest_vox):
    with pytest.raises(RequestError, match=f"found {finest_vox}; expected one of"):
        Refinement(steps=1, finest_vox=finest_vox).stages(resolution_vox)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"ncc_window_vox": 4}, {"learning_rate": 0}, {"levels": 3}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        Refinement(**{"steps": 1, **wrong})


def test_what_the_options_ask_for():
    assert chosen_refinement(0, None) is None
    assert chosen_refinement(5, 1) == Refinement(steps=5, finest_vox=1)
    for steps, finest in ((-1, None), (0, 1), (2.5, None), ("5", None), (5, 0), (5, 1.0)):
        with pytest.raises(RequestError, match="--refine"):
            chosen_refinement(steps, finest)


def test_a_stage_counts_in_image_voxels():
    stages = Refinement(steps=1, finest_vox=1).stages(None)
    assert [(stage.grid_vox, stage.spacing_vox, stage.seen_vox) for stage in stages] == [
        (8, 8, 4),
        (4, 4, 2),
        (2, 2, 1),
        (1, 2, 1),
    ]
