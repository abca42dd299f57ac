"""The table of the paper in its three forms, and metrics files that do not belong together."""

import json
import re
import shutil
from io import StringIO

import numpy as np
import pandas as pd
import pytest

from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.leaderboard import evaluate
from lumirkit.eval.tables.columns import COLUMNS
from lumirkit.eval.tables.digits import two_digits
from lumirkit.eval.tables.paper import PaperTable, escape_tex
from lumirkit.eval.tables.published import published_rows
from lumirkit.eval.tables.rows import CARD_NAME, RowCard, ScoredRow, read_rows


def row(name, dice=(0.7, 0.8), tre=(2.0, 3.0), ndv=(0.001, 0.002), ingredients=(), is_reference=False):
    cases = {("in-domain", f"d{n}"): {"dice": value, "hd95_vox": 3.0} for n, value in enumerate(dice)}
    cases |= {("in-domain landmarks", f"t{n}"): {"tre_vox": value} for n, value in enumerate(tre)}
    for key, value in zip(cases, ndv, strict=False):
        cases[key]["ndv_percent"] = value
    return ScoredRow(RowCard(name=name, ingredients=ingredients, is_reference=is_reference), cases)


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_markdown():
    table = PaperTable.of(
        [
            row("zero", dice=(0.9, 0.9), is_reference=True),
            row("plain", tre=(1.0, 2.0)),
            row("+A", dice=(0.8, 0.9), ingredients=("A",)),
        ]
    )
    lines = table.as_text("md").splitlines()
    assert cells_of(lines[0]) == ["", "A", "Dice in-domain % ↑", "TRE ↓", "HdDist95 ↓", "NDV % ↓"]
    assert cells_of(lines[2]) == ["*zero*", "", "90.0(0.0)", "2.50(0.50)", "3.00(0.00)", "0.0015(5.0e-4)"]
    assert cells_of(lines[3]) == ["plain", "", "75.0(5.0)", "**1.50(0.50)**", "3.00(0.00)", "0.0015(5.0e-4)"]
    assert cells_of(lines[4]) == ["+A", "✓", "**85.0(5.0)**", "2.50(0.50)", "3.00(0.00)", "0.0015(5.0e-4)"]


def test_latex():
    text = PaperTable.of([row("50 % & more_", dice=(0.9, 0.9)), row("b", ingredients=("A",))]).as_text("tex")
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{lcrrrr}"
    assert sum(line in (r"\toprule", r"\midrule", r"\bottomrule") for line in body) == 3
    assert r"50 \% \& more\_ &  & \textbf{90.0(0.0)} & 2.50(0.50)" in text
    assert r"b & $\checkmark$ & 75.0(5.0)" in text
    assert {line.count(" & ") for line in body if line.endswith(r"\\")} == {5}


def test_csv_has_the_numbers():
    table = pd.read_csv(StringIO(PaperTable.of([row("a"), row("b", ingredients=("A",))]).as_text("csv")))
    assert table["A"].tolist() == [False, True]
    assert table["dice_in_domain_mean"].tolist() == pytest.approx([75, 75])
    assert table["dice_in_domain_std"].tolist() == pytest.approx([5, 5])
    assert table["ndv_cases"].tolist() == [2, 2]


def test_lost_cases_and_single_cases_are_said():
    table = PaperTable.of([row("a", dice=(0.7, np.nan), tre=(2.0,)), row("b", tre=(3.0,))])
    text = table.as_text("md")
    assert "| 70.0 | **2.00** |" in text
    assert "a, Dice in-domain: 1 of 2 cases are inf or NaN and not in the mean" in text
    assert "TRE: one case, so no standard deviation" in text
    lost = PaperTable.of([row("a", tre=(np.nan, np.nan))]).as_text("md")
    assert cells_of(lost.splitlines()[2])[2] == "–"
    assert "a, TRE: 2 of 2 cases" in lost


def test_a_pair_in_two_splits_counts_once_in_ndv():
    cases = {(split, "same"): {"ndv_percent": 1.0} for split in ("in-domain", "in-domain landmarks")}
    (ndv,) = [column for column in COLUMNS if column.key == "ndv"]
    assert ndv.values(ScoredRow(RowCard(name="a"), cases)).tolist() == [1.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.052, "0.052"), (0.0022, "0.0022"), (3.2e-4, "3.2e-4"), (0, "0"), (1.24e-11, "1.2e-11"), (0.1, "0.1")],
)
def test_digits_of_ndv(value, text):
    assert two_digits(value) == text


def test_published_rows_print_as_they_were_printed():
    table = PaperTable.of([row("mine", ingredients=("MIND",))], published_rows())
    text = table.as_text("md")
    line = next(line for line in text.splitlines() if "+ENS (published)" in line)
    numbers = ["78.3(1.7)", "2.24(0.27)", "2.95(0.34)", "0.0015(3.3e-4)"]
    assert cells_of(line) == ["*+ENS (published)*", *["✓"] * 5, *numbers]


def test_published_rows_have_no_number_of_cases():
    text = PaperTable.of([row("mine")], published_rows()).as_text("csv")
    table = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False).set_index("row")
    assert table.loc["mine", "dice_in_domain_cases"] == "2"
    published = table.loc["+ENS (published)"]
    assert (published["dice_in_domain_mean"], published["dice_in_domain_std"]) == ("78.3", "1.7")
    assert published["dice_in_domain_cases"] == published["ndv_cases"] == ""


def test_tables_say_what_the_leaderboard_says(ground_truth, fields, tmp_path):
    result = evaluate(ground_truth, fields)
    (tmp_path / "metrics.json").write_text(result.to_json())
    line = PaperTable.of(read_rows([tmp_path / "metrics.json"])).rows[0]
    official = result.aggregates
    for key, name, scale in (
        ("dice_in_domain", "ID_dice", 100),
        ("dice_multi_modal", "MM_dice", 100),
        ("tre", "TRE_lm", 1),
        ("hd95", "HD95", 1),
        ("ndv", "Non-diffeomorphic Volumes", 1),
    ):
        cell = line.cells[key]
        assert cell.mean == pytest.approx(scale * official[name]["mean"]), key
        assert cell.std == pytest.approx(scale * official[name]["std"]), key


@pytest.fixture
def metrics(ground_truth, fields, tmp_path):
    path = tmp_path / "first" / "metrics.json"
    path.parent.mkdir()
    path.write_text(evaluate(ground_truth, fields).to_json())
    return path


def test_names_of_rows(metrics, tmp_path):
    assert read_rows([metrics])[0].name == "first"
    assert [m.name for m in read_rows([metrics, tmp_path / f"again={metrics}"])] != ["first", "first"]
    (metrics.parent / CARD_NAME).write_text(RowCard(name="+X", ingredients=("X",)).model_dump_json())
    assert read_rows([metrics])[0].card == RowCard(name="+X", ingredients=("X",))


def test_metrics_that_cannot_be_used(metrics, tmp_path):
    with pytest.raises(EvaluationError, match="its row is called first, as that of"):
        read_rows([metrics, metrics])
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_rows([tmp_path / "none.json"])
    content = json.loads(metrics.read_text())
    official = tmp_path / "official.json"
    official.write_text(json.dumps({key: value for key, value in content.items() if key != "guarded"}))
    with pytest.raises(EvaluationError, match=r"official\.json: not a metrics\.json .* 'guarded'"):
        read_rows([official])
    other = tmp_path / "other" / "metrics.json"
    other.parent.mkdir()
    content["guarded"]["cases"].pop("multi-modal")
    other.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match=r"1 only in first: 4024_0000<--4033_0001 \(multi-modal\)"):
        read_rows([metrics, other])
    content["guarded"]["failed"] = {"3455_0000<--3454_0000": "damaged"}
    other.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match="1 cases could not be scored"):
        read_rows([other])
    (metrics.parent / CARD_NAME).write_text("{}")
    with pytest.raises(EvaluationError, match=r"not the card of a row; correct this:\n  name: found no such key"):
        read_rows([metrics])


def test_the_ending_names_the_form(tmp_path):
    table = PaperTable.of([row("a")])
    for form in ("md", "tex", "csv"):
        table.write(tmp_path / f"table.{form}")
        assert "a" in (tmp_path / f"table.{form}").read_text()
    with pytest.raises(EvaluationError, match=r"found the ending '\.docx'; expected \.md, \.tex or \.csv"):
        table.write(tmp_path / "table.docx")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_latex_compiles(tmp_path):
    import subprocess

    table = PaperTable.of([row("zero", is_reference=True), row("a_%", ingredients=("A",)), row("b")])
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,amssymb}\\begin{document}"
        + table.as_text("tex")
        + "\\end{document}"
    )
    subprocess.run(["pdflatex", "-interaction=batchmode", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True)


def test_every_special_character_of_tex_is_escaped():
    assert re.sub(r"\\([&%$#_{}])|\\text\w+\{\}", "", escape_tex("\\~^&%$#_{}a")) == "a"
