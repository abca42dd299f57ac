"""Which subjects are for validation."""

from pathlib import Path

import pytest

from lumirkit.base.errors import RequestError
from lumirkit.data_manifests.split import Part
from lumirkit.prepare.parts import ValidationRule
from lumirkit.prepare.sources import Contrast, Scan, Subject


def subjects(*names, part=None):
    return [Subject(name, (Scan(Contrast.T1W, Path(name)),), part) for name in names]


def in_validation(rule, found):
    parts = rule.parts(found, {each.name: number for number, each in enumerate(found)})
    return {name for name, part in parts.items() if part is Part.VALIDATION}


def test_a_share_is_about_so_many_and_a_newcomer_moves_no_other():
    everybody = subjects(*(f"sub-{number:04d}" for number in range(1000)))
    rule = ValidationRule(share=0.2)
    chosen = in_validation(rule, everybody)
    assert 160 < len(chosen) < 240
    some = everybody[::3]
    assert in_validation(rule, some) == chosen & {each.name for each in some}
    assert chosen < in_validation(ValidationRule(share=0.3), everybody)


def test_sessions_of_a_person_stay_together():
    found = subjects(*(f"sub-{number}_ses-{session}" for number in range(60) for session in "ab"))
    chosen = in_validation(ValidationRule(share=0.3), found)
    assert {name[:-1] + "a" for name in chosen} | {name[:-1] + "b" for name in chosen} == chosen
    assert 0 < len(chosen) < 120


def test_what_a_table_says_counts_first():
    found = subjects("a", "b", part=Part.VALIDATION) + subjects("c", "d")
    assert in_validation(ValidationRule(), found) == {"a", "b"}
    assert in_validation(ValidationRule(last=1), found) == {"a", "b", "d"}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"last": 2, "share": 0.2}, "--validation 2 with --validation-share 0.2"),
        ({"share": 1.0}, "--validation-share 1: expected 0"),
        ({"share": -0.1}, "--validation-share -0.1: expected 0"),
        ({"share": float("nan")}, "--validation-share nan: expected 0"),
    ],
)
def test_a_rule_that_is_none_is_refused(rule, said):
    with pytest.raises(RequestError, match=said):
        ValidationRule(**rule)


def test_one_alone_and_more_than_there_are_is_refused():
    for last, said in ((1, "found 1 subject"), (3, "found 2 subjects for it")):
        with pytest.raises(RequestError, match=said):
            in_validation(ValidationRule(last=last), subjects("a", "b"))
