"""Show skyexport at work: make a demo archive, export it to JSON and CSV, verify both, and suggest next steps.

    python tools/demo.py build/demo [POSTS]

All files are made below the given directory. The command is the one installed beside this Python.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

POSTS = 20_000
ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).with_name("skyexport.exe" if os.name == "nt" else "skyexport")
WIDTH = 100
"""Characters shown of a line of data."""


def main(place: Path, posts: int = POSTS) -> int:
    """Run the demo.

    Returns:
        The exit status: that of the first command that failed.
    """
    archive, exports = place / "archive.db", place / "exports"
    place.mkdir(parents=True, exist_ok=True)
    if not archive.exists():
        print(f"making a demo archive of {posts:,} posts: {shown(archive)}", flush=True)
        maker = [sys.executable, str(ROOT / "tools" / "make_archive.py"), str(archive)]
        subprocess.run([*maker, "--posts", str(posts), "--seed", "1"], check=True, stdout=subprocess.DEVNULL)
    before = {*exports.glob("all/*")}
    for arguments in (["inspect", archive.name], ["export", archive.name], ["export", archive.name, "-f", "csv"]):
        if status := run(place, *arguments):
            return status
    made = sorted({*exports.glob("all/*")} - before)
    for directory in made:
        if status := run(place, "verify", directory.relative_to(place).as_posix()):
            return status
    files = [file for directory in made for file in directory.glob("posts.*")]
    for file in files:
        show_head(file, {".json": 8, ".csv": 2}[file.suffix])
    print("\n".join(["", *ending(archive, posts, files)]))
    return 0


def run(place: Path, *arguments: str) -> int:
    """Print a command, and run it in *place*; returns its exit status."""
    print(f"\n$ skyexport {shlex.join(arguments)}", flush=True)
    return subprocess.run([str(COMMAND), *arguments], cwd=place, check=False, stderr=subprocess.STDOUT).returncode


def show_head(file: Path, lines: int) -> None:
    """Print the beginning of a file."""
    print(f"\n$ head -n {lines} {file.name}")
    with file.open(encoding="utf-8-sig") as content:
        for _ in range(lines):
            line = content.readline().rstrip("\n")
            print(line if len(line) <= WIDTH else f"{line[:WIDTH]}…")


def ending(archive: Path, posts: int, files: list[Path]) -> list[str]:
    """The last lines of the demo: the files that were made, and next steps."""
    command = shown(COMMAND)
    return [
        f"Made, and verified: all {posts:,} posts, twice.",
        "",
        *(f"  {shown(file)}" for file in files),
        "",
        "Now your own archive. It is only read, never changed:",
        "",
        f"  {command} inspect path/to/archive.db",
        f"  {command} export path/to/archive.db --dry-run",
        f"  {command} export path/to/archive.db --media -o my-exports",
        "",
        "Or try more with the demo: posts about coffee, for a spreadsheet; posts since 2025, one per line, compressed;",
        "and posts that are new since the last export (none so far):",
        "",
        *(f"  {line}" for line in further(archive, files)),
        "",
        "To read, export and watch in the browser: install the extra ui, as in pip install '.[ui]', then start",
        "skyexport ui in a folder with archives, like build/demo (docs/ui.md).",
        "",
        "To install the command everywhere: pipx install .  (or in a virtual environment: pip install .)",
        "docs/cookbook.md has recipes for DuckDB, pandas, PostgreSQL, spreadsheets and nightly exports.",
    ]


def further(archive: Path, files: list[Path]) -> list[str]:
    """Commands to try on the demo archive."""
    export = f"{shown(COMMAND)} export {shown(archive)}"
    to = shown(archive.parent)
    return [
        f"{export} --match coffee --csv-safe --to {to}/coffee.csv",
        f"{export} --since 2025-01-01 --to {to}/2025.jsonl.zst",
        f"{export} --since-export {shown(files[0].parent)} -o {to}/exports",
    ]


def shown(path: Path) -> str:
    """A path as one types it in the current directory."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - the command of an environment is not what it links to
    here = Path.cwd()
    return shlex.quote(str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
