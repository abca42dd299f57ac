from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumirkit.base.refused import list_problems


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", max_length=3)
    size: int = Field(default=1, gt=0, lt=9)
    share: float = Field(default=0, ge=0, le=1, allow_inf_nan=False)
    is_on: bool = False
    kind: Literal["a", "b"] = "a"
    file: Path = Path()
    numbers: list[int] = []


class File(BaseModel):
    items: tuple[Item, ...] = Field(min_length=1)


def problems_of(content):
    with pytest.raises(ValidationError) as refused:
        File.model_validate_json(content)
    return list_problems(refused.value).splitlines()


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ('{"size": 0}', "items.0.size: found 0; expected more than 0"),
        ('{"size": 9}', "items.0.size: found 9; expected less than 9"),
        ('{"size": 1.5}', "items.0.size: found 1.5; expected a whole number"),
        ('{"size": "large"}', 'items.0.size: found "large"; expected a whole number'),
        ('{"share": -0.5}', "items.0.share: found -0.5; expected at least 0"),
        ('{"share": 1.5}', "items.0.share: found 1.5; expected at most 1"),
        ('{"share": NaN}', "items.0.share: found NaN; expected a finite number"),
        ('{"share": "half"}', 'items.0.share: found "half"; expected a number'),
        ('{"name": 1}', "items.0.name: found 1; expected a text"),
        ('{"file": 1}', "items.0.file: found 1; expected a text"),
        ('{"is_on": "perhaps"}', 'items.0.is_on: found "perhaps"; expected true or false'),
        ('{"kind": null}', "items.0.kind: found null; expected 'a' or 'b'"),
        ('{"numbers": {}}', "items.0.numbers: found {}; expected a list"),
        ('{"sise": 1}', "items.0.sise: found a key that nothing reads; correct its name, or remove it"),
        ("3", "items.0: found 3; expected keys with values"),
    ],
)
def test_key_found_and_expected_are_said(item, says):
    assert problems_of(f'{{"items": [{item}]}}') == [f"  {says}"]


def test_the_whole_file_needs_no_key():
    (line,) = problems_of('{"items": [')
    assert line.startswith("  found no JSON (EOF")
    assert problems_of("[]") == ["  found []; expected keys with values"]
    assert problems_of("{}") == ["  items: found no such key; it is needed"]
    assert problems_of('{"items": []}') == ["  items: found 0 items; expected at least 1"]


def test_what_has_no_plain_words_here_keeps_those_of_pydantic():
    (line,) = problems_of('{"items": [{"name": "long"}]}')
    assert line.startswith('  items.0.name: found "long": ')


def test_long_values_and_long_lists_are_cut():
    (line,) = problems_of(f'{{"items": [{{"size": "{"x" * 500}"}}]}}')
    assert len(line) < 150
    lines = problems_of(f'{{"items": [{", ".join(["3"] * 500)}]}}')
    assert len(lines) == 11
    assert lines[-1] == "  and 490 more"
