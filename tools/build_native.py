"""Compile the native renderer in `native/` to a shared library, for the build hook and the tests.

    python tools/build_native.py build/native.so            # for this machine
    python tools/build_native.py --write-digest             # after a change in native/

The compiler is $CC, else `cc`, else Microsoft's `cl`. The library carries the SHA-256 of its sources; the program loads
it only when that is the one it knows (`SOURCES_SHA256` in src/skyexport/rendering/native.py).

Exit status: 0 made, 1 could not be compiled.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CompileError", "build", "digest", "library_name", "wheel_platform"]

SOURCES = Path(__file__).resolve().parents[1] / "native"
_MODULE = SOURCES.parent / "src" / "skyexport" / "rendering" / "native.py"

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wshadow")
"""Flags under which the sources compile without a warning. Users' builds do not have them: compilers learn new ones."""


class CompileError(Exception):
    """The renderer could not be compiled; says why in one line."""


def digest(sources: Path = SOURCES) -> str:
    """The SHA-256 of names and contents of the sources, whatever the ends of their lines."""
    hashed = hashlib.sha256()
    for path in sorted([*sources.glob("*.c"), *sources.glob("*.h")], key=lambda path: path.name):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        hashed.update(f"{path.name} {len(content)}\n".encode() + content)
    return hashed.hexdigest()


def library_name(system: str = sys.platform) -> str:
    """What the library is called beside the modules of the package."""
    return "native_renderer" + {"win32": ".dll", "darwin": ".dylib"}.get(system, ".so")


def wheel_platform() -> str:
    """The last part of a wheel's tag for this machine, like `linux_x86_64`."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", sysconfig.get_platform())


def build(target: Path, sources: Path = SOURCES, flags: Sequence[str] = ()) -> None:
    """Compile *sources* to the shared library *target*; its directory must be there.

    Args:
        target: The library, which is replaced at once when it is complete.
        sources: The directory of the sources.
        flags: Added to those of every build.

    Raises:
        CompileError: There is no compiler, or it fails.
    """
    target = target.resolve()
    files = [str(path) for path in sorted(sources.resolve().glob("*.c"))]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".native-") as directory:
        made = Path(directory) / target.name
        command = _command(files, made, [f"DSKYEXPORT_SOURCES={digest(sources)}"], flags)
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=directory)
        except OSError as error:
            raise CompileError(f"the compiler {command[0]} cannot be run: {error.strerror}") from None
        if done.returncode or not made.exists():
            lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line.lower()]
            raise CompileError(f"{command[0]} failed: {(lines or ['without a message'])[0].strip()}")
        made.replace(target)


def _command(files: list[str], made: Path, defines: list[str], flags: Sequence[str]) -> list[str]:
    compiler = shlex.split(os.environ.get("CC", ""))
    if not compiler:
        found = shutil.which("cc") or shutil.which("cl")
        if found is None:
            raise CompileError("there is no C compiler: neither $CC nor cc nor cl")
        compiler = [found]
    if Path(compiler[0]).stem.lower() == "cl":
        options = ["/nologo", "/std:c11", "/O2", "/LD", *(f"/{define}" for define in defines), *flags]
        return [*compiler, *options, *files, f"/Fe:{made}"]
    options = ["-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", *(f"-{define}" for define in defines)]
    if sys.platform == "win32":
        options.remove("-fPIC")
    return [*compiler, *options, *_for_macos(), *flags, *files, "-o", str(made)]


def _for_macos() -> list[str]:
    """The processors and the oldest system that the wheel's tag promises."""
    named = re.fullmatch(r"macosx-([0-9.]+)-(\w+)", sysconfig.get_platform())
    if named is None:
        return []
    processors = ["arm64", "x86_64"] if named[2] == "universal2" else [named[2]]
    oldest = [] if "MACOSX_DEPLOYMENT_TARGET" in os.environ else [f"-mmacosx-version-min={named[1]}"]
    return [*oldest, *(word for processor in processors for word in ("-arch", processor))]


def _write_digest() -> None:
    text = _MODULE.read_text(encoding="utf-8")
    _MODULE.write_text(
        re.sub(r'^SOURCES_SHA256 = "\w*"$', f'SOURCES_SHA256 = "{digest()}"', text, flags=re.MULTILINE),
        encoding="utf-8",
        newline="\n",
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Compile the native renderer.")
    parser.add_argument("target", type=Path, nargs="?", help="the library to make")
    parser.add_argument("--write-digest", action="store_true", help="have the program know the sources as they are")
    parser.add_argument("--flags", default="", help="more flags for the compiler, in one word")
    arguments = parser.parse_args()
    if arguments.write_digest:
        _write_digest()
    if arguments.target is not None:
        arguments.target.parent.mkdir(parents=True, exist_ok=True)
        try:
            build(arguments.target, flags=shlex.split(arguments.flags))
        except CompileError as error:
            print(f"{error} ({platform.platform()})", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
