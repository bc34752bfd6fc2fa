"""The program. It handles signals first, so that Ctrl-C ends it cleanly even while the rest is being loaded."""

from __future__ import annotations

import contextlib
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command `skyexport`."""
    # Until the program handles signals, Ctrl-C ends it as it ends any other: without a traceback of Python.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from skyexport.errors import OutputError, StoppedError
    from skyexport.runtime.signals import Signals

    signals = Signals()
    signals.install()
    try:
        with signals.waiting():
            from skyexport.cli.app import app

        app(prog_name="skyexport", obj=signals)
    except StoppedError as error:
        # The signal came before a command started.
        signals.settle()
        from skyexport.cli.printing import report

        report(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except OSError as error:
        # Only texts like --help come here, if standard output cannot be written.
        from skyexport.cli.printing import abandon_standard_output

        abandon_standard_output()
        _say(f"cannot write standard output: {error.strerror}")
        sys.exit(OutputError.exit_code)
    finally:
        signals.ignore()


def _say(text: str) -> None:
    # Standard error may be closed.
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(f"skyexport: {text}\n")


if __name__ == "__main__":
    main()
