"""The notebooks of the pages: run from the first cell to the last, in an empty folder."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def test_there_is_a_notebook():
    assert [path.name for path in NOTEBOOKS] == ["two_brains.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_nothing_of_the_machine_that_it_was_run_on(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in cells if cell.outputs or cell.execution_count] == []
    assert not re.search(r"(/home|/root|/tmp|/work|/Users)/", path.read_text(encoding="utf-8"))


def test_two_brains(tmp_path):
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    said = "".join(output.text for output in outputs if output.get("name") == "stdout")
    before, after = map(float, re.search(r"mean Dice before (\S+), after (\S+)", said).groups())
    assert after > before + 0.05
    assert float(re.search(r"smallest determinant (\S+)", said)[1]) > 0
    assert list(tmp_path.iterdir()) == []
