"""The program: signals first, so that Ctrl-C is answered cleanly even while the rest is being loaded."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

from skyexport import signals
from skyexport.errors import OutputError, StoppedError

__all__ = ["main"]


def main() -> None:
    """The command `skyexport`.

    The first signal raises StoppedError wherever the program is, so that what it did is undone on the way out; the
    second ends the process at once.
    """
    received = 0

    def handler(number: int, _: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 1:
            os._exit(128 + number)
        raise StoppedError(number)

    for number in signals.ENDING:
        # Who starts it with nohup wants it to go on. Shells let background jobs ignore SIGINT; we do not.
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, handler)
    try:
        with signals.waiting():
            from skyexport.cli import app

        app(prog_name="skyexport")
    except StoppedError as error:
        # It came before the command had begun.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"skyexport: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        # What is left are texts like --help on a standard output that can not be written. Python would try again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr.write(f"skyexport: can not write standard output: {error.strerror}\n")
        sys.exit(OutputError.exit_code)


if __name__ == "__main__":
    main()
