"""The messages that the page on trouble quotes are those of the program."""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "guides" / "troubleshooting.md"
SOURCES = ("lumirkit", "registration", "train", "eval", "submission", "data_manifests")
TELLING = 12
"""Letters of the longest constant part of a message, which make it one that is found by chance nowhere else."""
SAID_TWICE = ("is damaged or truncated", "are NaN or inf; expected finite")  # of images, and of what is warped


def text_of(node: ast.AST) -> str | None:
    """A string of the source, what is filled in as …; None for other nodes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "…" for part in node.values)
    return None


def strings_of(tree: ast.AST) -> Iterator[str]:
    """All strings in their full length, but for docstrings, which are statements of their own."""
    for child in ast.iter_child_nodes(tree):
        is_part = isinstance(tree, ast.Expr | ast.JoinedStr) and isinstance(child, ast.Constant)
        if not is_part and (text := text_of(child)):
            yield text
        yield from strings_of(child)


def strings_of_the_program() -> list[str]:
    files = (file for folder in SOURCES for file in sorted((REPOSITORY / folder).rglob("*.py")))
    return [text for file in files for text in strings_of(ast.parse(file.read_text(encoding="utf-8")))]


def rows_of_the_page() -> list[tuple[str, str]]:
    """The message of each row of the tables, and of which other program it is; empty where it is the kit's own."""
    rows = re.findall(r"^\| (`+) ?(.+?) ?\1(?: \(of ([^)]+)\))? \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [(message, other) for _, message, other in rows]


def constant_parts(message: str) -> list[str]:
    return [part for part in re.split(r"…+", message) if part]


def those_that_say(message: str, strings: Sequence[str]) -> list[str]:
    """The strings that hold all constant parts of a message, in their order."""
    pattern = re.compile(".*".join(map(re.escape, constant_parts(message))), re.DOTALL)
    return [text for text in strings if pattern.search(text)]


STRINGS = strings_of_the_program()
ROWS = rows_of_the_page()
MESSAGES = [message for message, other in ROWS if not other]


def test_the_page_quotes_messages():
    assert 30 <= len(MESSAGES) <= 45
    assert len({message for message, _ in ROWS}) == len(ROWS)


def test_no_row_escapes_the_test():
    lines = re.findall(r"^\|(?!---| message )", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == len(ROWS)


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_a_quoted_message_is_one_of_the_program(message):
    """What the program fills in is … on the page. If a word of the program's message changed, that would be noticed."""
    assert max(map(len, constant_parts(message))) >= TELLING
    saying = those_that_say(message, STRINGS)
    assert len(saying) == (2 if any(part in message for part in SAID_TWICE) else 1), message
    for word in re.findall(r"\w{4,}", message):
        changed = [re.sub(rf"\b{word}\b", "another", text) for text in saying]
        assert not those_that_say(message, changed), word
