"""The program: signals first, so that Ctrl-C is answered cleanly even while the rest is being loaded."""

from __future__ import annotations

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
        from skyexport.cli import app

        app(prog_name="skyexport", obj=signals)
    except StoppedError as error:
        sys.exit(error.exit_code)
    except OSError as error:
        # What is left are texts like --help on a standard output that can not be written. Python would try again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr.write(f"skyexport: can not write standard output: {error.strerror}\n")
        sys.exit(OutputError.exit_code)
    finally:
        signals.ignore()


if __name__ == "__main__":
    main()
