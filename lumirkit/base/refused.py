"""What pydantic refused of a file, in plain words: key, found, expected."""

from __future__ import annotations

import json

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_PLAIN = {
    "missing": "found no such key; it is needed",
    "extra_forbidden": "found a key that nothing reads; correct its name, or remove it",
    "json_invalid": "found no JSON ({error})",
    "value_error": "{error}",
    "too_short": "found {actual_length} items; expected at least {min_length}",
    "greater_than": "found {found}; expected more than {gt:g}",
    "greater_than_equal": "found {found}; expected at least {ge:g}",
    "less_than": "found {found}; expected less than {lt:g}",
    "less_than_equal": "found {found}; expected at most {le:g}",
    "literal_error": "found {found}; expected {expected}",
    "enum": "found {found}; expected {expected}",
    "finite_number": "found {found}; expected a finite number",
    **dict.fromkeys(("float_type", "float_parsing"), "found {found}; expected a number"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "found {found}; expected a whole number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "found {found}; expected true or false"),
    **dict.fromkeys(("string_type", "path_type"), "found {found}; expected a text"),
    **dict.fromkeys(("list_type", "tuple_type"), "found {found}; expected a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type"), "found {found}; expected keys with values"),
}
"""By pydantic's name of the problem; what is filled in are the value and what pydantic tells beside it."""
_OTHERWISE = "found {found}: {message}"
_MOST_SHOWN, _LONGEST_VALUE = 10, 60


def list_problems(error: ValidationError) -> str:
    """List the keys that were refused, one a line, and the first few only of many that are wrong in the same way.

    A list that is too short only because an item was refused is not a problem of its own.
    """
    errors = error.errors()
    refused = [e for e in errors if e["type"] != "too_short" or not any(_within(other, e) for other in errors)]
    lines = [f"  {_problem(e)}" for e in refused[:_MOST_SHOWN]]
    more = len(refused) - len(lines)
    return "\n".join([*lines, f"  and {more} more"] if more else lines)


def _problem(error: ErrorDetails) -> str:
    plain = _PLAIN.get(error["type"], _OTHERWISE)
    said = plain.format(found=_shown(error["input"]), message=error["msg"], **error.get("ctx", {}))
    key = ".".join(map(str, error["loc"]))
    return f"{key}: {said}" if key else said


def _shown(value: object) -> str:
    """A value as the file has it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _within(inner: ErrorDetails, outer: ErrorDetails) -> bool:
    """Whether an error is one of the items of another's list."""
    return inner is not outer and inner["loc"][: len(outer["loc"])] == outer["loc"]
