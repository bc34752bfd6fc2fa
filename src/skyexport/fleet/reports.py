"""The reports of all shards, merged: what the export of many archives would have reported on one machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from skyexport.errors import AuthorError, OptionError
from skyexport.fleet.results import nobody_has
from skyexport.options.values import Shard, parse_shard
from skyexport.runtime.progress import SCHEMA_VERSION, duration
from skyexport.wording import format_size

__all__ = ["MergedReport", "merge_reports"]

_AGAIN = "export that shard again, with --resume-batch and --json"

_COUNTS = (
    "archives_exported", "archives_skipped", "archives_without_author", "archives_failed", "posts", "bytes", "exporters"
)  # fmt: skip
"""Keys of a report whose values are added up."""

_SAME = ("format", "author", "archives_in_all_shards")
"""Keys whose values must be the same in all reports."""

_SHOWN_FAILURES = 20
"""Most archives that failed and have a line of their own, for people."""


@dataclass(frozen=True, slots=True)
class _Report:
    path: Path
    shard: Shard
    values: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> _Report:
        """Read a report.

        Raises:
            OptionError: It cannot be read, or is not what the export of a shard prints with --json.
        """
        try:
            values = orjson.loads(path.read_bytes())
        except OSError as error:
            raise OptionError(f"cannot read the report {path}: {error.strerror}", "check the path") from None
        except orjson.JSONDecodeError:
            raise OptionError(f"{path} is not a report, or only a part of one", _AGAIN) from None
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
            raise OptionError(f"{path} is not a report of this version of skyexport", _AGAIN)
        if "archives" not in values and isinstance(values.get("error"), str):
            raise OptionError(f"{path} is of a shard that ended with an error: {values['error']}", _AGAIN)
        numbers = (*_COUNTS, "archives_in_all_shards", "seconds")
        sound = (
            isinstance(values.get("shard"), str) and all(isinstance(values.get(key), int | float) for key in numbers)
            and isinstance(values.get("archives"), list) and all(map(_is_archive, values["archives"]))
        )  # fmt: skip
        if not sound:
            raise OptionError(f"{path} is not the report of a shard", "merge what export --shard I/N --json prints")
        return cls(path, parse_shard(values["shard"]), values)


def _is_archive(value: object) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("number"), int) and isinstance(value.get("path"), str)
        and value.get("status") in ("ok", "skipped", "failed")
        and (value["status"] != "failed" or (isinstance(value.get("error"), str) and _is_exit_code(value)))
    )  # fmt: skip


def _is_exit_code(value: dict[str, Any]) -> bool:
    return isinstance(value.get("exit_code"), int) and 0 < value["exit_code"] < 256


@dataclass(frozen=True, slots=True)
class MergedReport:
    """The reports of all shards of a list."""

    shards: int
    values: dict[str, Any]
    """The object that `--json` prints, as of many archives on one machine, without its last key `archives`."""
    archives: list[dict[str, Any]]
    """The objects of all archives, in the order of the list."""
    author_error: AuthorError | None
    """The error that no archive has a post by the author; None if one has."""

    @property
    def exit_code(self) -> int:
        """The exit code of the first failure in the order of the list; 0 without failures."""
        code: int = self.values["exit_code"]
        return code

    def to_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {**self.values, "archives": self.archives}

    def sentences(self) -> Iterator[str]:
        """The report for people."""
        values = self.values
        parts = [f"{values['archives_exported']:,} exported"]
        if values["archives_skipped"]:
            parts.append(f"{values['archives_skipped']:,} skipped, since they have verified exports")
        if values["archives_without_author"]:
            parts.append(f"{values['archives_without_author']:,} without a post by {values['author']}")
        if values["archives_failed"]:
            parts.append(f"{values['archives_failed']:,} failed")
        yield f"{len(self.archives):,} archives in {self.shards:,} shards: {', '.join(parts)}"
        yield (
            f"{values['posts']:,} posts to {values['format'].upper()}, {format_size(values['bytes'])};"
            f" the longest shard took {duration(values['seconds'])}"
        )
        failed = (archive for archive in self.archives if archive["status"] == "failed")
        for number, archive in enumerate(failed):
            if number == _SHOWN_FAILURES:
                yield f"… and {values['archives_failed'] - number:,} more: --json lists all"
                break
            yield f"failed: {archive['path']}: {archive['error']}"


def merge_reports(paths: Iterable[str | os.PathLike[str]]) -> MergedReport:
    """Merge the reports of all shards of one list.

        merged = merge_reports(["shard-1.json", "shard-2.json"])
        print(merged.values["posts"], merged.exit_code)

    Args:
        paths: Files with the objects that `export --shard I/N --json` printed, one for each shard, in any order.

    Raises:
        OptionError: A report is missing, twice, not whole, or of another list.
    """
    reports = [_Report.read(Path(path)) for path in paths]
    if not reports:
        raise OptionError("there is no report to merge", "name the reports of all shards")
    reports.sort(key=lambda report: report.shard.number)
    _check_together(reports)
    archives = sorted((archive for report in reports for archive in report.values["archives"]), key=_number)
    first = reports[0].values
    if [archive["number"] for archive in archives] != list(range(1, first["archives_in_all_shards"] + 1)):
        raise OptionError("the reports are not of the same list of archives", "give every shard the same list")
    counts = {key: sum(report.values[key] for report in reports) for key in _COUNTS}
    author_error = None
    if archives and counts["archives_without_author"] == len(archives):
        author_error = nobody_has(first["author"], len(archives))
    failed = next((archive["exit_code"] for archive in archives if archive["status"] == "failed"), 0)
    exit_code = failed or (0 if author_error is None else author_error.exit_code)
    seconds = max(report.values["seconds"] for report in reports)
    peaks = [report.values.get("peak_memory_bytes") for report in reports]
    values = {
        **first, **counts,
        "status": "failed" if exit_code else "ok", "exit_code": exit_code,
        "failures": _failures(reports), "seconds": seconds,
        "posts_per_second": round(counts["posts"] / seconds, 1) if seconds else 0.0,
        "peak_memory_bytes": max((peak for peak in peaks if isinstance(peak, int)), default=None),
        "shard": None,
    }  # fmt: skip
    del values["archives"], values["schema_version"]
    return MergedReport(len(reports), values, archives, author_error)


def _number(archive: dict[str, Any]) -> int:
    number: int = archive["number"]
    return number


def _check_together(reports: list[_Report]) -> None:
    """Check that the reports are those of all shards of one list.

    Raises:
        OptionError: They are not.
    """
    first = reports[0]
    for report in reports:
        if report.shard.count != first.shard.count:
            raise OptionError(
                f"{first.path} is of {first.shard.count} shards, and {report.path} of {report.shard.count}",
                "merge the reports of one export",
            )
        for key in _SAME:
            if report.values.get(key) != first.values.get(key):
                raise OptionError(
                    f"{first.path} and {report.path} are of different exports: {key} is"
                    f" {first.values.get(key)} and {report.values.get(key)}",
                    "merge the reports of one export",
                )
    times = Counter(report.shard.number for report in reports)
    twice = next((report for report in reports if times[report.shard.number] > 1), None)
    if twice is not None:
        raise OptionError(f"there are {times[twice.shard.number]} reports of shard {twice.shard}", "name one of them")
    missing = [str(number) for number in range(1, first.shard.count + 1) if number not in times]
    if missing:
        are = "the report of shard" if len(missing) == 1 else "the reports of shards"
        shown = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
        raise OptionError(f"{are} {shown} of {first.shard.count} missing", _AGAIN)


def _failures(reports: list[_Report]) -> list[dict[str, Any]]:
    """The kinds of failures, the most frequent first."""
    kinds: Counter[tuple[str, int]] = Counter()
    for report in reports:
        for failure in report.values.get("failures", ()):
            kinds[failure["error"], failure["exit_code"]] += failure["archives"]
    return [
        {"error": what, "exit_code": exit_code, "archives": count} for (what, exit_code), count in kinds.most_common()
    ]
