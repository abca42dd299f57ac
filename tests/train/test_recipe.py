from pathlib import Path

import pytest

from lumirkit import train
from lumirkit.train.recipe import RecipeError, load_recipe, recipe_yaml

RECIPES = sorted(
    path for path in (Path(train.__file__).parent / "recipes").glob("*.yaml") if not path.stem.startswith("ablation_")
)
LITE = next(path for path in RECIPES if path.stem == "lite")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_survive_a_round_trip(path, tmp_path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    (tmp_path / "again.yaml").write_text(recipe_yaml(recipe))
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_overrides():
    recipe = load_recipe(LITE, ["seed=7", "stages.0.epochs=3", "stages.0.losses.ncc_window_vox=9"])
    assert (recipe.seed, recipe.stages[0].epochs, recipe.stages[0].losses.ncc_window_vox) == (7, 3, 9)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.0.epoch=3", r"stages\.0\.epoch: found a key that nothing reads"),
        ("stages.0.epochs=0", r"stages\.0\.epochs: found 0; expected more than 0"),
        ("stages.0.learning_rate=fast", r"stages\.0\.learning_rate"),
        ("stages.0.losses.ncc_window_vox=8", "found 8; expected an odd window"),
        ("network.input_transform=mid", r"network\.input_transform"),
        ("stages.0.augmentation.noise_std=[0, .inf]", r"noise_std"),
        ("stages.0.learning_rate=.nan", r"learning_rate"),
        ("network.update_channels=[8, 8]", "expected one entry a level"),
        ("network.architecture=unet", r"network: .*found 'unet'; expected one of sitreg, voxelmorph"),
        ("network.architecture=voxelmorph", r"network\.feature_channels: found a key that nothing reads"),
        ("stages.9.epochs=1", "does not fit"),
        ("seed", "expected key=value"),
    ],
)
def test_impossible_values_are_refused_with_their_path(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(LITE, [override])


def test_only_the_misspelt_key_is_named():
    with pytest.raises(RecipeError, match=r"stages\.0\.losses\.mse_wight: found a key that nothing reads") as refused:
        load_recipe(LITE, ["stages.*.losses.mse_wight=1"])
    assert "at least" not in str(refused.value)  # the list of stages is not empty


def test_unreadable_recipes(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("name: [")
    with pytest.raises(RecipeError, match="not a readable YAML"):
        load_recipe(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    with pytest.raises(RecipeError, match="not valid"):
        load_recipe(tmp_path / "list.yaml")


def test_a_recipe_that_extends_another_one_says_only_what_differs(tmp_path):
    (tmp_path / "own.yaml").write_text(
        f"extends: {LITE}\nname: own\nnetwork: {{input_transform: intensity}}\n"
        "set: {stages.*.batch_size: 2, stages.1.losses.dice_weight: 0}\n"
    )
    (tmp_path / "heir.yaml").write_text("extends: own.yaml\nname: heir\nset: {stages.0.epochs: 1}\n")
    lite, heir = load_recipe(LITE), load_recipe(tmp_path / "heir.yaml", ["seed=4"])
    assert (heir.name, heir.seed, heir.network.input_transform) == ("heir", 4, "intensity")
    assert heir.network.feature_channels == lite.network.feature_channels
    assert [stage.batch_size for stage in heir.stages] == [2, 2]
    assert (heir.stages[0].epochs, heir.stages[1].epochs) == (1, lite.stages[1].epochs)


def test_recipes_that_extend_each_other_in_a_circle(tmp_path):
    for name, other in (("one", "two"), ("two", "three"), ("three", "one")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {other}.yaml\n")
    with pytest.raises(RecipeError, match=r"one\.yaml: extends itself"):
        load_recipe(tmp_path / "one.yaml")


def test_a_network_of_another_architecture_replaces_that_of_the_recipe_extended(tmp_path):
    (tmp_path / "unet.yaml").write_text(f"extends: {LITE}\nnetwork: {{architecture: voxelmorph, resolution_vox: 2}}\n")
    (tmp_path / "narrow.yaml").write_text("extends: unet.yaml\nnetwork: {head_channels: [8]}\n")
    narrow = load_recipe(tmp_path / "narrow.yaml").network
    assert (narrow.architecture, narrow.resolution_vox, narrow.head_channels) == ("voxelmorph", 2, (8,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("extends: own.yaml\n", "extends itself"),
        ("extends: none.yaml\n", r"none\.yaml: no such recipe"),
        (
            f"extends: {LITE}\nset: {{stages.7.epochs: 1}}\n",
            r"own\.yaml: .* stages\.7\.epochs does not fit",
        ),
        (f"extends: {LITE}\nset: {{stages.0.epoch: 1}}\n", r"stages\.0\.epoch: found a key that nothing reads"),
    ],
)
def test_recipes_that_extend_nothing(tmp_path, content, message):
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "own.yaml")
