"""Pages about jobs: the form for an export, what it would do, and everything that runs, waits, or has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from skyexport.errors import AlreadyRunningError, ExportError, OptionError
from skyexport.web.exports import Export
from skyexport.web.form import arguments_of, groups
from skyexport.web.jobs import Job
from skyexport.web.site import Site, form_of, render, see_other, site_of
from skyexport.web.sources import SourceFile

__all__ = ["check_export", "export_form", "job_page", "jobs_page", "start_export", "stop_job"]

_LABEL_COLUMNS = 18
"""Where values begin in the lines of `inspect` and of a dry run."""


def _exports_of(site: Site, file: SourceFile) -> list[Export]:
    """The exports of an archive that a new one can build on."""
    return [export for export in site.exports.all() if export.found is not None and export.archive == str(file.path)]


async def export_form(request: Request) -> Response:
    """The form, empty or with what was sent before."""
    site = site_of(request)
    file = site.archive(request.path_params["number"])
    values: Mapping[str, str] = {}
    if (before := request.query_params.get("from", "")).isascii() and before.isdigit():
        values = site.job(int(before[:9])).about.get("form", {})
    facts = None
    with contextlib.suppress(ExportError):
        facts = site.sources.facts(file)
    exports = await run_in_threadpool(_exports_of, site, file)
    authors = facts.values["largest_authors"] if facts is not None and facts.is_ok else []
    return render(
        request, "export_form.html", file=file, groups=groups(), values=values, exports=exports,
        authors=authors, folder=site.folder_for(file),
    )  # fmt: skip


async def check_export(request: Request) -> Response:
    """Find out what the export would do; its page then starts it."""
    site = site_of(request)
    file = site.archive(request.path_params["number"])
    form = {name: value for name, value in (await form_of(request)).items() if value.strip()}
    exports = {str(export.number): str(export.directory) for export in await run_in_threadpool(_exports_of, site, file)}
    arguments = [str(file.path), f"--output-dir={site.folder_for(file)}", *arguments_of(form, exports)]
    title = f"{file.path.name} to {form.get('format', 'json').upper()}"
    job = site.jobs.add(
        "check", title, site.command("export", *arguments, "--dry-run"), archive=file.number, form=form,
        export=site.command("export", *arguments),
    )  # fmt: skip
    return see_other(request, f"/jobs/{job.number}")


async def start_export(request: Request) -> Response:
    """Start an export that was checked before."""
    site = site_of(request)
    await form_of(request)
    check = site.job(request.path_params["number"])
    if check.kind != "check" or not (check.state == "done" or _waits_for_another(check)):
        raise OptionError("this export was not checked", "fill in the form again")
    job = site.jobs.add(
        "export", f"Export of {check.title}", check.about["export"], archive=check.about["archive"],
        form=check.about["form"],
    )  # fmt: skip
    return see_other(request, f"/jobs/{job.number}")


def _waits_for_another(check: Job) -> bool:
    """Whether a dry run only failed because another export is writing to the same place."""
    return check.kind == "check" and check.exit_code == AlreadyRunningError.exit_code


async def stop_job(request: Request) -> Response:
    """Stop a job."""
    site = site_of(request)
    await form_of(request)
    job = site.job(request.path_params["number"])
    site.jobs.stop(job)
    return see_other(request, f"/jobs/{job.number}")


async def jobs_page(request: Request) -> Response:
    """Everything that runs, waits, or has ended, the newest first."""
    jobs = [job for job in reversed(site_of(request).jobs.all) if job.kind != "check"]
    return render(request, "jobs.html", jobs=jobs, live=any(not job.has_ended for job in jobs))


async def job_page(request: Request) -> Response:
    """One job."""
    site = site_of(request)
    job = site.job(request.path_params["number"])
    export = None
    if job.state == "done" and job.kind == "export" and isinstance(directory := job.result.get("directory"), str):
        number = await run_in_threadpool(site.exports.number_of, Path(directory))
        export = site.exports.find(number) if number is not None else None
    if job.kind == "verify":
        export = site.exports.find(job.about["verified"])
    before = sum(other.state == "waiting" or other.process is not None for other in site.jobs.all
                 if other.number < job.number and other.kind != "check")  # fmt: skip
    return render(
        request, "job.html", job=job, export=export, figures=_figures(job), sentences=_sentences(job),
        error=_error(job), lines=_other_lines(job), before=before, live=not job.has_ended,
        may_wait=_waits_for_another(job),
    )  # fmt: skip


def _sentences(job: Job) -> list[str]:
    """The lines that the command would have printed in a terminal, but for those of figures."""
    return [line for line in _printed(job) if not _is_figure(line)]


def _figures(job: Job) -> list[tuple[str, str]]:
    """Names and values: of a dry run, its answer; of a running job, its progress."""
    figures = [
        (line[:_LABEL_COLUMNS].strip().rstrip(":"), line[_LABEL_COLUMNS:]) for line in _printed(job) if _is_figure(line)
    ]
    return figures or ([] if job.has_ended else job.figures)


def _printed(job: Job) -> list[str]:
    lines = job.result.get("sentences")
    return [str(line) for line in lines] if isinstance(lines, list) else []


def _is_figure(line: str) -> bool:
    """Whether a line is a name, a colon, and a value below those of other lines."""
    return len(line) > _LABEL_COLUMNS and line[:_LABEL_COLUMNS].rstrip().endswith(":") and line[0].isalpha()


def _error(job: Job) -> tuple[str, str] | None:
    """Message and hint, if the job failed."""
    result: Mapping[str, Any] = job.result
    if job.state not in ("failed", "stopped"):
        return None
    if result.get("error"):
        return str(result["error"]), str(result.get("hint") or "")
    if job.exit_code is not None and job.exit_code < 0:
        return f"the process was killed by signal {-job.exit_code}", "nothing of it was kept; start it again"
    return None


def _other_lines(job: Job) -> list[str]:
    """The lines that the command printed, but for those that the page has anyway."""
    error = _error(job)
    said = {f"skyexport: {error[0]}", f"skyexport: {error[0]}; {error[1]}"} if error else set()
    return [line for line in job.lines if line not in said and line not in _printed(job)]
