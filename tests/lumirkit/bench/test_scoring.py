"""The scoring benchmark on a small pair."""

import json

from lumirkit.bench.scoring import bench_scoring


def test_times_every_stage_and_writes_both_files(tmp_path):
    bench = bench_scoring(tmp_path, repeats=2, shape=(56, 60, 58))
    assert bench.labels == 133
    assert bench.ndv_percent > 0  # the field folds
    assert bench.first_pair_s > 0
    assert bench.peak_memory_gib > 0
    whole = bench.timings["whole pair, cold files"].wall_s
    assert whole[1] <= whole[0] <= whole[2]
    content = json.loads((tmp_path / "scoring.json").read_text(encoding="utf-8"))
    assert list(content["timings"]) == list(bench.timings)
    text = (tmp_path / "scoring.md").read_text(encoding="utf-8")
    assert "56 x 60 x 58, 133 labels" in text
    assert "| HD95, HD100, surface Dice | " in text
    assert bench.machine in text
