"""The demo: a small one from nothing, and what the full one reached where one has been run."""

import json
import os
from pathlib import Path

import pytest

from lumirkit.base.errors import RequestError
from lumirkit.demo import run_demo
from lumirkit.phantoms.brains import PhantomSpec
from lumirkit.train.recipe import Recipe, recipe_yaml

MARKER = ".lumirkit-demo"  # what is in a folder beside it may be replaced
RECIPE = Recipe.model_validate(
    {
        "name": "tiny",
        "network": {"resolution_vox": 2, "feature_channels": [4, 4], "update_channels": [4, 4]},
        "stages": [{"epochs": 1, "items_per_epoch": 2, "learning_rate": 1e-3}],
    }
)


def test_the_whole_chain_on_a_small_scale(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(recipe_yaml(RECIPE))
    spec = PhantomSpec(shape=(32, 40, 34), n_train=2, pairs_per_split=1)
    for name in (MARKER, "of an earlier demo"):
        (tmp_path / "demo" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "demo" / name).touch()
    run_demo(tmp_path / "demo", spec, tmp_path / "recipe.yaml")
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    assert MARKER in made
    assert "of an earlier demo" not in made
    assert made >= {"data", "fields", "metrics.json", "metrics_before.json", "model0", "model1", "weights"}
    assert "report.html" in made
    assert len(list((tmp_path / "demo" / "fields").glob("*.nii.gz"))) == 4
    assert len(list((tmp_path / "demo" / "weights").iterdir())) == 2
    printed = capsys.readouterr().out
    assert "before" in printed
    assert "after" in printed


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RequestError, match="holds other files"):
        run_demo(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.skipif("LUMIRKIT_DEMO" not in os.environ, reason="LUMIRKIT_DEMO names no finished demo to look at")
def test_a_finished_demo_gained_ten_points_of_dice_without_folds():
    before, after = (
        json.loads((Path(os.environ["LUMIRKIT_DEMO"]) / name).read_text())["aggregates"]
        for name in ("metrics_before.json", "metrics.json")
    )
    for split in ("ID_dice", "OOD_dice", "MM_dice"):
        assert after[split]["mean"] > before[split]["mean"] + 0.10, split
    assert after["TRE_lm"]["mean"] < before["TRE_lm"]["mean"]
    assert after["Non-diffeomorphic Volumes"]["mean"] < 0.05
