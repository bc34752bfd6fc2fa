"""Finding posts with the archive's full-text index.

The index is a virtual table of SQLite's module FTS5. Anybody can make one of any shape, so it is checked before it is
queried, and a connection may read its tables only if the export needs them.

An index may be out of date. Those of bskyarchive are after posts were deleted or changed: its triggers remove old words
only if they still find them. The index finds the same posts as bskyarchive's search, without row ids of missing posts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from skyexport.archive.authorizer import Authorizer, folded
from skyexport.archive.source import REBUILD, translate_sqlite_errors
from skyexport.errors import ArchiveError, OptionError
from skyexport.posts import COLUMNS
from skyexport.wording import shell_word

__all__ = ["MATCHED", "FullTextMatch", "PrecomputedMatch", "check_query", "checked_match", "translate_index_errors"]

MATCHED = "matched"
"""Table of a private copy: row ids of the posts that the archive's index found. The index itself is not copied."""

_INDEX = "posts_fts"
_SHADOWS = frozenset({f"{_INDEX}_{what}" for what in ("config", "content", "data", "docsize", "idx")})
_MODULE = re.compile(r"create\s+virtual\s+table\s.*?\busing\s+fts5\s*\((.*)\)\s*", re.IGNORECASE | re.DOTALL)
_ARGUMENT = re.compile(r"""(?:'[^']*'|"[^"]*"|\[[^\]]*\]|`[^`]*`|[^,'"\[`])+""")
_OPTION = re.compile(r"""\s*(\w+)\s*=\s*(?:'([^']*)'|"([^"]*)"|\[([^\]]*)\]|`([^`]*)`|(\w*))\s*""")
_PLAIN_WORD = re.compile(r"""[A-Za-z0-9_\x80-\U0010ffff]+\*?|"[^"]*"\*?|[()]""")
"""Parts of a query that need no quotes: a bareword of FTS5, a phrase of one word, a parenthesis."""

_ROW_ID = ("rowid", "oid", "_rowid_")
_SCHEMA = "sqlite_master"
"""SQLite's name for the schema table when it asks whether it may be read."""


@dataclass(frozen=True, slots=True)
class FullTextMatch:
    """The posts that the index finds; a `PostFilter`."""

    query: str

    def sql(self, schema: str) -> str:
        """SQL that is true for these posts."""
        return f"posts.rowid in (select rowid from {schema}.{_INDEX} where {_INDEX} match :match)"

    def parameters(self) -> dict[str, str]:
        """The query."""
        return {"match": self.query}

    def prepare(self, connection: apsw.Connection) -> None:
        """Let the connection read the index."""
        Authorizer.of(connection).allow_reading({_INDEX, *_SHADOWS})


@dataclass(frozen=True, slots=True)
class PrecomputedMatch:
    """The posts that the index found when the archive was copied; a `PostFilter` for the copy."""

    def sql(self, schema: str) -> str:
        """SQL that is true for these posts."""
        return f"posts.rowid in (select row_id from {schema}.{MATCHED})"

    def parameters(self) -> dict[str, str]:
        """No parameters."""
        return {}

    def prepare(self, connection: apsw.Connection) -> None:
        """Let the connection read the list."""
        Authorizer.of(connection).allow_reading({MATCHED})


def checked_match(connection: apsw.Connection, query: str, path: str) -> FullTextMatch:
    """The posts that *query* finds, after a check of the index and of *query*.

    Args:
        connection: A restricted connection to the archive.
        query: A query in the syntax of FTS5.
        path: The archive's path, for messages.

    Raises:
        ArchiveError: The index is missing or damaged.
        OptionError: *query* is not valid.
    """
    match = FullTextMatch(query)
    with translate_sqlite_errors(path), Authorizer.of(connection).reading_for_a_while(_INDEX, *_SHADOWS, _SCHEMA):
        _check_shape(connection, path)
        with translate_index_errors([match], path):
            columns = [str(row[1]) for row in connection.execute(f"pragma table_xinfo({_INDEX})") if not row[6]]
            _check_query(query, columns)
            connection.execute(f"select 1 from posts where {match.sql('main')} limit 1", match.parameters()).fetchall()
    return match


@contextlib.contextmanager
def translate_index_errors(filters: Iterable[object], path: str) -> Iterator[None]:
    """Translate SQLite errors about a damaged index into ours, if *filters* query the index."""
    try:
        yield
    except (apsw.SQLError, apsw.CorruptError) as error:
        if not any(isinstance(post_filter, FullTextMatch) for post_filter in filters):
            raise
        what = "or the archive itself is damaged" if isinstance(error, apsw.CorruptError) else "cannot be queried"
        raise ArchiveError(f"the full-text index of {path} {what}: {error}", REBUILD) from None


def _check_shape(connection: apsw.Connection, path: str) -> None:
    """Make sure that the index is an FTS5 index of the table of posts."""
    kinds = {folded(str(row[1])): row[2] for row in connection.execute("pragma table_list") if row[0] == "main"}
    if _INDEX not in kinds:
        raise ArchiveError(
            f"{path} has no full-text index {_INDEX}",
            "leave out --match, or open the archive with a recent bskyarchive, which creates the index",
        )
    rows: list[Any] = connection.execute(
        "select cast(sql as blob) from sqlite_schema where name = ? collate nocase and type = 'table'", (_INDEX,)
    ).fetchall()
    sql = rows[0][0].decode(errors="replace") if rows and isinstance(rows[0][0], bytes) else ""
    module = _MODULE.fullmatch(sql)
    options = _options(module[1]) if module is not None and kinds[_INDEX] == "virtual" else {}
    odd = [name for name in _SHADOWS if kinds.get(name, "shadow") != "shadow"]
    if options.get("content") != "posts" or options.get("content_rowid", "rowid") not in _ROW_ID or odd:
        raise ArchiveError(
            f"the table {_INDEX} of {path} is not a full-text index of its posts as bskyarchive creates it",
            "leave out --match",
        )


def _options(arguments: str) -> dict[str, str]:
    """The options among the arguments of FTS5: name → value, in lower case."""
    matches = filter(None, map(_OPTION.fullmatch, _ARGUMENT.findall(arguments)))
    return {option[1].lower(): "".join(filter(None, option.groups()[1:])).lower() for option in matches}


def check_query(query: str) -> None:
    """Check a query before any archive is opened.

    Raises:
        OptionError: The query is not valid for any index of posts, whichever columns it has.
    """
    _check_query(query, list(COLUMNS))


def _check_query(query: str, columns: list[str]) -> None:
    """Try the query on an empty index with the same columns, so that any error is about the query alone.

    Raises:
        OptionError: The query is not valid.
    """
    with contextlib.closing(apsw.Connection(":memory:")) as empty:
        try:
            names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
            empty.execute(f"create virtual table {_INDEX} using fts5({names})")
        except apsw.Error as error:
            raise ArchiveError(f"this SQLite cannot query the full-text index: {error}") from None

        def ask(query: str) -> None:
            empty.execute(f"select 1 from {_INDEX} where {_INDEX} match ?", (query,)).fetchall()

        try:
            ask(query)
        except apsw.Error as error:
            quoted = _quoted(query, ask)
            raise OptionError(
                f"{query!r} is not a full-text query: {error}",
                f"quote such words: --match {shell_word(quoted)}"
                if quoted is not None
                else """write words, "a phrase", word*, AND, OR and NOT""",
            ) from None


def _quoted(query: str, ask: Callable[[str], None]) -> str | None:
    """The query with the quotes that it needs, tried with *ask*; None if quotes do not help."""
    words = query.split()
    suggestions = [f'{query.strip()}"'] * (query.count('"') % 2)
    if not all(map(_PLAIN_WORD.fullmatch, words)):
        suggestions.append(" ".join(word if _PLAIN_WORD.fullmatch(word) else _phrase(word) for word in words))
        suggestions.append(_phrase(query.strip()))
    for suggestion in suggestions if any(map(str.isalnum, query)) else ():
        with contextlib.suppress(apsw.Error):
            ask(suggestion)
            return suggestion
    return None


def _phrase(words: str) -> str:
    return '"' + words.replace('"', '""') + '"'
