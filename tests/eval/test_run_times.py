"""Run times as the makers of fields write them."""

import pytest

from lumirkit.data_manifests.dataset import ManifestError
from lumirkit.eval.baselines.record import record_path
from lumirkit.eval.run_times import read_run_times
from lumirkit.submission.status import STATUS_NAME, PairState, PairStatus, RunStatus

FIELDS = [f"disp_345{n}_3454.nii.gz" for n in range(5, 9)]


def account(path, states, seconds=2.5, at=None):
    """The account of a run as `lumirkit predict` writes it, of the first fields."""
    pairs = [
        PairStatus(case_name="any", field=field, state=state, seconds=seconds)
        for field, state in zip(FIELDS, states, strict=False)
    ]
    RunStatus(members=1, weights_sha256="", pairs_asked_for=len(pairs), pairs=pairs).write(path)
    if at is not None:
        path.write_text(
            RunStatus.model_validate_json(path.read_text()).model_copy(update={"updated": at}).model_dump_json()
        )


def test_of_a_run(tmp_path):
    account(tmp_path / f"{STATUS_NAME}.json", PairState)
    assert [state.name for state in PairState] == ["WRITTEN", "KEPT", "ZERO", "FAILED"]
    assert read_run_times(tmp_path, FIELDS) == {FIELDS[0]: 2.5, FIELDS[1]: 2.5}
    assert read_run_times(tmp_path, FIELDS[1:]) == {FIELDS[1]: 2.5}


def test_a_kept_field_whose_time_is_lost_has_none(tmp_path):
    account(tmp_path / f"{STATUS_NAME}.json", [PairState.KEPT], seconds=0)
    assert read_run_times(tmp_path, FIELDS) == {}


def test_of_shards_the_newest(tmp_path):
    made = [PairState.WRITTEN]
    account(tmp_path / f"{STATUS_NAME}_1of2.json", made, 1, "2025-01-02T00:00:00+00:00")
    account(tmp_path / f"{STATUS_NAME}_2of2.json", made * 2, 2, "2025-01-01T00:00:00+00:00")
    assert read_run_times(tmp_path, FIELDS) == {FIELDS[0]: 1, FIELDS[1]: 2}


def test_a_record_beside_the_field_goes_first(tmp_path):
    account(tmp_path / f"{STATUS_NAME}.json", [PairState.WRITTEN])
    record_path(tmp_path / FIELDS[0]).write_text('{"method": "syn", "seconds": 0.0}')
    assert read_run_times(tmp_path, FIELDS) == {FIELDS[0]: 0}


def test_nothing_is_said(tmp_path):
    assert read_run_times(tmp_path, FIELDS) == {}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (f"{STATUS_NAME}.json", '{"updated": ""', "found no JSON"),
        (f"{STATUS_NAME}.json", "{}", "pairs: found no such key"),
        ("disp_3455_3454.json", '{"method": "syn"}', "seconds: found no such key"),
        ("disp_3455_3454.json", '{"seconds": -1}', "seconds: found -1; expected at least 0"),
        ("disp_3455_3454.json", '{"seconds": NaN}', "seconds: found NaN; expected a finite number"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, text, problem):
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError, match=rf"{name}: .*\n(.*\n)*  {problem}"):
        read_run_times(tmp_path, FIELDS)
