"""What progress looks like."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from skyexport.runtime.progress import Progress, Stage, duration, reporter_for


def moment(seconds: float, posts: int = 0, stage: Stage = "exporting") -> Progress:
    return Progress(stage, posts, posts, 1_000_000, posts * 1200, seconds, 85_000_000)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_sentence() -> None:
    """One line has share, time left, posts, size, rate and memory, as far as they are known."""
    assert moment(2.0, 250_000).sentence() == (
        " 25%  6 s left, 250,000 of 1,000,000 posts, 300 MB, 125,000/s, memory 85.0 MB"
    )


def test_sentence_of_a_selection() -> None:
    """When not every post that is read is taken, it says how many are."""
    assert ", memory" not in Progress("exporting", 1, 1, 2, 1, 1.0, None).sentence()
    assert "500 of 1,000 posts, 20 taken" in Progress("exporting", 20, 500, 1000, 1, 1.0, 1).sentence()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    """Durations read as people say them."""
    assert duration(seconds) == text


@pytest.mark.parametrize("mode", ["auto", "plain"])
def test_plain_lines_come_often_enough_and_not_too_often(mode: str) -> None:
    """Never none for more than five seconds, never more than one in two; nothing for what is done at once."""
    stream = io.StringIO()
    reporter = reporter_for(mode, stream)
    written_at = []
    length = 0
    for tick in range(300):
        reporter(moment(tick / 5, tick * 1000))
        if len(stream.getvalue()) > length:
            length = len(stream.getvalue())
            written_at.append(tick / 5)
    reporter.close()
    gaps = [later - earlier for earlier, later in zip([0.0, *written_at], written_at, strict=False)]
    assert 2 < min(gaps) <= max(gaps) < 5
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_events() -> None:
    """JSON events: the first at once, two a second, the last always."""
    stream = io.StringIO()
    reporter = reporter_for("json", stream)
    for tick in range(11):
        reporter(moment(tick / 5, tick * 1000))
    reporter(moment(2.1, 1_000_000, "done"))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["seconds"] for event in events] == [0.0, 0.6, 1.2, 1.8, 2.1]
    assert events[0]["schema_version"] == 1
    assert events[-1]["stage"] == "done"


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets a bar that moves and is gone at the end."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    reporter = reporter_for("auto", stream)
    reporter(moment(0.1, 1))
    assert stream.getvalue() == ""
    reporter(moment(1.0, 100_000))
    reporter(moment(2.0, 300_000))
    shown = stream.getvalue()
    assert "100,000 of 1,000,000 posts" in shown
    assert "300,000 of 1,000,000 posts" in shown
    reporter.close()
    assert screen(stream.getvalue(), 120) == [""]


def screen(written: str, columns: int) -> list[str]:
    """What is on a terminal of so many columns after that was written: each line without what is blank at its end."""
    lines: list[list[str]] = [[]]
    column = 0
    for character in written:
        if character == "\r":
            column = 0
            continue
        if column == columns:
            lines.append([])
            column = 0
        lines[-1][column : column + 1] = [character]
        column += 1
    return ["".join(characters).rstrip() for characters in lines]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (1, ""),
        (5, " 30%"),
        (20, " 30%  1 h 56 min"),
        (24, " 30%  1 h 56 min left"),
        (40, " 30%  1 h 56 min left"),
        (60, " 30%  1 h 56 min left, 300,000 of 1,000,000 posts, 360 MB"),
        (80, "[######..............]  30%  1 h 56 min left, 300,000 of 1,000,000 posts"),
        (
            200,
            "[######..............]  30%  1 h 56 min left, 300,000 of 1,000,000 posts, 360 MB, 100/s, memory 85.0 MB",
        ),
    ],
)
def test_narrow_terminals(monkeypatch: pytest.MonkeyPatch, columns: int, shown: str) -> None:
    """Share and time left come first; what has no room is left out, and no line is longer than the terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    reporter = reporter_for("auto", stream)
    for posts in (100_000, 200_000, 300_000):
        reporter(moment(posts / 100, posts))
    assert screen(stream.getvalue(), columns) == [shown]
    # Terminals of East Asia show many other characters twice as wide.
    assert stream.getvalue().isascii()
    with reporter.paused():
        assert screen(stream.getvalue(), columns) == [""]
    reporter(moment(4000, 400_000))
    reporter.close()
    assert screen(stream.getvalue(), columns) == [""]


@pytest.mark.parametrize("stage", ["preparing", "reading earlier exports", "copying media", "finishing", "verifying"])
def test_all_stages_fit_into_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    """Each has its line, cut where it must be."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    reporter = reporter_for("auto", stream)
    reporter(replace(moment(100, 1000, stage), media_files=3, media_files_to_read=5))
    (shown,) = screen(stream.getvalue(), 20)
    assert 5 < len(shown) < 20
    reporter.close()


def test_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that can do nothing gets plain lines."""
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    reporter_for("auto", stream)(moment(3.0, 300_000))
    assert stream.getvalue() == moment(3.0, 300_000).sentence() + "\n"


def test_nothing_on_demand_and_nobody_listening() -> None:
    """`none` prints nothing; a stream that fails does not fail the export."""
    stream = io.StringIO()
    reporter_for("none", stream)(moment(9.0))
    assert stream.getvalue() == ""
    stream.close()
    reporter_for("plain", stream)(moment(9.0))
    reporter_for("json", stream)(moment(9.0))
