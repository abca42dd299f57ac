"""Ablation files: rows as changes of a recipe, and which trainings they share."""

from pathlib import Path

import pytest
import yaml

from lumirkit import train
from lumirkit.ablation.plan import folder_name, load_ablation
from lumirkit.base.errors import RequestError
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.train.recipe import RecipeError

RECIPES = Path(train.__file__).parent / "recipes"
TABLE_1 = RECIPES / "ablation_table1.yaml"


def write(path, rows, **changes):
    path.write_text(yaml.safe_dump({"name": "mine", "base": str(RECIPES / "lite.yaml"), "rows": rows, **changes}))
    return path


@pytest.mark.parametrize("base", ["lumir25", "lite", "demo"])
def test_table_1_of_the_paper(base):
    ablation = load_ablation(TABLE_1, RECIPES / f"{base}.yaml")
    rows = {row.name: row for row in ablation.rows}
    assert {name: row.ingredients for name, row in rows.items()} == {
        "baseline": (),
        "+MIND": ("MIND",),
        "+NDV+GC": ("MIND", "NDV", "GC"),
        "+AUG": ("MIND", "NDV", "GC", "AUG"),
        "+ENS": ("MIND", "NDV", "GC", "AUG", "ENS"),
    }
    baseline, mind, tuned, augmented = (rows[name].runs[0].recipe for name in ("baseline", "+MIND", "+NDV+GC", "+AUG"))
    assert (baseline.network.input_transform, mind.network.input_transform) == ("intensity", "mind")
    assert [len(recipe.stages) for recipe in (baseline, mind, tuned, augmented)] == [1, 1, 2, 2]
    assert tuned.stages[1].losses.ndv_weight > 0
    assert tuned.stages[1].losses.group_consistency_weight > 0
    nothing = type(mind.stages[0].augmentation)()
    assert all(stage.augmentation == nothing for stage in (*baseline.stages, *mind.stages, *tuned.stages))
    assert all(stage.augmentation.inversion_probability == 0.5 for stage in augmented.stages)


def test_nothing_is_trained_twice():
    ablation = load_ablation(TABLE_1)
    rows = {row.name: row for row in ablation.rows}
    mind, tuned, augmented = (rows[name].runs[0] for name in ("+MIND", "+NDV+GC", "+AUG"))
    assert tuned.start is mind
    assert augmented.start is None  # its first stage differs
    assert rows["+ENS"].runs[0] is augmented
    assert [run.recipe.seed for run in rows["+ENS"].runs] == [0, 1, 2, 3, 4]
    assert len({run.folder for run in ablation.runs}) == len(ablation.runs) == 8
    assert {run.recipe.name for run in rows["+ENS"].runs} == {"AUG"}  # members of one recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("ablation_*.yaml")), ids=lambda path: path.stem)
def test_shipped_ablations_can_be_planned(path):
    ablation = load_ablation(path)
    assert len({row.name for row in ablation.rows}) == len(ablation.rows)


def test_rows_with_recipes_of_their_own_share_what_they_have_in_common():
    rows = {row.name: row.runs[0] for row in load_ablation(RECIPES / "ablation_hybridmorph.yaml").rows}
    assert rows["few-shot 5"].recipe.stages[0].n_images == 5
    assert rows["transfer 5"].start is rows["transfer 90"].start is rows["synthetic only"]
    assert [rows[f"weighted {alpha}"].recipe.stages[0].synthetic.share for alpha in (0.5, 0.9)] == [0.5, 0.1]
    rows = {row.name: row.runs[0] for row in load_ablation(RECIPES / "ablation_ddmr.yaml").rows}
    fine_tuned, two_step = rows["UW-NSD fine-tuned"], rows["UW-NSD two-step"]
    assert [stage.frozen for stage in two_step.recipe.stages] == [(), ("encoder.*",), ()]
    assert all(stage.uncertainty and stage.one_image.losses.ssim_weight == 1 for stage in fine_tuned.recipe.stages[1:])
    assert fine_tuned.recipe.stages[0] == two_step.recipe.stages[0]


def test_a_row_says_only_what_changes(tmp_path):
    rows = [
        {"name": "a", "set": {"stages.*.learning_rate": 0.5, "seed": 3}, "stages": 1},
        {"name": "b", "parent": "a", "adds": ["B"], "set": {"stages.0.learning_rate": 0.25}},
        {"name": "c", "parent": "b", "adds": ["C"], "stages": 2, "members": 2},
    ]
    ablation = load_ablation(write(tmp_path / "rows.yaml", rows), overrides=["ema_decay=0.9"])
    c = ablation.rows[2]
    assert [stage.learning_rate for stage in c.runs[0].recipe.stages] == [0.25, 0.5]
    assert [run.recipe.seed for run in c.runs] == [3, 4]
    assert (c.ingredients, c.runs[0].recipe.ema_decay) == (("B", "C"), 0.9)
    assert c.runs[0].start is ablation.rows[1].runs[0]
    assert c.runs[1].start is None


def test_rows_that_differ_in_their_seed_alone(tmp_path):
    rows = [{"name": "a"}, {"name": "b", "set": {"seed": 1}}, {"name": "c", "members": 2}]
    ablation = load_ablation(write(tmp_path / "rows.yaml", rows))
    assert [[run.folder for run in row.runs] for row in ablation.rows] == [
        ["a/seed0"],
        ["a/seed1"],
        ["a/seed0", "a/seed1"],
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"name": "a"}, {"name": "a"}], "rows a and a share the folder a"),
        ([{"name": "+a"}, {"name": "a"}], r"rows \+a and a share the folder a"),
        ([{"name": "a", "parent": "b"}, {"name": "b"}], "row a: its parent b is no earlier row; those are none"),
        ([{"name": "a"}, {"name": "b", "parent": "c"}], "its parent c is no earlier row; those are a"),
        ([{"name": "a", "stages": 3}], "trains 3 stages; the base recipe lite has 2"),
        (
            [{"name": "a", "set": {"stages.*.epoch": 3}}],
            r"row a: .*\n  stages\.0\.epoch: found a key that nothing reads",
        ),
        ([{"name": "a", "set": {"stages.7.epochs": 3}}], r"row a: the changed key stages\.7\.epochs does not fit"),
        ([{"name": "a", "members": 0}], r"rows\.0\.members: found 0; expected more than 0"),
        ([{"name": "a", "sets": {}}], r"rows\.0\.sets: found a key that nothing reads"),
        ([{"name": "+"}], "found no letter or digit in its name"),
        ([], "rows: "),
    ],
)
def test_what_cannot_be_planned(tmp_path, rows, message):
    with pytest.raises(RecipeError, match=message):
        load_ablation(write(tmp_path / "rows.yaml", rows))


def test_columns(tmp_path):
    assert load_ablation(TABLE_1).columns is ColumnSet.LEADERBOARD
    file = write(tmp_path / "rows.yaml", [{"name": "a"}], columns="designs")
    assert load_ablation(file).columns is ColumnSet.DESIGNS
    with pytest.raises(RecipeError, match=r"columns: found .paper.; expected 'leaderboard' or 'designs'"):
        load_ablation(write(tmp_path / "rows.yaml", [{"name": "a"}], columns="paper"))


def test_missing_files(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe"):
        load_ablation(tmp_path / "none.yaml")
    with pytest.raises(RequestError, match=r"none\.yaml: no such recipe"):
        load_ablation(write(tmp_path / "rows.yaml", [{"name": "a"}], base="none.yaml"))


def test_the_base_is_a_shipped_recipe_a_file_beside_or_that_of_the_command(tmp_path):
    shipped = load_ablation(write(tmp_path / "rows.yaml", [{"name": "a"}], base="lite"))
    assert shipped.rows[0].runs[0].recipe.network.resolution_vox == 2
    (tmp_path / "own.yaml").write_text(
        (RECIPES / "lite.yaml").read_text().replace("resolution_vox: 2", "resolution_vox: 4")
    )
    beside = load_ablation(write(tmp_path / "rows.yaml", [{"name": "a"}], base="own.yaml"))
    assert beside.rows[0].runs[0].recipe.network.resolution_vox == 4
    without = write(tmp_path / "rows.yaml", [{"name": "a"}], base=None)
    assert load_ablation(without, RECIPES / "lite.yaml").rows == shipped.rows
    with pytest.raises(RecipeError, match="names no base recipe"):
        load_ablation(without)


@pytest.mark.parametrize(
    ("row", "folder"), [("+NDV+GC", "NDV_GC"), ("baseline", "baseline"), ("alpha 0.5", "alpha_0.5")]
)
def test_folder_names(row, folder):
    assert folder_name(row) == folder


def test_a_refined_row_shares_the_models_of_the_row_that_is_not(tmp_path):
    rows = [{"name": "network"}, {"name": "+IO", "parent": "network", "adds": ["IO"], "set": {"refinement.steps": 20}}]
    ablation = load_ablation(write(tmp_path / "mine.yaml", rows))
    plain, refined = ablation.rows
    assert plain.runs == refined.runs
    assert len(ablation.runs) == 1
    assert plain.refinement is None
    assert refined.refinement.steps == 20
    assert refined.ingredients == ("IO",)


def test_a_refinement_that_cannot_be_is_refused(tmp_path):
    rows = [{"name": "+IO", "set": {"refinement": {"steps": 3, "ncc_window_vox": 4}}}]
    with pytest.raises(RecipeError, match=r"refinement\.ncc_window_vox"):
        load_ablation(write(tmp_path / "mine.yaml", rows))
