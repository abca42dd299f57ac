"""One version: what is installed, cited, and told of in the changelog."""

import re
import tomllib
from pathlib import Path

import yaml

import lumirkit

REPOSITORY = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]


def test_what_is_installed_has_the_version_of_its_files():
    assert lumirkit.__version__ == VERSION


def test_the_version_is_the_one_that_is_cited_and_the_newest_of_the_changelog():
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    number, date = re.search(
        r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.M
    ).groups()
    assert (number, date) == (VERSION, str(cited["date-released"]))
    assert cited["version"] == VERSION
