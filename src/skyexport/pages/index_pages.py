"""The first pages of an export: of each author, and of all authors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from skyexport.pages import paths
from skyexport.pages.post_text import clean, segments
from skyexport.pages.reading import PageRow, PlanReader, Posts, SeenFrom, handles_of, snippet
from skyexport.pages.views import AuthorLine, AuthorPage, AuthorsPage, Bar, Link, Month, Site

__all__ = ["author_page", "authors_page", "bars"]

_MOST_LIKED = 10
"""Posts in the list of the most liked ones."""

_MOST_BARS = 240
"""Months in the chart: twenty years. Beyond them, bars are years."""

_MOST_YEAR_BARS = 400
_LABELLED_YEARS = 14
"""Labels below the chart: more would overlap."""


def author_page(reader: PlanReader, posts: Posts, page: PageRow, site: Site, *, counts: bool) -> AuthorPage:
    """The page of one author.

    Args:
        reader: The plan.
        posts: The archive.
        page: The page.
        site: What all pages share.
        counts: Whether likes are known.
    """
    seen = SeenFrom(reader, page.path)
    about, earlier, first, number, since, until = reader.rows(
        "select about, earlier, first, posts, since, until from author where id = ?", (page.author,)
    ).get
    months = _months(reader, page.author, seen)
    undated = next((month for key, month in months if not key), None)
    dated = [(key, month) for key, month in months if key]
    years = [
        (year, [month for _, month in group]) for year, group in groupby(reversed(dated), key=lambda item: item[0][:4])
    ]
    return AuthorPage(
        site=site, author=reader.author(page.author), about=segments(clean(about)),
        earlier_handles=[handle for handle in handles_of(earlier) if handle], posts=number,
        first=paths.day_text(since) if since else "", last=paths.day_text(until) if until else "",
        chart=bars(dated), years=years, undated=undated,
        liked=_liked(reader, posts, first, number, seen) if counts else (),
        home=seen.relative("index.html") if reader.several_authors else "",
    )  # fmt: skip


def _months(reader: PlanReader, author: int, seen: SeenFrom) -> list[tuple[str, Month]]:
    """Each month with posts, like "2024-05", and "" for undated ones; the oldest first."""
    rows: Any = reader.rows(
        "select month, sum(posts), min(iif(number = 1, path, null)) from page"
        " where author = ? and kind in ('month', 'undated') group by month order by month",
        (author,),
    )
    return [
        (month, Month(name=paths.month_text(month).partition(" ")[0], href=seen.relative(path), posts=posts))
        for month, posts, path in rows
    ]


def bars(months: Sequence[tuple[str, Month]]) -> list[Bar]:
    """The chart: a bar a month; a bar a year where there would be too many.

    Args:
        months: Key, like "2024-05", and month, the oldest first.
    """
    if not months:
        return []
    first, last = _ordinal(months[0][0]), _ordinal(months[-1][0])
    if last - first < _MOST_BARS:
        there = {_ordinal(key): month for key, month in months}
        every = -(-(last // 12 - first // 12 + 1) // _LABELLED_YEARS)
        chart = []
        for ordinal in range(first, last + 1):
            year, month = divmod(ordinal, 12)
            label = str(year) if not month and year % every == 0 else ""
            text = f"{paths.MONTHS[month]} {year:04}"
            found = there.get(ordinal)
            chart.append(
                Bar(month=text, posts=found.posts if found else 0, href=found.href if found else "", year=label)
            )
        return chart
    return list(_year_bars(months, first // 12, last // 12))


def _year_bars(months: Sequence[tuple[str, Month]], first: int, last: int) -> Iterator[Bar]:
    by_year = {int(year): list(group) for year, group in groupby(months, key=lambda item: item[0][:4])}
    years: Sequence[int] = (
        range(first, last + 1) if last - first < _MOST_YEAR_BARS else sorted(by_year)[-_MOST_YEAR_BARS:]
    )
    every = -(-len(years) // _LABELLED_YEARS)
    for place, year in enumerate(years):
        group = by_year.get(year, [])
        href = group[0][1].href if group else ""
        label = f"{year:04}" if place % every == 0 else ""
        yield Bar(month=f"{year:04}", posts=sum(month.posts for _, month in group), href=href, year=label)


def _ordinal(month: str) -> int:
    return int(month[:4]) * 12 + int(month[5:7]) - 1


def _liked(reader: PlanReader, posts: Posts, first: int, number: int, seen: SeenFrom) -> list[tuple[str, Link, str]]:
    rows: list[Any] = reader.rows(
        "select row_id, likes, time from post where seq >= ? and seq < ? and likes > 0"
        " order by likes desc, seq limit ?",
        (first, first + number, _MOST_LIKED),
    ).fetchall()
    texts = posts.texts(row_id for row_id, _, _ in rows)
    return [
        (
            f"{likes:,}",
            Link(snippet(texts[row_id][1]) or "A post without text", seen.address_of(row_id) or ""),
            paths.day_text(time) if time else "undated",
        )
        for row_id, likes, time in rows
        if row_id in texts
    ]


def authors_page(reader: PlanReader, site: Site) -> AuthorsPage:
    """The page of all authors."""
    rows: Any = reader.rows("select id, folder, posts, since, until from author where posts order by id")
    lines = [
        AuthorLine(
            author=reader.author(number), href=f"{folder}index.html", posts=posts,
            first=paths.day_text(since) if since else "", last=paths.day_text(until) if until else "",
        )
        for number, folder, posts, since, until in rows
    ]  # fmt: skip
    return AuthorsPage(site=site, posts=sum(line.posts for line in lines), authors=lines)
