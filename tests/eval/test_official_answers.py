"""Agreement with the answers of the organisers' evaluation container."""

import json
import math
import os
from pathlib import Path

import pytest

from lumirkit.base.engine import Processes
from lumirkit.eval.leaderboard import evaluate

BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2].parent / "shared" / "fixtures" / "scoring"
FIXTURES = Path(os.environ.get("LUMIRKIT_SCORING_FIXTURES", BESIDE_THE_REPOSITORY))

pytestmark = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason=f"no official answers in {FIXTURES}; set LUMIRKIT_SCORING_FIXTURES to their folder"
)


def leaves(content, path=()):
    """Every value with the keys that lead to it, in order."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from leaves(value, (*path, key))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from leaves(value, (*path, index))
    else:
        yield path, content


def same(found, expected):
    if isinstance(expected, str):
        return found == expected
    if math.isfinite(expected):
        return abs(found - expected) <= 1e-9
    return repr(found) == repr(expected)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("folder", ["plain", "lossy"])
def test_every_number_agrees(folder, workers):
    result = evaluate(FIXTURES / folder / "ground-truth", FIXTURES / folder / "submission", Processes(workers))
    content = json.loads(result.to_json())
    assert content.pop("guarded")["complete"]
    found = list(leaves(content))
    expected = list(leaves(json.loads((FIXTURES / folder / "metrics.json").read_text(encoding="utf-8"))))
    assert [path for path, _ in found] == [path for path, _ in expected]
    pairs = zip(found, expected, strict=True)
    assert [(path, value, wanted) for (path, value), (_, wanted) in pairs if not same(value, wanted)] == []
