"""The messages that the page on trouble quotes are those of the program."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "guides" / "troubleshooting.md"
SOURCES = ("lumirkit", "registration", "train", "eval", "submission", "data_manifests")


def text_of(node: ast.AST) -> str | None:
    """A string of the source, what is filled in as …; None for other nodes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "…" for part in node.values)
    return None


def strings_of_the_program() -> list[str]:
    trees = [ast.parse(file.read_text()) for folder in SOURCES for file in (REPOSITORY / folder).rglob("*.py")]
    return [text for tree in trees for node in ast.walk(tree) if (text := text_of(node))]


def quoted_messages() -> list[str]:
    """The first column of the tables, but for messages of Python."""
    rows = re.findall(r"^\| (`+) ?(.+?) ?\1 \| ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [message for _, message in rows]


STRINGS = [re.sub(r"…+", "…", text) for text in strings_of_the_program()]
MESSAGES = quoted_messages()


def test_the_page_quotes_messages():
    assert len(MESSAGES) >= 30


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_a_quoted_message_is_one_of_the_program(message):
    """What the program fills in is … on the page; a filled-in part may itself be made of other strings."""
    pieces = [piece for piece in re.split(r"…+", message) if len(piece) > 3]
    assert any(all(piece in text for piece in pieces) for text in STRINGS), message
