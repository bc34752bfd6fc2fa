"""The words of the program: what its messages say, and that they are plain English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.environment import ROOT, SOURCE

LONGEST_MESSAGE = 100
"""Characters of a message, without the values that are inserted."""

SPEAKERS = frozenset({"say", "_say", "_print", "note", "Difference", "beyond_memory", "HelpText"})
"""Functions that take a message, besides the classes of errors."""


@dataclass(frozen=True)
class Message:
    """The literal parts of a message, with `{}` for each inserted value."""

    place: str
    text: str


def literal(node: ast.expr) -> str | None:
    """The text of a literal; None for what is none."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            found = literal(left), literal(right)
            return None if found == (None, None) else "".join(part if part is not None else "{}" for part in found)
        case _:
            return None


def literals(node: ast.expr) -> Iterator[tuple[int, str]]:
    """The literals that a value may be: of a conditional, both."""
    if isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)
    elif (text := literal(node)) is not None:
        yield node.lineno, text


def messages() -> list[Message]:
    """Every message of an error, a note or a difference in the source, hints included."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if not (name.endswith("Error") or name in SPEAKERS):
                continue
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                for line, text in literals(argument):
                    found.append(Message(f"{path.relative_to(SOURCE)}:{line}", text))
    return found


MESSAGES = messages()


def test_messages_are_found() -> None:
    """The list has the messages, hints and notes of the program."""
    texts = {message.text for message in MESSAGES}
    assert len(texts) > 250
    assert any("is not a size" in text for text in texts)


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("'cannot' is one word", r"\bcan not\b"),
        ("the subject comes first", r"^(?:What|Whoever)\b"),
        ("active voice", r"(?i)\bthat is said\b|\bis told\b|\bsaid of it\b"),
    ],
)
def test_messages_are_plain(what: str, pattern: str) -> None:
    """No message has a turn of phrase that readers stumble over."""
    odd = [f"{message.place}: {message.text}" for message in MESSAGES if re.search(pattern, message.text)]
    assert not odd, f"{what}:\n" + "\n".join(odd)


def test_messages_are_short() -> None:
    """A message is at most 100 characters long, without the values that are inserted."""
    long = [
        f"{message.place}: {len(text)}: {text}"
        for message in MESSAGES
        if len(text := message.text.replace("{}", "")) > LONGEST_MESSAGE
    ]
    assert not long, "\n".join(long)


def test_documents_are_plain() -> None:
    """The same turns of phrase stand neither in the documents nor in docstrings, comments and help texts."""
    odd = []
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *SOURCE.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"(?i)\bcan not\b|^\s*(?:\"\"\"|# |- )?(?:What|Whoever) [a-z]+ (?!\w+\?)", line):
                odd.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not odd, "\n".join(odd)
