"""The words of a text, for searching: one rule, which `assets/search.js` follows as well.

A text is normalized (NFKC) and put in lower case, with one kind of sigma. Its words are the runs of letters, marks and
digits. Chinese, Japanese, Korean and Thai are found within a run by overlapping pairs of characters, since they have no
spaces, or words that grow at their ends. A post matches a word of a query if one of its own words begins with it.
"""

from __future__ import annotations

import operator
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator

__all__ = ["IGNORED_RANGES", "MAX_WORD_CHARACTERS", "PAIR_RANGES", "words_of_query", "words_of_text"]

MAX_WORD_CHARACTERS = 64
"""Longer words are cut to this: they are addresses or noise, and nobody types more of them."""

PAIR_RANGES = (
    (0x0E01, 0x0E3A),  # Thai, without the sign for baht
    (0x0E40, 0x0E4E),
    (0x0E50, 0x0E59),
    (0x1100, 0x11FF),  # Hangul, as parts of syllables
    (0x3005, 0x3007),  # signs for repetition, and zero
    (0x3021, 0x302F),
    (0x3031, 0x3035),
    (0x3038, 0x303C),
    (0x3041, 0x3096),  # hiragana
    (0x3099, 0x309A),
    (0x309D, 0x309F),
    (0x30A1, 0x30FA),  # katakana; the middle dot parts words
    (0x30FC, 0x30FF),
    (0x3105, 0x312F),  # bopomofo
    (0x3131, 0x318E),
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97C),
    (0xAC00, 0xD7A3),  # Hangul syllables
    (0xD7B0, 0xD7C6),
    (0xD7CB, 0xD7FB),
    (0xF900, 0xFA6D),
    (0xFA70, 0xFAD9),
    (0x1AFF0, 0x1B16F),  # more kana
    (0x20000, 0x2FFFD),  # the planes for Han
    (0x30000, 0x3FFFD),
)
"""First and last code points of what is searched by pairs, ascending. All of them count as letters, also those that the
Unicode version of a Python or of a browser does not know yet."""

IGNORED_RANGES = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),
    (0x180B, 0x180D),
    (0x180F, 0x180F),
    (0x200C, 0x200D),  # joiners: Persian and Indic words, and emoji
    (0x2060, 0x2060),
    (0x20DD, 0x20E0),  # enclosing marks, like that of keycaps
    (0x20E2, 0x20E4),
    (0xFE00, 0xFE0F),  # variation selectors: most emoji end in one, and it is a mark
    (0xE0100, 0xE01EF),
)
"""First and last code points of what is left out of words without parting them."""

_PIECE_CHARACTERS = 1 << 16
"""Longer texts are taken in pieces of about this size, which bounds the copies that are made."""

_MAX_TOKENS = 40_000
"""So many words as they are written are remembered: about 10 MB."""

_MAX_TOKEN_CHARACTERS = 40
"""Longer ones are addresses or stretches without spaces, which do not come again."""

_SPACE = ord(" ")


def _character_class(ranges: Iterable[tuple[int, int]]) -> str:
    """The ranges as they stand between the brackets of a regular expression."""
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


_pair_stretches = re.compile(f"[{_character_class(PAIR_RANGES)}]+")
_ignored = re.compile(f"[{_character_class(IGNORED_RANGES)}]")


class _Translation(dict[int, int | None]):
    """Code point → itself in words, a space between them, None if it is left out; made on demand."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        target: int | None = _SPACE
        if _ignored.match(character):
            target = None
        elif _pair_stretches.match(character) or unicodedata.category(character)[0] in "LMN":
            target = code
        self[code] = target
        return target


_translation = _Translation({ord("ς"): ord("σ")})


def _separated(text: str) -> str:
    """The words of a text with spaces between them, before pairs are made."""
    return unicodedata.normalize("NFKC", text).lower().translate(_translation)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces that end at spaces, so that each has the same words as within the text."""
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        end = text.find(" ", start + _PIECE_CHARACTERS)
        if end < 0:
            break
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def _words_of_token(token: str) -> Iterable[str]:
    """The words of a text without spaces, perhaps some more than once."""
    separated = _separated(token)
    words: list[str] = []
    if not separated.isascii():
        stretches = _pair_stretches.findall(separated)
        if stretches:
            separated = _pair_stretches.sub(" ", separated)
            for stretch in stretches:
                words.extend(map(operator.add, stretch, stretch[1:]))
                words.append(stretch[-1])
    words.extend(word[:MAX_WORD_CHARACTERS] for word in separated.split())
    return words


class _Tokens(dict[str, Iterable[str]]):
    """The words of short texts without spaces, remembered since most come again."""

    def __missing__(self, token: str) -> Iterable[str]:
        words = _words_of_token(token)
        if len(token) <= _MAX_TOKEN_CHARACTERS:
            if len(self) >= _MAX_TOKENS:
                self.clear()
            self[token] = words = tuple(map(sys.intern, words))
        return words


_tokens = _Tokens()


def words_of_text(text: str) -> set[str]:
    """The words by which a text is found.

    Args:
        text: Any text; lone surrogates part words.

    Returns:
        Its words, each of 1 to `MAX_WORD_CHARACTERS` code points. A stretch in a script of `PAIR_RANGES` gives its
        pairs and its last character, so that each of its characters begins a word.
    """
    if len(text) <= _PIECE_CHARACTERS:
        return set[str]().union(*map(_tokens.__getitem__, text.split()))
    words: set[str] = set()
    for piece in _pieces(text):
        words.update(*map(_tokens.__getitem__, piece.split()))
    return words


def words_of_query(text: str) -> list[str]:
    """The words that a post must have, or have longer ones that begin with them.

    Args:
        text: As somebody typed it.

    Returns:
        The words in their order, each once. A stretch in a script of `PAIR_RANGES` gives its pairs, or itself if it is
        a single character.
    """
    words: dict[str, None] = {}
    for run in _separated(text).split():
        position = 0
        for match in _pair_stretches.finditer(run):
            if match.start() > position:
                words[run[position : match.start()][:MAX_WORD_CHARACTERS]] = None
            stretch = match[0]
            words.update(dict.fromkeys(map(operator.add, stretch, stretch[1:]) if len(stretch) > 1 else stretch))
            position = match.end()
        if position < len(run):
            words[run[position:][:MAX_WORD_CHARACTERS]] = None
    return list(words)
