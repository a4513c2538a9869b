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
    leave_on_interrupt()
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
    leave_on_interrupt()
    sys.exit(process.flush_streams(code))


def leave_on_interrupt() -> None:
    """Let Ctrl-C end the process at once: before anything is begun, and after all is done."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, leave)


def leave(number: int, frame: Any) -> NoReturn:
    os._exit(128 + number)


if __name__ == "__main__":
    entry()
