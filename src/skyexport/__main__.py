"""The program: signals first, so that Ctrl-C is answered cleanly even while the rest is being loaded."""

from __future__ import annotations

import contextlib
import os
import sys

from skyexport.errors import OutputError, StoppedError
from skyexport.signals import Signals

__all__ = ["main"]


def main() -> None:
    """The command `skyexport`."""
    signals = Signals()
    signals.install()
    try:
        with signals.waiting():
            from skyexport.cli import app

        app(prog_name="skyexport", obj=signals)
    except StoppedError as error:
        # It came before a command had begun.
        signals.settle()
        from skyexport.cli import report

        report(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except OSError as error:
        # What is left are texts like --help on a standard output that cannot be written. Python would try again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _say(f"cannot write standard output: {error.strerror}")
        sys.exit(OutputError.exit_code)
    finally:
        signals.ignore()


def _say(text: str) -> None:
    # Without a standard error there is nobody to be told.
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(f"skyexport: {text}\n")


if __name__ == "__main__":
    main()
