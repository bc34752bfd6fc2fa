"""The index for searching: files that a page loads as scripts, since pages from a disk may load nothing else.

`WordIndex` takes posts in any order. When many have come, it writes what it has as a sorted run; at the end it merges
the runs into shards, of which a search loads those it needs. A post is known by its rank: 0 is the oldest of all.

    search/words-00001.js   skyexportSearch.words(1,"apple AC apply F …");         words, each with its ranks
    search/posts-00001.js   skyexportSearch.posts(1,{"paths":[…],"posts":[…]});    what results show, by rank
    search/table.js         var skyexportTable={…};                                which file has what

Ranks are ascending numbers, each written as the difference to the one before it (the first to 0), in digits of five
bits from the highest to the lowest: `DIGITS` from 32 on stand for digits that others follow. A word with very many
ranks goes on in the next shard, where its ranks begin anew.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import operator
import struct
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson

from skyexport.pages.search_words import IGNORED_RANGES, MAX_WORD_CHARACTERS, PAIR_RANGES, words_of_text

__all__ = ["DIGITS", "Document", "WordIndex", "documents_js", "documents_of", "postings_of", "table_js", "table_of"]

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""Digits of ranks: the first half ends a number, the second half goes on."""

SHARD_BYTES = 1 << 16
"""A shard takes no more words when it has this size: some words of a query cost one such file each."""

_AUTHOR_MARK = "@"
"""Begins the word by which the posts of an author are found: no word of a text has this character."""

_BLOCK_POSTINGS = 500_000
"""So many pairs of word and post are a run: 4 MB, and what few posts too many words have."""

_BLOCK_WORDS = 50_000
"""So many different words are one, too: at most 20 MB."""

_MAX_RUNS = 64
"""More runs are not open at once: each is a file with its buffer."""

_CHUNK_RANKS = 4096
"""So many ranks are written at a time; a shard is larger than `SHARD_BYTES` by no more than these."""

_SORTED_RANKS = 1 << 16
"""More ranks that did not come in order are sorted as marks in an array with a byte for each post."""

_MAX_CODES = 1 << 14
"""So many written differences are remembered."""

_RECORD = struct.Struct("<HI")
"""Before a word in a run: how many bytes the word has, and its ranks."""


class Document(NamedTuple):
    """A post, as the results of a search show it."""

    path: str
    """Of the post's page from the folder of the export, with `/`, not yet escaped for an address."""
    anchor: str
    time: str
    """RFC 3339 in UTC; empty if unknown."""
    author: int
    """Its place in the list of authors, from 0."""
    text: str


class _Codes(dict[int, str]):
    """How a number is written with `DIGITS`."""

    def __missing__(self, number: int) -> str:
        code = DIGITS[number & 31]
        rest = number >> 5
        while rest:
            code = DIGITS[32 | rest & 31] + code
            rest >>= 5
        if len(self) < _MAX_CODES:
            self[number] = code
        return code


_codes = _Codes()


class WordIndex:
    """Which posts have which words, in bounded memory for any number of posts."""

    def __init__(
        self,
        folder: Path,
        *,
        by_author: bool = True,
        block_postings: int = _BLOCK_POSTINGS,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """Begin without posts.

        Args:
            folder: An empty folder for nobody else; `close` removes what was written there.
            by_author: Whether authors can be chosen: the table lists more than one author.
            block_postings: How many pairs of word and post are a run.
            shard_bytes: The size from which on a shard takes no more words.
        """
        self._folder = folder
        self._by_author = by_author
        self._block_postings = block_postings
        self._shard_bytes = shard_bytes
        self._block: defaultdict[str, list[int]] = defaultdict(list)
        self._postings = 0
        self._posts = 0
        self._runs: list[Path] = []
        self._runs_made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget all posts, and remove the runs.

        Raises:
            OSError: A run could not be removed.
        """
        self._block.clear()
        while self._runs:
            self._runs.pop().unlink(missing_ok=True)

    def add(self, rank: int, author: int, text: str) -> None:
        """Add a post.

        Args:
            rank: Its place in the order of all posts, below 2**32; each comes once.
            author: The place of its author in the list of authors.
            text: What can be found; without lone surrogates, or they part words.

        Raises:
            OSError: A run could not be written.
        """
        words = words_of_text(text)
        if self._by_author:
            words.add(f"{_AUTHOR_MARK}{author}")
        block = self._block
        for word in words:
            block[word].append(rank)
        self._postings += len(words)
        if rank >= self._posts:
            self._posts = rank + 1
        if self._postings >= self._block_postings or len(block) >= _BLOCK_WORDS:
            self._write_block()

    def shards(self) -> Iterator[tuple[str, bytes]]:
        """Make the shards, once, after the last post.

        Yields:
            (first word, content of the file) in the order of words by code points; the first is search/words-00001.js.

        Raises:
            OSError: A run could not be written or read.
        """
        self._write_block()
        while len(self._runs) > _MAX_RUNS:
            merged, self._runs = self._runs[:_MAX_RUNS], self._runs[_MAX_RUNS:]
            try:
                self._write_run(_merged(merged))
            finally:
                for path in merged:
                    path.unlink()
        numbers = itertools.count(1)
        first = ""
        parts: list[str] = []
        size = 0
        for word_utf8, records in itertools.groupby(_merged(self._runs), key=operator.itemgetter(0)):
            word = word_utf8.decode()
            ranks = iter(_ascending([record[1] for record in records], self._posts))
            previous = -1
            while chunk := list(itertools.islice(ranks, _CHUNK_RANKS)):
                if size >= self._shard_bytes:
                    yield first, _shard_js(next(numbers), parts)
                    parts = []
                    size = 0
                    previous = -1
                if previous < 0:
                    if parts:
                        parts.append(" ")
                    else:
                        first = word
                    parts += (word, " ")
                    size += len(word_utf8) + 2
                    previous = 0
                codes = "".join(map(_codes.__getitem__, map(operator.sub, chunk, (previous, *chunk))))
                previous = chunk[-1]
                parts.append(codes)
                size += len(codes)
        if parts:
            yield first, _shard_js(next(numbers), parts)

    def _write_block(self) -> None:
        """Write a run of the posts since the last one."""
        if self._block:
            block = sorted(self._block.items())
            self._write_run((word.encode(), array("I", sorted(ranks))) for word, ranks in block)
            self._block.clear()
            self._postings = 0

    def _write_run(self, records: Iterable[tuple[bytes, array[int]]]) -> None:
        """Write a run of words in order, each with ascending ranks; a word may come more than once."""
        self._runs_made += 1
        path = self._folder / f"run-{self._runs_made}"
        self._runs.append(path)
        with path.open("xb") as file:
            for word, ranks in records:
                data = ranks.tobytes()
                file.write(_RECORD.pack(len(word), len(data)) + word + data)


def _records(path: Path) -> Iterator[tuple[bytes, array[int]]]:
    """The words of a run with their ranks."""
    with path.open("rb") as file:
        while header := file.read(_RECORD.size):
            word_bytes, rank_bytes = _RECORD.unpack(header)
            word = file.read(word_bytes)
            yield word, array("I", file.read(rank_bytes))


def _merged(runs: Sequence[Path]) -> Iterator[tuple[bytes, array[int]]]:
    """The words of runs in order; a word of several runs comes several times."""
    return heapq.merge(*map(_records, runs), key=operator.itemgetter(0))


def _ascending(pieces: list[array[int]], posts: int) -> Iterable[int]:
    """The ranks of all pieces in order: each piece is ascending, and all ranks are below *posts*."""
    if len(pieces) == 1:
        return pieces[0]
    pieces.sort(key=operator.itemgetter(0))
    if all(before[-1] < after[0] for before, after in itertools.pairwise(pieces)):
        return itertools.chain.from_iterable(pieces)
    if sum(map(len, pieces)) <= _SORTED_RANKS:
        return sorted(itertools.chain.from_iterable(pieces))
    marks = bytearray(posts)
    for piece in pieces:
        for rank in piece:
            marks[rank] = 1
    return itertools.compress(itertools.count(), marks)


def _shard_js(number: int, parts: list[str]) -> bytes:
    """A shard; nothing in it needs escapes, since words are of letters, marks and digits."""
    return f'skyexportSearch.words({number},"{"".join(parts)}");\n'.encode()


def _json(value: object) -> bytes:
    """JSON that is harmless within a script in a page, as well."""
    data = orjson.dumps(value).replace(b"<", b"\\u003c")
    return data.replace("\u2028".encode(), b"\\u2028").replace("\u2029".encode(), b"\\u2029")


def documents_js(number: int, documents: Iterable[Document]) -> bytes:
    """Make a file of what results show.

    Args:
        number: The number of the file, from 1.
        documents: Those of successive ranks.

    Returns:
        The content of search/posts-NNNNN.js.
    """
    paths: dict[str, int] = {}
    posts = [
        (paths.setdefault(path, len(paths)), anchor, time, author, text)
        for path, anchor, time, author, text in documents
    ]
    return b"skyexportSearch.posts(%d,%b);\n" % (number, _json({"paths": list(paths), "posts": posts}))


def documents_of(content: bytes) -> list[Document]:
    """Read what `documents_js` made.

    Raises:
        ValueError: It did not make this.
    """
    data = _argument(content, b"skyexportSearch.posts(")
    try:
        paths = data["paths"]
        return [Document(paths[path], anchor, time, author, text) for path, anchor, time, author, text in data["posts"]]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError("this is not a file of posts") from error


def postings_of(content: bytes) -> Iterator[tuple[str, list[int]]]:
    """Read a shard: its words in order, each with its ranks.

    Raises:
        ValueError: This is not a shard.
    """
    data = _argument(content, b"skyexportSearch.words(")
    if not isinstance(data, str):
        raise ValueError("this is not a shard")
    fields = data.split(" ")
    for word, codes in zip(fields[::2], fields[1::2], strict=True):
        ranks = []
        rank = number = 0
        for digit in map(DIGITS.index, codes):
            number = number << 5 | digit & 31
            if digit < 32:
                rank += number
                number = 0
                ranks.append(rank)
        yield word, ranks


def table_js(
    word_firsts: Sequence[str],
    posts_firsts: Sequence[int],
    months: Sequence[tuple[str, int]],
    authors: Sequence[tuple[str, str]],
    posts: int,
) -> bytes:
    """Make the table that pages for searching load first.

    Args:
        word_firsts: The first word of each shard.
        posts_firsts: The first rank of each file of posts.
        months: (month like "2024-05", its first rank), ascending; the month of posts without a time is "".
        authors: (label, handle) of each; an author's number is the place in this list.
        posts: How many there are.

    Returns:
        The content of search/table.js. It also has the ranges of the rule for words, so that scripts have the same.
    """
    table = {
        "posts": posts,
        "authors": authors,
        "months": months,
        "postFiles": posts_firsts,
        "wordFiles": word_firsts,
        "digits": DIGITS,
        "maxWord": MAX_WORD_CHARACTERS,
        "pairs": PAIR_RANGES,
        "ignored": IGNORED_RANGES,
    }
    return b"var skyexportTable=%b;\n" % _json(table)


def table_of(content: bytes) -> dict[str, Any]:
    """Read what `table_js` made, as the JSON that it is.

    Raises:
        ValueError: It did not make this.
    """
    start = b"var skyexportTable="
    if content.startswith(start) and content.endswith(b";\n"):
        with contextlib.suppress(orjson.JSONDecodeError):
            table = orjson.loads(content[len(start) : -2])
            if isinstance(table, dict):
                return table
    raise ValueError("this is not a table of an index")


def _argument(content: bytes, start: bytes) -> Any:
    """The JSON in a call with a number and JSON.

    Raises:
        ValueError: This is no such call.
    """
    _, _, data = content.removesuffix(b");\n").partition(b",")
    if not content.startswith(start) or not content.endswith(b");\n"):
        raise ValueError(f"this does not begin with {start.decode()}, or does not end as it must")
    return orjson.loads(data)
