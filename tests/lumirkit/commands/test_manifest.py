"""`lumirkit manifest check`: tables, JSON and exit status."""

import json
import shutil

import pytest


@pytest.fixture
def run(lumirkit, monkeypatch):
    """Run the command in this process; gives exit status, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        ended = lumirkit("manifest", "check", *arguments)
        return ended.returncode, ended.stdout, ended.stderr

    return call


def test_clean(run, phantom_root, tmp_path):
    status, out, err = run(phantom_root, "--json", tmp_path / "report.json")
    assert status == 0
    assert out.endswith("26 files read, 0 errors, 0 warnings\n")
    assert "reading files 26/26" in err
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["files_read"], report["findings"]) == (26, [])


def test_errors_and_warnings(run, phantom_root, tmp_path):
    root = shutil.copytree(phantom_root, tmp_path / "copy[1]")
    image = root / "imagesTr/LUMIRMRI_0000_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:-9])
    for name in ("LUMIRMRI_3454_0000", "LUMIRMRI_3455_0000"):
        (root / f"labelsVal/{name}.nii.gz").unlink()
    shutil.copy(root / "imagesTr/LUMIRMRI_0001_0000.nii.gz", root / "imagesTr/LUMIRMRI_0009_0000.nii.gz")
    status, out, _ = run(root, "--workers", 2, "--json", tmp_path / "report.json")
    assert status == 1
    assert out.index("errors") < out.index("LUMIRMRI_0000_0000") < out.index("warnings") < out.index("LUMIRMRI_0009")
    assert out.count("no such file") == 1  # one row for both label maps
    assert "labelsVal/LUMIRMRI_3454_0000.nii.gz" in out
    assert out.endswith("copy[1]: 24 files read, 3 errors, 1 warnings\n")
    findings = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["findings"]
    assert [finding["severity"] for finding in findings] == ["error"] * 3 + ["warning"]
    assert set(findings[0]) == {"severity", "file", "found", "expected", "remedy"}


def test_warnings_alone_are_no_failure(run, phantom_root, tmp_path):
    root = shutil.copytree(phantom_root, tmp_path / "copy")
    for config in root.glob("*_evaluation_config.json"):
        config.unlink()
    status, out, _ = run(root)
    assert status == 0
    assert out.endswith("0 errors, 1 warnings\n")


@pytest.mark.parametrize("arguments", [("nowhere",), (".", "--task", "LUMIR25"), (".", "--workers", "two")])
def test_a_wrong_request(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(*arguments)
    assert status == 2
    assert "rror" in err
