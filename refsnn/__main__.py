"""The `refsnn` command, and `python -m refsnn`.

Nothing of weight is imported before Ctrl-C has a handler: imports take a second, and an interrupt
within them would print where they were.
"""

import os
import signal
import sys
from typing import Any, NoReturn


def entry() -> NoReturn:
    """Run the command line on the process's arguments and leave with its exit code."""
    leave_when_stopped()
    from refsnn import cli, process

    process.open_streams()
    try:
        arguments = cli.build_parser().parse_args()
        process.raise_when_stopped()
        code = cli.run(arguments)
    except SystemExit as end:  # of --help and of arguments that can't be parsed
        code = end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt as stop:  # a second one, while the first was told
        code = process.exit_code(stop)
    leave_when_stopped()
    sys.exit(process.flush_streams(code))


def leave_when_stopped() -> None:
    """Let Ctrl-C and SIGTERM end the process at once: nothing is begun yet, or all is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


def leave(number: int, frame: Any) -> NoReturn:
    os._exit(128 + number)


if __name__ == "__main__":
    entry()
