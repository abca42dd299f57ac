"""What designs of training are compared by: measured on request beside the leaderboard's numbers, which stay."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from lumirkit.commands.main import app
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.leaderboard import ScoringOptions, evaluate
from lumirkit.eval.statistics.significance import compare_designs, compare_pairs
from lumirkit.eval.tables.column_set import ColumnSet
from lumirkit.eval.tables.columns import COLUMNS, DESIGN_COLUMNS
from lumirkit.eval.tables.paper import PaperTable
from lumirkit.eval.tables.rows import RowCard, ScoredRow

DESIGNS = ScoringOptions(designs=True)
IN_DOMAIN, LANDMARKS = "3455_0000<--3454_0000", "3485_0000<--3484_0000"
VECTOR = (1, -1, 1)
RUNNER = CliRunner()


def change(path, edit, affine=None):
    image = nib.load(path)
    data = np.asarray(image.dataobj).copy()
    nib.save(nib.Nifti1Image(edit(data), image.affine if affine is None else affine), path)


def case_measures(result, case=IN_DOMAIN, split="in-domain"):
    return result.guarded["cases"][split][case]


@pytest.fixture
def translated(ground_truth, fields):
    """The in-domain pair with a moving image that is the fixed one, moved; the field undoes it; 2 x 1 x 3 mm."""
    for folder in ("imagesVal", "labelsVal"):
        fixed = ground_truth / folder / "LUMIRMRI_3455_0000.nii.gz"
        affine = np.diag([2.0, 1.0, 3.0, 1.0])
        change(fixed, lambda data: data, affine)
        data = np.asarray(nib.load(fixed).dataobj)
        moved = nib.Nifti1Image(np.roll(data, VECTOR, (0, 1, 2)), affine)
        nib.save(moved, ground_truth / folder / "LUMIRMRI_3454_0000.nii.gz")
    change(fields / "disp_3455_3454.nii.gz", lambda data: np.broadcast_to(np.float32(VECTOR), data.shape))
    return ground_truth


def test_the_leaderboard_stays_what_it_is(ground_truth, fields):
    plain, more = evaluate(ground_truth, fields), evaluate(ground_truth, fields, options=DESIGNS)
    official, extended = (json.loads(result.to_json()) for result in (plain, more))
    before, after = official.pop("guarded"), extended.pop("guarded")
    assert extended == official
    for split, cases in before["cases"].items():
        for case, measures in cases.items():
            assert {name: after["cases"][split][case][name] for name in measures} == measures
    assert set(case_measures(plain)) < set(case_measures(more))


def test_a_translation_undone(translated, fields):
    found = case_measures(evaluate(translated, fields, options=DESIGNS))
    assert np.isnan(found["images/ncc"])  # both images are 100 in the whole brain
    for measure, expected in {
        "images/ssim": 1,
        "DSC/dice_without_background": 1,
        "DSC/centroid_vox": 0,
        "DSC/centroid_mm": 0,
        "HD95/hd95_without_background_vox": 0,
        "HD95/hd100_without_background_vox": 0,
    }.items():
        assert found[measure] == pytest.approx(expected, abs=1e-6), measure
    assert "field/seconds" not in found


def test_a_translation_left(translated):
    result = evaluate(translated, None, options=DESIGNS)
    found = case_measures(result)
    assert found["DSC/centroid_vox"] == pytest.approx(np.linalg.norm(VECTOR))
    assert found["DSC/centroid_mm"] == pytest.approx(np.linalg.norm(np.multiply(VECTOR, (2, 1, 3))))
    assert found["images/ssim"] < 1
    (labels,) = (scored.labels for case, scored in result.scored if case.name == IN_DOMAIN)
    assert "DSC/centroid_mm" not in labels[0]
    assert labels[206]["DSC/centroid_vox"] == pytest.approx(np.linalg.norm(VECTOR))


def test_label_0_is_not_counted(ground_truth, fields):
    result = evaluate(ground_truth, fields, options=DESIGNS)
    found = case_measures(result)
    (labels,) = (scored.labels for case, scored in result.scored if case.name == IN_DOMAIN)
    for measure, without in {
        "DSC/dice": "DSC/dice_without_background",
        "HD95/hd95_vox": "HD95/hd95_without_background_vox",
        "HD95/hd100_vox": "HD95/hd100_without_background_vox",
    }.items():
        by_label = {label: row[measure] for label, row in labels.items()}
        background = by_label.pop(0)
        assert found[without] == pytest.approx(np.mean(list(by_label.values())))
        assert found[without] != pytest.approx(found[measure])
        assert found[measure] == pytest.approx((background + sum(by_label.values())) / (1 + len(by_label)))


def test_an_emptied_label_is_named_and_its_centroid_is_not_lost(ground_truth, fields):
    change(fields / "disp_3455_3454.nii.gz", lambda data: np.full_like(data, 50))
    guarded = evaluate(ground_truth, fields, options=DESIGNS).guarded["splits"]["in-domain"]
    names = guarded["HD95/hd95_without_background_vox"]["inf"][IN_DOMAIN]
    assert [name.split()[1] for name in names] == ["4", "11", "206"]
    assert guarded["DSC/centroid_vox"]["mean"] > 50
    assert guarded["images/ncc"]["nan"] == {
        IN_DOMAIN: [f"{image} is constant inside the brain" for image in ("the fixed image", "the warped moving image")]
    }


def test_no_label_but_the_background(ground_truth):
    change(ground_truth / "labelsVal" / "LUMIRMRI_3454_0000.nii.gz", np.zeros_like)
    guarded = evaluate(ground_truth, None, options=DESIGNS).guarded["splits"]["in-domain"]
    share_none = ["the fixed and the moving map share no label above 0 of the config"]
    for measure in ("DSC/dice_without_background", "DSC/centroid_mm", "HD95/hd100_without_background_vox"):
        assert guarded[measure]["nan"] == {IN_DOMAIN: share_none}, measure
    assert guarded["DSC/dice"]["count"] == 1


def test_images_are_needed_and_checked_on_request_alone(ground_truth, fields):
    moving = ground_truth / "imagesVal" / "LUMIRMRI_3454_0000.nii.gz"
    change(moving, lambda data: data[:-1])
    assert evaluate(ground_truth, fields).failures == {}
    failures = evaluate(ground_truth, fields, options=DESIGNS).failures
    assert list(failures) == [IN_DOMAIN]
    assert failures[IN_DOMAIN].startswith(f"{moving}: found shape (13, 12, 10); expected (14, 12, 10)")
    assert f"the moving image of {IN_DOMAIN}" in failures[IN_DOMAIN]
    moving.unlink()
    evaluate(ground_truth, fields)
    with pytest.raises(EvaluationError, match="expected the moving image of 3455_0000<--3454_0000"):
        evaluate(ground_truth, fields, options=DESIGNS)


def test_run_times(ground_truth, fields):
    record = fields / "disp_3455_3454.json"
    record.write_text('{"seconds": 12.5}')
    result = evaluate(ground_truth, fields, options=DESIGNS)
    assert case_measures(result)["field/seconds"] == 12.5
    assert "field/seconds" not in case_measures(result, LANDMARKS, "in-domain landmarks")
    assert "field/seconds" not in case_measures(evaluate(ground_truth, None, options=DESIGNS))
    record.write_text("{}")
    evaluate(ground_truth, fields)
    with pytest.raises(EvaluationError, match=r"disp_3455_3454\.json: .*\n  seconds: found no such key"):
        evaluate(ground_truth, fields, options=DESIGNS)


def test_kept_results_know_what_was_asked_for(ground_truth, fields, tmp_path):
    def measured(designs):
        return case_measures(
            evaluate(ground_truth, fields, options=ScoringOptions(cache=tmp_path / "c", designs=designs))
        )

    plain, more = measured(False), measured(True)
    assert set(plain) < set(more)
    assert measured(True).keys() == more.keys()
    (fields / "disp_3455_3454.json").write_text('{"seconds": 3}')
    assert measured(True)["field/seconds"] == 3
    (fields / "disp_3455_3454.json").write_text('{"seconds": 4}')
    assert measured(True)["field/seconds"] == 4
    assert measured(False) == plain


def row(name, dsc=(0.5, 0.6), seconds=(1.0, 2.0), **measures):
    """Cases of two splits; `seconds` of the first ones."""
    cases = {("in-domain", f"c{n}"): {"dice_without_background": value, "dice": 0.9} for n, value in enumerate(dsc)}
    for measure, values in {"seconds": seconds, **measures}.items():
        for key, value in zip(cases, values, strict=False):
            cases[key][measure] = value
    return ScoredRow(RowCard(name=name), cases)


def test_columns_of_designs():
    table = PaperTable.of([row("a"), row("b", dsc=(0.7, 0.8))], column_set=ColumnSet.DESIGNS)
    lines = table.as_text("md").splitlines()
    assert lines[0] == "| | DSC ↑ | time s ↓ |"
    assert lines[3] == "| b | **0.750(0.050)** | 1.50(0.50) |"
    assert lines[-1].startswith("mean(std) over cases (DSC 2, time 2); SSIM and NCC inside the brain; DSC, HD, HD95 ")
    assert r" & DSC $\uparrow$ & time s $\downarrow$" in table.as_text("tex")
    assert [column.heading for column in DESIGN_COLUMNS] == ["SSIM", "NCC", "DSC", "HD", "HD95", "TRE", "time"]
    with pytest.raises(EvaluationError, match=r"a: found no values .* columns SSIM, .* `lumirkit evaluate --designs`"):
        PaperTable.of([ScoredRow(RowCard(name="a"), {("in-domain", "c"): {"dice": 0.5}})], column_set=ColumnSet.DESIGNS)


def test_statistics_over_columns_of_designs():
    rng = np.random.default_rng(0)
    good, bad = (row(name, rng.normal(mean, 0.02, 8)) for name, mean in (("good", 0.7), ("bad", 0.5)))
    table = compare_designs([good, bad], DESIGN_COLUMNS)
    dsc = table[(table["column"] == "dsc") & (table["first"] == "good")].iloc[0]
    assert dsc["p_fdr"] < 0.001
    assert dsc["p_tukey"] < 0.001
    assert set(compare_designs([good, bad])["column"]) == {"dice_in_domain"}


def test_a_case_whose_time_is_known_of_one_row_alone():
    a, b = row("a", (0.5, 0.6, 0.7), seconds=(1, 2, 3)), row("b", (0.4, 0.5, 0.6), seconds=(2, 4))
    table = compare_pairs([a, b], [("a", "b")], DESIGN_COLUMNS)
    time = table[table["column"] == "time"].iloc[0]
    assert (time["cases"], time["difference"], time["effect"]) == (2, -1.5, 1)


@pytest.fixture
def metrics(ground_truth, fields, tmp_path):
    """metrics.json of two rows, scored by the command; times of the second one are known."""
    for image in ("3454_0000", "3455_0000"):
        noise = np.random.default_rng(int(image[:4])).integers(1, 255, (14, 12, 10)).astype(np.uint8)
        change(ground_truth / "imagesVal" / f"LUMIRMRI_{image}.nii.gz", lambda data, noise=noise: noise)
    calm = tmp_path / "calm"
    calm.mkdir()
    for field in fields.iterdir():
        nib.save(nib.Nifti1Image(np.zeros((14, 12, 10, 3), np.float32), np.eye(4)), calm / field.name)
    paths = []
    for folder in (fields, calm):
        for field in folder.glob("*.nii.gz"):
            field.with_name(field.name.replace(".nii.gz", ".json")).write_text('{"seconds": 1.5}')
        out = tmp_path / "scored" / folder.name / "metrics.json"
        arguments = ["evaluate", "--ground-truth", ground_truth, "--fields", folder, "--out", out, "--designs"]
        outcome = RUNNER.invoke(app, [*map(str, arguments), "--tables", str(out.parent)])
        assert outcome.exit_code == 0, outcome.output
        paths.append(out)
    return paths


def test_from_the_fields_to_table_and_statistics(metrics, tmp_path):
    files = [str(path) for path in metrics]
    forms = [argument for form in ("md", "tex", "csv") for argument in ("--out", str(tmp_path / f"t.{form}"))]
    outcome = RUNNER.invoke(app, ["table", *files, *forms, "--columns", "designs"])
    assert outcome.exit_code == 0, outcome.output
    titles = "| | SSIM ↑ | NCC ↑ | DSC ↑ | HD ↓ | HD95 ↓ | TRE mm ↓ | time s ↓ |"
    assert (tmp_path / "t.md").read_text().splitlines()[0] == titles
    table = pd.read_csv(tmp_path / "t.csv").set_index("row")
    pairs = pd.read_csv(metrics[1].parent / "pairs.csv")
    assert table.loc["calm", "tre_mean"] == pytest.approx(pairs["DSC/centroid_mm"].mean())
    assert table.loc["calm", "time_cases"] == 4
    assert table.loc["calm", "ncc_cases"] == 1  # the other images are flat
    arguments = ["statistics", *files, "--out", str(tmp_path / "s"), "--designs", "--columns", "designs"]
    outcome = RUNNER.invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    found = pd.read_csv(tmp_path / "s" / "designs.csv")
    assert set(found["column"]) == {"ssim", "dsc", "hd", "hd95", "tre", "time"}
    assert set(pd.read_csv(tmp_path / "s" / "intervals.csv")["column"]) == {column.key for column in DESIGN_COLUMNS}
    assert RUNNER.invoke(app, ["table", *files, *forms]).exit_code == 0
    assert COLUMNS[0].heading in (tmp_path / "t.md").read_text()


def test_published_rows_have_no_such_columns(metrics, tmp_path):
    arguments = ["table", str(metrics[0]), "--out", str(tmp_path / "t.md"), "--published", "--columns", "designs"]
    assert "--published --columns designs" in str(RUNNER.invoke(app, arguments).exception)
    assert not (tmp_path / "t.md").exists()
